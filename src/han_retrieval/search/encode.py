"""Encode photos for an index: a detector finds regions, a model turns them into tokens, pooling into one vector.

Legend: I photos, m regions, D numbers a feature, d numbers a token, e numbers a pooled vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from han_retrieval.matchers import AligningMatcher
from han_retrieval.regions import Detector, Regions
from han_retrieval.regions.detector import detect_whole
from han_retrieval.regions.rows import batch_of
from han_retrieval.scoring import Tokens
from han_retrieval.search.pooling import Pooling
from han_retrieval.search.rows import Encoded
from han_retrieval.stages import stage


def encode_photos(
    model: AligningMatcher, detector: Detector, photos: Sequence[Image.Image], *, storage: str, pooling: Pooling
) -> list[Encoded | str]:
    """For each upright photo what the index stores, or the reason why it cannot be indexed."""
    with stage("network"):
        found = detect_whole(detector, photos)
    return encode_found(model, found, storage=storage, pooling=pooling)


def encode_found(
    model: AligningMatcher, found: Sequence[Regions], *, storage: str, pooling: Pooling
) -> list[Encoded | str]:
    """For each photo what the index stores, or the reason why it cannot be indexed.

    Args:
        model: Turns regions into tokens.
        found: The regions of each photo, (m, D) features; a photo may have none.
        storage: How tokens are stored, "int8" or "float16".
        pooling: Makes the vector (e,) of a photo.
    """
    some = [regions for regions in found if len(regions.features)]
    with stage("encode"):
        encoded = iter(_encode(model, some, storage, pooling) if some else ())
    return [next(encoded) if len(regions.features) else "the detector found no region" for regions in found]


def _encode(model: AligningMatcher, found: Sequence[Regions], storage: str, pooling: Pooling) -> list[Encoded | str]:
    tokens, mask = encode_regions(model, found)
    pooled = pooling.photos(batch_of(found), tokens, mask)  # (I, e)
    rows: list[Encoded | str] = []
    for regions, padded, real, vector in zip(found, tokens, mask, pooled, strict=True):
        if not (padded.isfinite().all() and vector.isfinite().all()):
            rows.append("its features are not finite")
            continue
        stored = Tokens.store(padded[real], storage)
        scales = stored.scale.numpy() if storage == "int8" else None
        values, pooled_values = stored.values.numpy(), vector.numpy().astype(np.float16)
        size = regions.width, regions.height
        rows.append(Encoded(*size, regions.boxes, regions.labels, values, scales, pooled_values))
    return rows


@torch.no_grad()
def encode_regions(model: AligningMatcher, found: Sequence[Regions]) -> tuple[Tensor, Tensor]:
    """The tokens (I, m, d) of photos with at least one region each, on the CPU, and their mask (I, m)."""
    inputs, mask = model.image_inputs(batch_of(found))
    return model.encode_images(inputs, mask).float().cpu(), mask
