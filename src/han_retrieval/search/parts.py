"""The parts of a query as a model sees them: sentences and photos, on one scale of scores.

A sentence's score is the model's. A photo's is 2 s - 1, where s is its similarity, ``AligningMatcher.compare_images``:
both are at most 1, and a weight of 1 means about the same for either. docs/search/searching.md has the measurement.

Legend: K photos, m regions, n words, d numbers a token, e numbers a pooled vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from han_retrieval.errors import QueryError
from han_retrieval.matchers import AligningMatcher
from han_retrieval.process import threads_sleep
from han_retrieval.processor import one_thread
from han_retrieval.regions import Regions
from han_retrieval.regions.rows import batch_of
from han_retrieval.search.encode import encode_regions
from han_retrieval.search.prepared import StoredPhotos
from han_retrieval.search.query import Part
from han_retrieval.search.reader import IndexReader

_SMALL = ("gru", "bigru", "minilm")  # text encoders


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPart:
    """A part of a query.

    Attributes:
        weight: Of its score.
        tokens: (n, d) of a sentence, (m, d) of a photo, without padding.
        vector: (1, e), which chooses candidates.
        is_photo: Whether it is a photo.
        row: That photo's row, where the index has it.
    """

    weight: float
    tokens: Tensor
    vector: Tensor
    is_photo: bool = False
    row: int | None = None


def encode_part(index: IndexReader, model: AligningMatcher, part: Part) -> EncodedPart:
    """Encode a sentence, or a photo that is given by its row or its regions.

    Raises:
        QueryError: The model knows no word of the sentence, or the photo has no region.
        TypeError: The photo is given in another way; ``Index.search`` finds the regions.
    """
    if part.photo is None:
        return EncodedPart(part.weight, *_encode_sentence(index, model, part.text))
    if not isinstance(part.photo, int | Regions):
        raise TypeError(f"a photo is given by its row or its regions here, not by a {type(part.photo).__name__}")
    tokens, vector = encode_photo(index, model, part.photo)
    row = part.photo if isinstance(part.photo, int) else None
    return EncodedPart(part.weight, tokens, vector, is_photo=True, row=row)


def encode_photo(index: IndexReader, model: AligningMatcher, photo: int | Regions) -> tuple[Tensor, Tensor]:
    """The tokens (m, d) and the pooled vector (1, e), of unit length, of a photo: a row of the index, or regions.

    Raises:
        QueryError: It has no region.
        DataError: The index chooses candidates by vectors that the regions do not have.
    """
    if isinstance(photo, Regions):
        if not len(photo.features):
            raise QueryError("the detector found no region in the photo, so no photo can be similar to it")
        tokens, mask = encode_regions(model, [photo])
        return tokens[0], index.pooling.photos(batch_of([photo]), tokens, mask)
    tokens, mask = index.tokens([photo])
    return tokens[0][mask[0]], torch.from_numpy(index.pooled_of(photo))


@torch.no_grad()
def score_parts(model: AligningMatcher, parts: Sequence[EncodedPart], photos: StoredPhotos) -> list[Tensor]:
    """The scores (K,) of each part, without its weight, with K photos of an index."""
    scores = []
    for part in parts:
        if part.is_photo:
            tokens, mask = photos.tokens()
            scores.append(photo_score(model.compare_images(part.tokens, tokens.to(model.device).load(), mask)))
        else:
            scores.append(photos.collection(model).scores(part.tokens))
    return scores


@torch.no_grad()
def score_photo(index: IndexReader, model: AligningMatcher, photo: int, row: int) -> float:
    """The score of one photo of an index for another, ``photo``, as a part of a query."""
    (query, there), (tokens, mask) = index.tokens([photo]), index.tokens([row])
    return float(photo_score(model.compare_images(query[0][there[0]], tokens.to(model.device), mask)))


def photo_score(similarity: Tensor) -> Tensor:
    """The score of a photo as a part of a query, from its similarity."""
    return 2 * similarity - 1


@torch.no_grad()
def _encode_sentence(index: IndexReader, model: AligningMatcher, sentence: str) -> tuple[Tensor, Tensor]:
    """The tokens (n, d) and the pooled vector (1, e) of a sentence.

    Raises:
        QueryError: The model knows no word of it.
    """
    model.known_words(sentence)
    words, mask = model.words([sentence])
    with _threads_for_sentence(model):
        tokens = model.encode_texts(words, mask)  # one sentence has no padding
        return tokens[0], index.pooling.sentences(model, words, mask, tokens)


def _threads_for_sentence(model: AligningMatcher) -> AbstractContextManager[None]:
    """One thread where it takes less time than several: MiniLM takes 20 ms, and 24 to 30 on two that sleep."""
    small = model.device.type == "cpu" and model.config.text_encoder in _SMALL
    return one_thread() if small and threads_sleep() else nullcontext()
