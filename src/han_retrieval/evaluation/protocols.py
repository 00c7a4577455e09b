"""From a model, captioned photos and their regions to every figure: encode, score all pairs, rank.

Legend: I images, T captions, m regions an image, n words a caption, D numbers a region, d the joint size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from han_retrieval.clock import Clock
from han_retrieval.data import CaptionedPhoto, CaptionedPhotos
from han_retrieval.errors import HANError
from han_retrieval.evaluation.metrics import Metrics, PerQuery, fold_results, recall_sum, refuse_not_finite, summarise
from han_retrieval.evaluation.relevance import Relevance
from han_retrieval.evaluation.significance import intervals
from han_retrieval.text import tokenize

if TYPE_CHECKING:
    from han_retrieval.regions import RegionStore

BATCH = 512
MISSING_SHARE = 0.01  # of the photos may lack regions without being asked for; a smaller gallery flatters the recalls


class Matcher(Protocol):
    """What a model must have to be evaluated; ``HAN`` and its peers have it."""

    @property
    def config(self) -> Any:
        """With ``region_size`` and ``detector_fingerprint`` (None where it is not known)."""
        ...

    training: bool

    def train(self, mode: bool = True) -> Any:
        """As torch.nn.Module's."""
        ...

    def words(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """T sentences -> ids (T, n) int64 and mask (T, n) bool."""
        ...

    def encode_images(self, regions: Tensor, region_mask: Tensor) -> Tensor:
        """(I, m, D), (I, m) -> (I, m, d), or (I, 1, d) of a matcher that pools."""
        ...

    def encode_texts(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """(T, n), (T, n) -> (T, n, d), or (T, 1, d)."""
        ...

    def score(
        self,
        image_tokens: Tensor,
        region_mask: Tensor,
        text_tokens: Tensor,
        word_mask: Tensor,
        *,
        precision: str = "float32",
    ) -> Tensor:
        """Tokens and masks of I images and T texts -> (I, T), the large products in ``precision``."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found out about a model on a set of captioned photos.

    Attributes:
        dataset: The file or folder that the photos come from.
        split: Their split, or None.
        folds: 1 (each query ranks all), or the number of consecutive folds that each query ranks within.
        scores: (I, T) float32.
        relevance: The images and captions of ``scores``.
        per_query: What each query got.
        metrics: The figures of both directions.
        intervals: Their 95 % bootstrap intervals, and rSum's.
        counts: Images, captions, pairs, and what was left out.
        seconds: What each step took.
        notes: What the reader of the figures should know.
    """

    dataset: str
    split: str | None
    folds: int
    scores: np.ndarray
    relevance: Relevance
    per_query: PerQuery
    metrics: Metrics
    intervals: dict[str, tuple[float, float]]
    counts: dict[str, int]
    seconds: dict[str, float]
    notes: tuple[str, ...]

    @property
    def rsum(self) -> float:
        """The sum of the six recalls."""
        return recall_sum(self.metrics)

    @property
    def protocol(self) -> str:
        """How many images a query ranks, in words."""
        images = len(self.relevance.image_ids)
        return f"all {images} images" if self.folds == 1 else f"mean over {self.folds} folds of {images // self.folds}"


def evaluate(
    model: Matcher,
    dataset: CaptionedPhotos,
    store: RegionStore,
    *,
    folds: int = 1,
    allow_missing: bool = False,
    batch: int = BATCH,
    precision: str = "float32",
    progress: bool = True,
) -> Evaluation:
    """Score every caption against every photo and rank, both ways.

    The published protocols by their arguments: Flickr30K 1K test and COCO 5K are ``folds=1`` on those splits, COCO 1K
    is ``folds=5`` on the COCO 5K split (consecutive folds in the dataset's order). Image tokens are held for all
    photos (I m d floats), caption tokens only 2 ``batch`` at a time, the scores for all pairs.

    Args:
        model: The matcher.
        dataset: The photos of one split.
        store: Their regions. Photos that it lacks are left out and counted; captions without a word too.
        folds: How many consecutive folds to rank within.
        allow_missing: Go on though more than 1 % of the photos lack regions.
        batch: Photos that are encoded and scored together, and half the captions.
        precision: Of the large products, "float32" or "bfloat16" where the processor has it.
        progress: Show progress bars on standard error.

    Raises:
        HANError: The store is of another detector than the model was trained with; too many photos lack regions; the
            photos do not divide into that many folds; a score is not finite.
    """
    clock = Clock()
    notes = check_regions(model, store)
    photos = with_regions(dataset, store, allow_missing=allow_missing)
    sentences, relevance = _captions(photos)
    relevance.folds(folds)  # refused now, not after the scoring

    with clock("encode_images"), evaluating(model):
        images = list(_encode_images(model, store, relevance.image_ids, batch=batch, progress=progress))
    with clock("score"), evaluating(model):
        scores = _score_all(model, images, sentences, relevance, batch=batch, precision=precision, progress=progress)
    del images
    with clock("rank"):
        per_query = fold_results(scores, relevance, folds=folds)
        found = intervals(per_query)
    missing, empty = len(dataset) - len(photos), sum(len(photo.captions) for photo in photos) - len(sentences)
    if missing:
        notes.append(f"{missing} of {len(dataset)} photos are not in the features and were left out")
    if empty:
        notes.append(f"{empty} captions without a word were left out")
    return Evaluation(
        dataset=str(dataset.source),
        split="+".join(dataset.splits) or None,
        folds=folds,
        scores=scores,
        relevance=relevance,
        per_query=per_query,
        metrics=summarise(per_query),
        intervals=found,
        counts={
            "images": len(photos),
            "captions": len(sentences),
            "pairs": scores.size,
            "photos_without_regions": missing,
            "captions_without_words": empty,
            "images_without_captions": len(photos) - len(per_query["image_to_text"].ids),
        },
        seconds=clock.seconds,
        notes=tuple(notes),
    )


def check_regions(model: Matcher, store: RegionStore) -> list[str]:
    """See that the features are of the detector that the model was trained with; what cannot be known is noted.

    Raises:
        HANError: They are of another detector, or of another size than the model takes.
    """
    known = model.config.detector_fingerprint
    if known is not None and known != store.fingerprint:
        raise HANError(
            f"the features are of detector {store.fingerprint!r}, the model was trained with {known!r}: "
            "extract the photos' features with that detector"
        )
    if store.feature_size != model.config.region_size:
        raise HANError(
            f"the features have {store.feature_size} numbers a region, the model takes {model.config.region_size}: "
            "extract the photos' features with the detector that it was trained with"
        )
    return [] if known else ["the model does not say which detector it was trained with; the features were not checked"]


def with_regions(dataset: CaptionedPhotos, store: RegionStore, *, allow_missing: bool) -> tuple[CaptionedPhoto, ...]:
    """The photos that the store has regions of, in the dataset's order.

    Raises:
        HANError: None has, or more than 1 % have not and ``allow_missing`` is false.
    """
    photos = tuple(photo for photo in dataset.photos if photo.id in store)
    missing = len(dataset) - len(photos)
    if not photos or (missing > MISSING_SHARE * len(dataset) and not allow_missing):
        first = next(photo.id for photo in dataset.photos if photo.id not in store)
        or_else = ", or leave them out with --allow-missing" if photos else ""
        raise HANError(
            f"{missing} of {len(dataset)} photos of {dataset.source} have no regions in the features (first: "
            f"{first!r}): extract them first{or_else}"
        )
    return photos


def _captions(photos: Sequence[CaptionedPhoto]) -> tuple[list[str], Relevance]:
    """The captions that have a word, and which photo each belongs to."""
    sentences, places = [], []
    for row, photo in enumerate(photos):
        for place, sentence in enumerate(photo.captions):
            if tokenize(sentence):
                sentences.append(sentence)
                places.append((row, place))
    return sentences, Relevance.of([photo.id for photo in photos], places)


@contextmanager
def evaluating(model: Matcher) -> Iterator[None]:
    """Without gradients and in evaluation mode; the mode it was in comes back."""
    training = model.training
    model.train(False)
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def _encode_images(
    model: Matcher, store: RegionStore, ids: Sequence[str], *, batch: int, progress: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """The photos' tokens (b, m, d) and masks (b, m), a batch at a time; m is the batch's own largest."""
    with tqdm(total=len(ids), desc="encoding photos", unit="photo", disable=not progress) as bar:
        for start in range(0, len(ids), batch):
            regions = store.batch(ids[start : start + batch])
            empty = (~regions.mask.any(1)).nonzero()
            if len(empty):
                raise HANError(f"photo {ids[start + int(empty[0])]!r} has no region in the features: extract it anew")
            yield model.encode_images(regions.features, regions.mask), regions.mask
            bar.update(len(regions.mask))


def _score_all(
    model: Matcher,
    images: list[tuple[Tensor, Tensor]],
    sentences: list[str],
    relevance: Relevance,
    *,
    batch: int,
    precision: str,
    progress: bool,
) -> np.ndarray:
    """All pairs -> (I, T) float32; captions of like length are encoded together, so that little is padding."""
    scores = np.empty((len(relevance.image_ids), len(sentences)), dtype=np.float32)
    order = np.argsort([len(tokenize(sentence)) for sentence in sentences], kind="stable")
    with tqdm(total=scores.size, desc="scoring pairs", unit="pair", unit_scale=True, disable=not progress) as bar:
        for start in range(0, len(order), 2 * batch):  # a photo's tokens are projected anew for each of these
            columns = order[start : start + 2 * batch]
            words, word_mask = model.words([sentences[column] for column in columns])
            text_tokens = model.encode_texts(words, word_mask)  # (t, n, d)
            row = 0
            for image_tokens, region_mask in images:
                found = model.score(image_tokens, region_mask, text_tokens, word_mask, precision=precision)  # (i, t)
                block = found.float().cpu().numpy()
                rows = slice(row, row + len(block))
                caption_ids = tuple(relevance.caption_ids[column] for column in columns)
                refuse_not_finite(block, relevance.image_ids[rows], caption_ids)
                scores[rows, columns] = block
                row = rows.stop
                bar.update(block.size)
    return scores
