"""Which words of a sentence looked at which regions of a photo, for a score just computed.

Legend: m regions of the photo, n words of the sentence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from han_retrieval.errors import HANError
from han_retrieval.matchers import AligningMatcher, Evidence, Matcher
from han_retrieval.regions import Regions
from han_retrieval.text import tokenize


@dataclass(frozen=True, slots=True)
class Phrase:
    """Neighbouring words that gathered most from the same region.

    Attributes:
        start, end: The words, words[start:end] of the sentence.
        region: Where they looked.
        weight: The mean share of what they gathered that came from there.
    """

    start: int
    end: int
    region: int
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class PairEvidence:
    """Why a photo and a sentence got their score.

    Attributes:
        words: The sentence's words, as the model reads them.
        known: Whether the model's vocabulary has each word.
        score: The pair's score.
        match: (n,) r, how well each word's own picture of the photo fits it, from -1 to 1.
        alignment: (n, m) how much each word gathered from each region; rows sum to 1.
        boxes: (m, 4) float32, x0 y0 x1 y1 in pixels of a photo of this width and height.
        width, height: The photo's size in pixels.
    """

    words: tuple[str, ...]
    known: tuple[bool, ...]
    score: float
    match: np.ndarray
    alignment: np.ndarray
    boxes: np.ndarray
    width: int
    height: int

    @property
    def looked_at(self) -> np.ndarray:
        """(n,) the region that each word gathered most from."""
        return np.asarray(self.alignment.argmax(1))

    def phrases(self) -> list[Phrase]:
        """The words in order, neighbours of one region together."""
        regions = self.looked_at
        starts = [i for i in range(len(regions)) if i == 0 or regions[i] != regions[i - 1]]
        return [
            Phrase(start, end, int(regions[start]), float(self.alignment[start:end, regions[start]].mean()))
            for start, end in zip(starts, [*starts[1:], len(regions)], strict=True)
        ]


def explain_pair(model: Matcher, regions: Regions, sentence: str) -> PairEvidence:
    """The evidence for one photo, given by its regions, and one sentence.

    Raises:
        HANError: The model has no vocabulary or knows none of the words, the sentence has no word, the regions have
            no boxes, or the model pools them, so that it has no such evidence.
    """
    known = model.known_words(sentence)
    if regions.boxes is None or not regions.width:
        raise HANError(
            "these features have no boxes, or not the size of their photo, so there is no evidence to show: extract "
            "them from the photos"
        )
    inputs = torch.from_numpy(regions.inputs(geometry=model.config.box_geometry))
    evidence = model.explain(inputs, _ids(model, sentence))
    return _of_words(model, sentence, known, evidence, regions.boxes, regions.width, regions.height)


def explain_tokens(
    model: AligningMatcher, tokens: Tensor, boxes: np.ndarray | None, width: int, height: int, sentence: str
) -> PairEvidence:
    """The evidence for one photo that is encoded already, as those of an index are, and one sentence.

    Args:
        model: The one that made the tokens.
        tokens: (m, d) float32.
        boxes: (m, 4) float32, x0 y0 x1 y1 in pixels.
        width, height: The photo's size in pixels.
        sentence: Any.

    Raises:
        HANError: The model knows none of the words, the sentence has no word, or there are no boxes.
    """
    known = model.known_words(sentence)
    if boxes is None:
        raise HANError("the regions of this photo have no boxes, so there is no evidence to show")
    evidence = model.explain_tokens(tokens, _ids(model, sentence))
    return _of_words(model, sentence, known, evidence, boxes, width, height)


def _ids(model: Matcher, sentence: str) -> Tensor:
    ids, mask = model.words([sentence])
    return ids[0][mask[0]].cpu()


def _of_words(
    model: Matcher,
    sentence: str,
    known: dict[str, bool],
    evidence: Evidence,
    boxes: np.ndarray,
    width: int,
    height: int,
) -> PairEvidence:
    """What there is to tell of the sentence's own words, without <start> and <end>."""
    words = tuple(tokenize(sentence))
    inner = slice(1, -1) if model.config.boundary_words else slice(None)
    return PairEvidence(
        words=words,
        known=tuple(known[word] for word in words),
        score=evidence.score,
        match=evidence.match[inner].numpy(),
        alignment=evidence.alignment[inner].numpy(),
        boxes=boxes,
        width=width,
        height=height,
    )
