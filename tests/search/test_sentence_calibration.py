"""Probabilities and matches of one sentence: as the calibration has them, weak, or none, by what is known of it."""

from __future__ import annotations

import pytest

from han_retrieval.search.calibration import Calibration
from han_retrieval.search.sentence_calibration import SentenceCalibration
from han_retrieval.text import Vocabulary, tokenize

CALIBRATION = Calibration(
    slope=8.0, intercept=-2.0, threshold=0.2, precision=1, recall=1, answered_without=0, error=0, reliability=(),
    split=None, photos=9, sentences=1, shown=1, pairs=1, model="0",
)  # fmt: skip
WORDS = "dog cat ball beach snow hat bench swing bike tree"


class Model:
    """Knows ten words that are equally frequent."""

    vocabulary = Vocabulary.from_sentences([WORDS])

    def known_words(self, sentence: str) -> dict[str, bool]:
        return {word: word in self.vocabulary for word in tokenize(sentence)}


@pytest.mark.parametrize(
    ("sentence", "is_sure", "fits"),
    [
        ("dog cat ball beach", True, True),
        ("dog cat ball beach snow zebra", True, True),  # one of many
        ("dog the of", True, True),  # these two name nothing
        ("dog cat ball bench zebra quagga", False, True),  # two of six
        ("dog zebra quagga", False, False),
        ("the of", False, False),
    ],
)
def test_what_is_not_known_takes_away_the_probability_then_all_matches(sentence, is_sure, fits):
    of_sentence = SentenceCalibration(CALIBRATION, Model(), sentence)
    probability, match = of_sentence(0.9)
    if is_sure and fits:
        assert probability == pytest.approx(CALIBRATION.probability(0.9))
        assert match == CALIBRATION.match(0.9) == "strong"
    else:
        assert (probability, match) == (None, "weak")
    assert of_sentence.nothing_matches([0.9]) is not fits
    assert of_sentence.nothing_matches([-1.0])
