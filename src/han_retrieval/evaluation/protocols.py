"""The field's protocols: encode photos and captions, score all pairs, rank, and measure recalls.

Legend: I images, T captions, m regions an image, d the joint size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from han_retrieval.clock import Clock
from han_retrieval.data import CaptionedPhoto, CaptionedPhotos
from han_retrieval.errors import DataError, ModelError
from han_retrieval.evaluation import significance
from han_retrieval.evaluation.metrics import (
    CUTOFFS,
    DIRECTIONS,
    RECALLS,
    Metrics,
    PerQuery,
    expected_recalls,
    fold_results,
    recall_sum,
    summarise,
)
from han_retrieval.evaluation.relevance import Relevance
from han_retrieval.evaluation.scores import BATCH, can_read, encode_photos, score_all
from han_retrieval.text import tokenize
from han_retrieval.text.tokenizer import check_length
from han_retrieval.text.words import owners_of

if TYPE_CHECKING:
    from han_retrieval.matchers import Matcher
    from han_retrieval.regions import RegionStore

SHARED_SHARE = 0.01  # of the captions may stand under several photos without a word of it
MISSING_SHARE = 0.01  # of the photos may lack regions without being asked for; a smaller gallery flatters the recalls


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a model on captioned photos.

    Attributes:
        dataset: The file or folder that the photos come from.
        split: Their split, or None.
        folds: The number of consecutive folds that each query ranks within; 1 where each query ranks all.
        scores: (I, T) float32.
        relevance: The images and captions of ``scores``.
        per_query: The rank and the precisions of each query.
        metrics: The metrics of both directions.
        counts: The number of images, captions, different captions and pairs, and of those left out.
        seconds: The time of each step.
        notes: What the reader of the figures should know.
        ceiling: The recalls of text to image in percent, by name, that can be expected at most where captions stand
            under several photos and count for one of them; None where queries rank within folds.
    """

    dataset: str
    split: str | None
    folds: int
    scores: np.ndarray
    relevance: Relevance
    per_query: PerQuery
    metrics: Metrics
    counts: dict[str, int]
    seconds: dict[str, float]
    notes: tuple[str, ...]
    ceiling: dict[str, float] | None = None

    @property
    def rsum(self) -> float:
        """The sum of the six recalls."""
        return recall_sum(self.metrics)

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % bootstrap intervals of the metrics and of rSum."""
        return significance.intervals(self.per_query)

    @property
    def protocol(self) -> str:
        """The protocol in words: how many images a query ranks, and whether a caption counts for all that have it.

        That it counts for its own image alone, as in published figures, is not said.
        """
        images = len(self.relevance.image_ids)
        ranked = (
            f"all {images} images" if self.folds == 1 else f"mean over {self.folds} folds of {images // self.folds}"
        )
        return ranked if self.relevance.equal_captions == "negative" else f"{ranked}, equal captions relevant"


def evaluate(
    model: Matcher,
    dataset: CaptionedPhotos,
    store: RegionStore,
    *,
    folds: int = 1,
    allow_missing: bool = False,
    equal_captions: str = "negative",
    batch: int = BATCH,
    precision: str = "float32",
    progress: bool = True,
) -> Evaluation:
    """Score all pairs of photos and captions, and rank in both directions.

    The published protocols: Flickr30K 1K and COCO 5K rank all test images (``folds=1``); COCO 1K is the mean over five
    folds of the COCO 5K test images in the dataset's order (``folds=5``). The tokens of all photos are in memory
    (I m d floats) and the scores of all pairs, but only the captions of 2 ``batch`` at a time.

    Args:
        model: The matcher.
        dataset: The photos of one split.
        store: Their regions. Photos that it lacks and captions without a word are left out and counted.
        folds: The number of consecutive folds to rank within.
        allow_missing: Accept that more than 1 % of the photos lack regions.
        equal_captions: What a caption that several photos have, word by word, is to the others: "negative", as the
            published protocols have it, or "relevant" as to its own.
        batch: The number of photos that are encoded and scored together, and half the number of captions.
        precision: Of the large products, "float32", or "bfloat16" where the processor is faster in it.
        progress: Show progress bars on stderr.

    Raises:
        ModelError: The store is of another detector than the model was trained with, or a score is not finite.
        DataError: Too many photos lack regions, a caption has too many words, or the photos do not divide into that
            many folds.
        StoreError: A photo has no region in the store.

    Example:
        >>> found = evaluate(model, read_dataset("flickr30k").split("test"), RegionStore.open("features"))
        >>> found.metrics["text_to_image"]["R@1"], found.rsum
    """
    clock = Clock()
    notes = check_regions(model, store)
    photos = with_regions(dataset, store, allow_missing=allow_missing)
    sentences, relevance = _captions(model, photos, are_equal_relevant=equal_captions == "relevant")
    relevance.folds(folds)  # refused before the scoring, not after it

    with clock("encode_images"):
        images = encode_photos(model, store, relevance.image_ids, batch=batch, progress=progress)
    with clock("score"):
        scores = score_all(
            model,
            images,
            sentences,
            photo_ids=relevance.image_ids,
            sentence_ids=relevance.caption_ids,
            batch=batch,
            precision=precision,
            progress=progress,
        )
    del images
    with clock("rank"):
        per_query = fold_results(scores, relevance, folds=folds)
    missing, empty = len(dataset) - len(photos), sum(len(photo.captions) for photo in photos) - len(sentences)
    if missing:
        notes.append(f"{missing} of {len(dataset)} photos are not in the features and were left out")
    if empty:
        notes.append(f"{empty} captions without a word were left out")
    ceiling = None
    if folds == 1:
        having = np.array([len(each) for each in owners_of(sentences, relevance.caption_image.tolist())])
        ceiling = _ceiling(having if relevance.equal_captions == "negative" else np.ones_like(having))
        notes += _notes_on_equal_captions(having, ceiling, scores, relevance)
    return Evaluation(
        dataset=str(dataset.source),
        split="+".join(dataset.splits) or None,
        folds=folds,
        scores=scores,
        relevance=relevance,
        per_query=per_query,
        metrics=summarise(per_query),
        counts={
            "images": len(photos),
            "captions": len(sentences),
            "different_captions": len(set(sentences)),
            "pairs": scores.size,
            "photos_without_regions": missing,
            "captions_without_words": empty,
            "images_without_captions": len(photos) - len(per_query["image_to_text"].ids),
        },
        seconds=clock.seconds,
        notes=tuple(notes),
        ceiling=ceiling,
    )


def check_regions(model: Matcher, store: RegionStore) -> list[str]:
    """Check that features come from the detector that a model was trained with.

    Returns:
        A note, if the model does not say which detector that is.

    Raises:
        ModelError: They come from another detector, or have another size than the model takes.
    """
    known = model.config.detector_fingerprint
    if known is not None and known != store.fingerprint:
        raise ModelError(
            f"the features are of detector {store.fingerprint!r}, the model was trained with {known!r}: "
            f"extract the photos' features with that detector{_own_backbone(known)}"
        )
    if store.feature_size != model.config.region_size:
        raise ModelError(
            f"the features have {store.feature_size} numbers a region, the model takes {model.config.region_size}: "
            "extract the photos' features with the detector that it was trained with"
        )
    return [] if known else ["the model does not say which detector it was trained with; the features were not checked"]


def _own_backbone(fingerprint: str) -> str:
    """How features are made with a backbone that was trained with the model, if that may be the case."""
    may_be = "+efficientnet-lite2-" in fingerprint
    return ": han extract DATASET --model MODEL --out FEATURES" if may_be else ""


def with_regions(dataset: CaptionedPhotos, store: RegionStore, *, allow_missing: bool) -> tuple[CaptionedPhoto, ...]:
    """The photos that the store has regions for, in the dataset's order.

    Raises:
        DataError: There is none, or more than 1 % are missing and ``allow_missing`` is false.
    """
    photos = tuple(photo for photo in dataset.photos if photo.id in store)
    missing = len(dataset) - len(photos)
    if not photos or (missing > MISSING_SHARE * len(dataset) and not allow_missing):
        first = next(photo.id for photo in dataset.photos if photo.id not in store)
        or_else = ", or leave them out with --allow-missing" if photos else ""
        raise DataError(
            f"{missing} of {len(dataset)} photos of {dataset.source} have no regions in the features (first: "
            f"{first!r}): extract them first{or_else}"
        )
    return photos


def _ceiling(having: np.ndarray) -> dict[str, float]:
    """The recalls expected at most where (T,) photos tie for each caption, one of which counts."""
    return {
        name: float(100 * np.minimum(1, cutoff / having).mean()) for name, cutoff in zip(RECALLS, CUTOFFS, strict=True)
    }


def _notes_on_equal_captions(
    having: np.ndarray, ceiling: dict[str, float], scores: np.ndarray, relevance: Relevance
) -> list[str]:
    """What captions that stand under several photos, (T,) each, do to the figures; nothing where they are few."""
    shared = int((having > 1).sum())
    if shared <= SHARED_SHARE * len(having):
        return []
    some = f"{shared:,} of {len(having):,} captions stand under several photos"
    if relevance.equal_captions == "relevant":
        return [f"{some}; each counts for all of these, unlike in published figures"]
    most = "/".join(f"{each:.1f}" for each in ceiling.values())
    chance = expected_recalls(scores, relevance)
    return [
        f"{some}, of which only one counts: text to image R@1/5/10 can be expected to reach {most} at most",
        f"such captions tie, and ties count against the model; broken at random, they would make rSum "
        f"{recall_sum(chance):.1f} ({_in_short(chance)})",
    ]


def _in_short(metrics: Metrics) -> str:
    recalls = ("/".join(f"{metrics[way][name]:.1f}" for name in RECALLS) for way in DIRECTIONS)
    return "image to text {}, text to image {}".format(*recalls)


def check_lengths(photos: Iterable[CaptionedPhoto]) -> None:
    """Check that no caption has more than ``MOST_WORDS`` words.

    Raises:
        DataError: One has; the message names the first.
    """
    for photo in photos:
        for place, sentence in enumerate(photo.captions):
            check_length(tokenize(sentence), where=f"photo {photo.id!r}, caption {place}")


def _captions(
    model: Matcher, photos: Sequence[CaptionedPhoto], *, are_equal_relevant: bool
) -> tuple[list[str], Relevance]:
    """The captions in which the model finds a word, and the photo of each.

    Raises:
        DataError: A caption has more than ``MOST_WORDS`` words.
    """
    check_lengths(photos)
    sentences, places = [], []
    for row, photo in enumerate(photos):
        for place, sentence in enumerate(photo.captions):
            if can_read(model, sentence):
                sentences.append(sentence)
                places.append((row, place))
    having = owners_of(sentences, [row for row, _ in places]) if are_equal_relevant else None
    return sentences, Relevance.of([photo.id for photo in photos], places, having=having)
