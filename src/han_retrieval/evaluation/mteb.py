"""A model on MTEB's and MIEB's image-text retrieval tasks: ``pip install 'han-retrieval[mteb]'``.

    >>> import mteb
    >>> import han_retrieval as han
    >>> from han_retrieval.evaluation.mteb import SearchModel
    >>> tasks = mteb.get_tasks(tasks=["Flickr30kT2IRetrieval", "Flickr30kI2TRetrieval"])
    >>> mteb.evaluate(SearchModel(han.load("my-model")), tasks)

Legend: Q queries, I photos, T sentences, b photos at a time, k documents a query.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from han_retrieval.errors import ConfigError, DataError
from han_retrieval.evaluation.scores import can_read, evaluating, score_all
from han_retrieval.matchers import hub
from han_retrieval.progress import progress_bar
from han_retrieval.text.tokenizer import MOST_WORDS
from han_retrieval.weights import tensor_bytes

if TYPE_CHECKING:
    from han_retrieval.matchers import Matcher
    from han_retrieval.regions import Detector, Regions

_PHOTOS_AT_ONCE = 512
_DECODED_AT_ONCE = 8


class ModelAndDetector(Protocol):
    """A model with its detector and its name; ``han_retrieval.load`` gives one."""

    model: Matcher
    detector: Detector
    name: str


class SearchModel:
    """A retriever as mteb's ``SearchProtocol``: exact scores of all pairs, sentences to photos and photos to sentences.

    Photos are decoded, detected and scored ``photos_at_once`` at a time, whether they are the corpus or the queries; of
    the others nothing is in memory but the best documents of each query. Sentences are encoded anew for each of these
    parts. A document without a word, with too many, or without a region gets no score.

    Args:
        retriever: The model with its detector.
        photos_at_once: Photos whose tokens are in memory.

    Attributes:
        mteb_model_meta: mteb's ``ModelMeta``: a name, and a revision that changes with the model's weights, by which
            mteb keeps results.
    """

    def __init__(self, retriever: ModelAndDetector, *, photos_at_once: int = _PHOTOS_AT_ONCE) -> None:
        self.retriever = retriever
        self.photos_at_once = photos_at_once
        self._corpus: Any = None

    @cached_property
    def mteb_model_meta(self) -> Any:
        """See the class."""
        from mteb.models.model_meta import ModelMeta, ScoringFunction

        model, name = self.retriever.model, self.retriever.name or "model"
        content = model.config.model_dump_json().encode() + tensor_bytes(model.state_dict())
        return ModelMeta.create_empty(
            {
                "name": name if hub.is_hub_name(name) else f"han-retrieval/{Path(name).name}",
                "revision": hashlib.blake2b(content, digest_size=16).hexdigest(),
                "embed_dim": model.config.joint_size,
                "framework": ["PyTorch"],
                "similarity_fn_name": ScoringFunction.CUSTOM,
                "modalities": ["text", "image"],
            }
        )

    def index(self, corpus: Any, *, task_metadata: Any, **options: Any) -> None:
        """Take the corpus, a ``datasets.Dataset`` with columns "id" and "text" or "image".

        Raises:
            ConfigError: The task searches neither photos with sentences nor sentences with photos.
        """
        if task_metadata.category not in ("t2i", "i2t"):
            raise ConfigError(
                f"{task_metadata.name}: its category is {task_metadata.category!r}; a matcher scores photos against "
                "sentences, so it takes tasks of 't2i' and 'i2t'"
            )
        self._corpus = corpus

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        top_k: int,
        encode_kwargs: Mapping[str, Any],
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **options: Any,
    ) -> dict[str, dict[str, float]]:
        """The scores of each query's ``top_k`` best documents by their ids; of ``top_ranked`` alone where it is given.

        Raises:
            DataError: A query has no word, too many words, or no region.
            ModelError: A score is not finite, or the model has no vocabulary.
        """
        corpus, self._corpus = self._corpus, None
        query_ids, corpus_ids = list(queries["id"]), list(corpus["id"])
        photos, texts = (corpus, queries) if task_metadata.category == "t2i" else (queries, corpus)
        sentences = list(texts["text"])
        rows = [row for row, sentence in enumerate(sentences) if can_read(self.retriever.model, sentence)]
        if texts is queries and len(rows) < len(sentences):
            row = next(row for row, kept in enumerate([*rows, -1]) if row != kept)
            raise DataError(f"query {query_ids[row]!r} has no word, or more than {MOST_WORDS}: {sentences[row][:80]!r}")
        sentences = [sentences[row] for row in rows]

        best = _Best(len(query_ids), min(top_k, len(corpus_ids)))
        if top_ranked is not None:
            place = {name: row for row, name in enumerate(corpus_ids)}
            best.only = [torch.tensor([place[name] for name in top_ranked.get(query, ())]) for query in query_ids]
        show = bool(encode_kwargs.get("show_progress_bar", True))
        for places, tokens in self._encoded(photos, show=show):
            names = [str(photos["id"][place]) for place in places]
            scores = torch.from_numpy(score_all(self.retriever.model, [tokens], sentences, photo_ids=names))  # (b, T)
            if texts is queries:
                best.merge(rows, scores.T, places)
            else:
                best.merge(places, scores, rows)
        if photos is queries and best.count < len(query_ids):
            raise DataError(f"{len(query_ids) - best.count} of the photos that are queries have no region")
        return dict(zip(query_ids, best.documents(corpus_ids), strict=True))

    def _encoded(self, photos: Any, *, show: bool) -> Iterator[tuple[list[int], tuple[Tensor, Tensor]]]:
        """The places of some photos that have regions, and what ``encode_images`` makes of them, with its mask."""
        from han_retrieval.data import upright_rgb
        from han_retrieval.regions.rows import batch_of

        places: list[int] = []
        found: list[Regions] = []
        done = 0
        with progress_bar(total=len(photos), desc="scoring photos", unit="photo", show=show) as bar:
            for some in photos.iter(batch_size=_DECODED_AT_ONCE):
                images = [upright_rgb(image) for image in some["image"]]
                for regions in self.retriever.detector.detect(images):
                    if len(regions.features):
                        places.append(done)
                        found.append(regions)
                    done += 1
                if found and (len(found) >= self.photos_at_once or done == len(photos)):
                    with evaluating(self.retriever.model):
                        inputs, mask = self.retriever.model.image_inputs(batch_of(found))
                        tokens = self.retriever.model.encode_images(inputs, mask)
                    yield places, (tokens, mask)
                    places, found = [], []
                bar.update(len(images))


class _Best:
    """The k best documents of each query among those that were merged in.

    Attributes:
        only: The places of the documents that each query may have; None for all.
        count: Queries that were merged in.
    """

    def __init__(self, queries: int, k: int) -> None:
        self.only: list[Tensor] | None = None
        self._scores = torch.full((queries, k), -torch.inf)
        self._places = torch.zeros((queries, k), dtype=torch.int64)
        self._seen = torch.zeros(queries, dtype=torch.bool)

    @property
    def count(self) -> int:
        return int(self._seen.sum())

    def merge(self, queries: Sequence[int], scores: Tensor, documents: Sequence[int]) -> None:
        """Scores (q, c) of some queries with some documents, both given by their places."""
        rows, places = torch.tensor(queries), torch.tensor(documents).expand(len(queries), -1)
        if self.only is not None:
            allowed = torch.stack([torch.isin(places[0], self.only[query]) for query in queries])
            scores = torch.where(allowed, scores, -torch.inf)
        scores = torch.cat([self._scores[rows], scores], 1)
        self._scores[rows], order = scores.topk(self._scores.shape[1])
        self._places[rows] = torch.cat([self._places[rows], places], 1).gather(1, order)
        self._seen[rows] = True

    def documents(self, ids: Sequence[str]) -> Iterator[dict[str, float]]:
        """The documents of each query, best first."""
        for scores, places in zip(self._scores.tolist(), self._places.tolist(), strict=True):
            found = zip(scores, places, strict=True)
            yield {ids[place]: score for score, place in found if score != -torch.inf}
