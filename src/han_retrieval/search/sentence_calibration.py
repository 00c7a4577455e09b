"""How well photos fit a sentence, by their scores and by what the model knows of the sentence."""

from __future__ import annotations

from collections.abc import Sequence

from han_retrieval.search.calibration import Calibration, Match
from han_retrieval.search.unknown import MOST_UNKNOWN, MUCH_UNKNOWN, KnowsWords, share_unknown_to


class SentenceCalibration:
    """A calibration for one sentence: the probabilities and matches of scores, as far as the model knows its words.

    Where the model does not know more than a third of the sentence, the score rests on a guess: there is no
    probability, and every match is weak. Where it does not know most of it, nothing matches.

    Args:
        calibration: The model's.
        model: The model.
        sentence: Any of which it knows a word.
        among: The number of photos searched; that of the calibration by default.

    Raises:
        HANError: The model knows none of the words.
    """

    def __init__(self, calibration: Calibration, model: KnowsWords, sentence: str, *, among: int | None = None) -> None:
        self._calibration, self._among = calibration, among
        share = share_unknown_to(model, sentence)
        self._mostly_unknown, self._unsure = share > MOST_UNKNOWN, share > MUCH_UNKNOWN

    def __call__(self, score: float) -> tuple[float | None, Match]:
        """The probability that a photo of this score is the one meant, None if unknown, and how well it fits."""
        if self._unsure:
            return None, "weak"
        probability = float(self._calibration.probability(score, among=self._among))
        return probability, self._calibration.match(score, among=self._among)

    def nothing_matches(self, scores: Sequence[float]) -> bool:
        """Whether no photo of these scores is likely to be meant."""
        return self._mostly_unknown or not self._calibration.passes(scores, among=self._among).any()
