"""Evidence: which words of a sentence are aligned with which regions of a photo, and how well they match.

Legend: m regions of the photo, n words of the sentence, d numbers a token.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from han_retrieval.errors import DataError, ModelError, QueryError, StoreError
from han_retrieval.files import write_whole
from han_retrieval.objects import ObjectPath, to_path
from han_retrieval.pictures import refuse_overwriting, save_picture
from han_retrieval.text.function_words import FUNCTION_WORDS

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from han_retrieval.data.url_path import UrlPath
    from han_retrieval.matchers import AligningMatcher, Matcher, PairAlignment
    from han_retrieval.regions import Regions
    from han_retrieval.search import IndexReader
    from han_retrieval.text import EncodedSentence

    Photo = Image.Image | str | Path | UrlPath

PAGES = (".html", ".htm")


@dataclass(frozen=True, slots=True)
class AlignedPhrase:
    """Neighbouring words that are aligned with the same region: ``words[start:end]``.

    Attributes:
        start, end: The words' positions in the sentence.
        region: The region that each of them is aligned with most.
        weight: The mean of their alignment weights on that region, 0 to 1.
    """

    start: int
    end: int
    region: int
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Why a photo and a sentence have their score.

    Attributes:
        sentence: The sentence as it was given.
        words: Its n words, as the model reads them.
        known: For each word, whether the model knows it; see ``Matcher.known_words``.
        score: The model's score of the pair.
        match: (n,) float32, how well each word matches the regions it is aligned with: a cosine, -1 to 1.
        alignment: (n, m) float32 alignment weights, words x regions; rows sum to 1.
        boxes: (m, 4) float32, x0 y0 x1 y1 in pixels of a photo of this width and height.
        width, height: The upright photo's size in pixels.
        photo: The photo or the path of its file, for drawing; it is opened when it is drawn.
    """

    sentence: str
    words: tuple[str, ...]
    known: tuple[bool, ...]
    score: float
    match: np.ndarray
    alignment: np.ndarray
    boxes: np.ndarray
    width: int
    height: int
    photo: Photo | None = None

    @property
    def word_regions(self) -> np.ndarray:
        """(n,) int64, for each word the region with its greatest alignment weight."""
        return np.asarray(self.alignment.argmax(1))

    @property
    def function_words(self) -> tuple[bool, ...]:
        """For each word whether it is an English function word, such as "the": it says little of the photo."""
        return tuple(word in FUNCTION_WORDS for word in self.words)

    @property
    def unknown_words(self) -> list[str]:
        """The words that the model does not know, each once and in order."""
        return list(dict.fromkeys(word for word, known in zip(self.words, self.known, strict=True) if not known))

    def phrases(self) -> list[AlignedPhrase]:
        """All words in order, grouped into phrases of neighbours that are aligned with the same region."""
        regions = self.word_regions
        starts = [i for i in range(len(regions)) if i == 0 or regions[i] != regions[i - 1]]
        return [
            AlignedPhrase(start, end, int(regions[start]), float(self.alignment[start:end, regions[start]].mean()))
            for start, end in zip(starts, [*starts[1:], len(regions)], strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """The evidence as JSON takes it, of `han explain --json`, of `han search --json` and of the HTTP API.

        ``words[i].region`` and ``phrases[i].region`` are rows of ``boxes`` and columns of ``alignment``.
        """
        boxes = np.round(self.boxes.astype(np.float64), 1).tolist()
        return {
            "sentence": self.sentence,
            "score": self.score,
            "words": [
                {
                    "word": self.words[i],
                    "known": self.known[i],
                    "function": self.function_words[i],
                    "match": float(self.match[i]),
                    "region": int(region),
                    "weight": float(self.alignment[i, region]),
                    "box": boxes[region],
                }
                for i, region in enumerate(self.word_regions)
            ],
            "phrases": [
                {
                    "words": list(self.words[phrase.start : phrase.end]),
                    "start": phrase.start,
                    "end": phrase.end,
                    "region": phrase.region,
                    "weight": phrase.weight,
                    "box": boxes[phrase.region],
                }
                for phrase in self.phrases()
            ],
            "width": self.width,
            "height": self.height,
            "boxes": boxes,
            "alignment": np.round(self.alignment.astype(np.float64), 3).tolist(),
        }

    def load_photo(self) -> Image.Image:
        """The upright photo, read from its file where ``photo`` is a path.

        Raises:
            DataError: There is no photo, or its file cannot be read.
        """
        if self.photo is None:
            raise DataError("this evidence has no photo to draw on: give one with draw(photo=...)")
        if isinstance(self.photo, str | os.PathLike | ObjectPath):
            from han_retrieval.data import open_photo

            return open_photo(self.photo)
        return self.photo

    def draw(
        self,
        path: str | Path | None = None,
        *,
        photo: Photo | None = None,
        width: int = 720,
        regions: int = 6,
        font: str | Path | None = None,
    ) -> Image.Image:
        """Draw the photo with the regions that its words are aligned with, and the words below in the regions' colours.

        Example::

            evidence.draw("evidence.png", width=1200)
            evidence.draw("evidence.html")  # a page where pointing at a word lights up its regions

        Args:
            path: Where the picture is saved, in the format of its suffix; .html saves a page in its place.
            photo: The photo or the path of its file, if the evidence has none.
            width: Width of the picture in pixels.
            regions: How many regions are drawn at most.
            font: A TrueType file, for words in other than Latin letters.

        Returns:
            The picture, also where a page is saved.

        Raises:
            DataError: There is no photo, it or the font cannot be read, or the picture cannot be written, or only over
                the photo.
            StoreError: The page cannot be written.
        """
        from han_retrieval.evidence.draw import draw_evidence

        shown = self.photo if photo is None else photo
        if path is not None and isinstance(shown, str | Path):
            refuse_overwriting(Path(path), Path(shown))
        evidence = self if photo is None else replace(self, photo=photo)
        picture = draw_evidence(evidence.load_photo(), evidence, width=width, regions=regions, font=font)
        if path is not None:
            _save(Path(path), picture, evidence)
        return picture


def evidence_from_regions(model: Matcher, regions: Regions, sentence: str, *, photo: Photo | None = None) -> Evidence:
    """The evidence for a photo, given by its regions, and a sentence.

    Args:
        model: Any matcher that aligns words with regions.
        regions: The photo's, with boxes.
        sentence: Any.
        photo: The photo or its path, for drawing.

    Raises:
        QueryError: The photo has no region.
        StoreError: The regions have no boxes or not the size of their photo.
        HANError: The model has no vocabulary or knows none of the words, the sentence has no word, or the model pools
            words and regions, so that it has no such evidence.
    """
    known = model.known_words(sentence)
    if not len(regions.features):
        raise QueryError("the detector found no region in the photo, so there is no evidence to show")
    if regions.boxes is None or not regions.width:
        raise StoreError(
            "these features have no boxes, or not the size of their photo, so there is no evidence to show: extract "
            "them from the photos"
        )
    encoded = model.encode_sentence(sentence)
    pair = model.explain(torch.tensor(regions.features, dtype=torch.float32), torch.tensor(encoded.ids))
    return _evidence(sentence, encoded, known, pair, regions.boxes, regions.width, regions.height, photo)


def evidence_from_tokens(
    model: AligningMatcher,
    tokens: Tensor,
    sentence: str,
    *,
    boxes: np.ndarray | None,
    width: int,
    height: int,
    photo: Photo | None = None,
) -> Evidence:
    """The evidence for a photo that is encoded already, as the photos of an index are, and a sentence.

    Args:
        model: The model that encoded it.
        tokens: (m, d) float32, without padding.
        sentence: Any.
        boxes: (m, 4) float32, x0 y0 x1 y1 in pixels of a photo of this width and height.
        width, height: The upright photo's size in pixels.
        photo: The photo or its path, for drawing.

    Raises:
        StoreError: There are no boxes.
        HANError: The model knows none of the words, or the sentence has no word.
    """
    known = model.known_words(sentence)
    if boxes is None:
        raise StoreError("the regions of this photo have no boxes, so there is no evidence to show")
    encoded = model.encode_sentence(sentence)
    pair = model.explain_tokens(tokens, torch.tensor(encoded.ids))
    return _evidence(sentence, encoded, known, pair, boxes, width, height, photo)


def evidence_from_index(
    index: IndexReader, model: AligningMatcher, row: int, sentences: Sequence[str]
) -> list[Evidence]:
    """The evidence for a photo of an index and each of some sentences, from the tokens that the index stores.

    Args:
        index: An open index.
        model: The model that made it.
        row: The photo's row in the index.
        sentences: Any, for example the parts of a query.

    Raises:
        StoreError: The photo's regions have no boxes.
        HANError: The model knows none of the words of a sentence, or a sentence has no word.
    """
    tokens, mask = index.tokens([row])
    (regions,) = index.regions([row])
    size = {side: index.photos[side][row].as_py() for side in ("width", "height")}
    return [
        evidence_from_tokens(
            model, tokens[0][mask[0]], sentence, boxes=regions.boxes, photo=index.files(row)[0], **size
        )
        for sentence in sentences
    ]


def _evidence(
    sentence: str,
    encoded: EncodedSentence,
    known: Mapping[str, bool],
    pair: PairAlignment,
    boxes: np.ndarray,
    width: int,
    height: int,
    photo: Photo | None,
) -> Evidence:
    if not math.isfinite(pair.score):
        raise ModelError(f"the score of {sentence!r} is {pair.score}: the photo's features or the weights are damaged")
    return Evidence(
        sentence=sentence,
        words=encoded.words,
        known=tuple(known[word] for word in encoded.words),
        score=pair.score,
        match=encoded.per_word(pair.match).numpy(),
        alignment=encoded.per_word(pair.alignment).numpy(),
        boxes=boxes,
        width=width,
        height=height,
        photo=photo,
    )


def _save(path: Path, picture: Image.Image, evidence: Evidence) -> None:
    if path.suffix.lower() in PAGES:
        from han_retrieval.evidence.page import PhotoResult, QueryResults, evidence_page

        name = to_path(evidence.photo).name if isinstance(evidence.photo, str | os.PathLike | ObjectPath) else "photo"
        results = QueryResults(evidence.sentence, [PhotoResult(name, evidence)])
        page = evidence_page(f"{name}: evidence", [results])
        write_whole(path, page.encode(errors="replace"))  # names of files and sentences may be no UTF-8
        return
    save_picture(path, picture)
