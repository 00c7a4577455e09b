"""Stores of drawn regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from han_retrieval.regions import RegionRow, Regions, RegionStore

SIZE = 6


def regions(
    seed: int, m: int = 3, *, boxes: bool = True, labels: bool = True, scores: bool = True, pooled: int = 0
) -> Regions:
    noise = np.random.default_rng(seed)
    return Regions(
        features=noise.standard_normal((m, SIZE)).astype(np.float16),
        boxes=noise.random((m, 4)).astype(np.float32) if boxes else None,
        width=seed + 1,
        height=seed + 2,
        labels=tuple(f"label {i} é" for i in range(m)) if labels else None,
        scores=noise.random(m).astype(np.float32) if scores else None,
        pooled=noise.standard_normal(pooled).astype(np.float16) if pooled else None,
    )


def row(seed: int, m: int = 3, **kinds: int) -> RegionRow:
    return RegionRow(f"photo {seed}", Path(f"/photos/{seed}.jpg") if seed % 2 else None, regions(seed, m, **kinds))


def new_store(folder: Path, rows=(), *, commit: int = 4) -> RegionStore:
    store = RegionStore.create(folder / "features", fingerprint="fake:1", feature_size=SIZE)
    rows = list(rows)
    for first in range(0, len(rows), commit):
        store.append(rows[first : first + commit])
    return store


def same(a: Regions, b: Regions) -> bool:
    def equal(x, y):
        return (x is None and y is None) or (x is not None and y is not None and np.array_equal(x, y))

    return (
        equal(a.features, b.features)
        and a.features.dtype == b.features.dtype
        and equal(a.boxes, b.boxes)
        and equal(a.scores, b.scores)
        and equal(a.pooled, b.pooled)
        and (a.labels, a.width, a.height) == (b.labels, b.width, b.height)
    )
