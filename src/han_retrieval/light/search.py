"""Search an index by sentences without torch; ``search.ranking`` is the same with it.

Legend: N photos, K candidates, P parts, m regions, d numbers a token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from han_retrieval.clock import Clock
from han_retrieval.errors import HANError, StoreError
from han_retrieval.light.encoder import Array
from han_retrieval.light.model import LightMap, LightModel
from han_retrieval.matchers.saving import folder_hash, model_folder
from han_retrieval.search.calibration import Calibration
from han_retrieval.search.query import Part, check_parts, condition_of, scored
from han_retrieval.search.reader import IndexReader
from han_retrieval.search.results import SearchResult, make_result
from han_retrieval.search.sentence_calibration import SentenceCalibration
from han_retrieval.search.vectors import InMemory, Rows, nearest_places
from han_retrieval.storage.arrays import to_arrays

_PHOTOS_AT_ONCE = 256


class LightSearch:
    """An open index with its model.

    Attributes:
        model: The model.
    """

    def __init__(self, index: IndexReader, model: LightModel, text_map: LightMap, calibration: Calibration | None):
        self._index, self.model, self._map, self._calibration = index, model, text_map, calibration

    @classmethod
    def open(cls, index: IndexReader, model: str | None) -> LightSearch | None:
        """The index's model, from a folder if it was moved; None where it takes torch, or is not as it should be."""
        try:
            folder = model_folder(model or index.settings.model)
            if index.made_by.pooling != "mean" or not isinstance(index.vectors, InMemory):
                return None
            if folder_hash(folder) != index.made_by.model:
                return None
            loaded = LightModel.load(folder)
            if loaded is None:
                return None
            return cls(index, loaded, LightMap(folder, model=index.made_by.model), Calibration.read(folder))
        except (HANError, OSError, ValueError, KeyError):
            return None

    def search(self, parts: Sequence[Part], *, k: int, candidates: int, where: str | None, exact: bool) -> SearchResult:
        """As ``search.search``, of one sentence or more, each with a word that the model knows, and conditions.

        Raises:
            QueryError: The weights or the condition cannot be used.
            StoreError: A score is not finite, or the index cannot be read any more.
        """
        index, clock = self._index, Clock()
        with clock("encode"):
            check_parts(parts)
            where, parts = condition_of(parts, where), scored(parts)
            words = [self.model.tokens(part.text) for part in parts]
            weights = np.array([part.weight for part in parts], np.float32)
            pooled = sum(weight * self._map.pool(each) for weight, each in zip(weights, words, strict=True))
        with clock("filter"):
            rows: Rows = np.arange(len(index)) if where is None else index.filter(where)
        among = len(rows)
        with clock("candidates"):
            if not exact and max(candidates, k) < among:
                vectors = index.vectors.all() if where is None else index.vectors.take(rows)
                products = vectors @ np.asarray(pooled, np.float32)
                (near,) = nearest_places(products[np.newaxis], max(candidates, k))
                rows = np.sort(rows[near])
        found = [
            self._scores(rows[at : at + _PHOTOS_AT_ONCE], words, clock) for at in range(0, len(rows), _PHOTOS_AT_ONCE)
        ]
        scores: Array = weights @ np.concatenate(found, axis=1) if found else np.zeros(0, np.float32)
        best = np.argsort(-scores, kind="stable")[:k]
        fit = None
        if self._calibration is not None and len(parts) == 1:
            fit = SentenceCalibration(self._calibration, self.model, parts[0].text, among=among)
        return make_result(index, rows[best], scores[best], clock=clock, calibration=fit, weight=float(weights[0]))

    def _scores(self, rows: Rows, words: Sequence[Array], clock: Clock) -> Array:
        """The scores (P, K) of photos with each sentence."""
        with clock("fetch"):
            tokens, mask = self._tokens(rows)
        with clock("rank"):
            scores = np.stack([self.model.scores(tokens, mask, each) for each in words])
        wrong = np.flatnonzero(~np.isfinite(scores.sum(0)))
        if len(wrong):
            path = self._index.files(int(rows[wrong[0]]))[0]
            raise StoreError(f"{path}: its score is not finite; index anew: --rebuild")
        return scores

    def _tokens(self, rows: Rows) -> tuple[Array, NDArray[np.bool_]]:
        """Tokens (K, m, d) float32, zero at padding, and their mask (K, m)."""
        table = self._index.take(rows, ["tokens", "scales"])
        found, scales = to_arrays(table["tokens"]), to_arrays(table["scales"])
        counts = [0 if each is None else len(each) for each in found]
        tokens = np.zeros((len(found), max(counts), self._index.made_by.joint_size), np.float32)
        for place, (values, scale, count) in enumerate(zip(found, scales, counts, strict=True)):
            tokens[place, :count] = values if scale is None else values * scale[:, np.newaxis]
        return tokens, np.arange(tokens.shape[1]) < np.array(counts)[:, np.newaxis]
