"""Why two photos are similar: the pairs of regions that are most alike, and where each is."""

from __future__ import annotations

import numpy as np
import torch

from han_retrieval.errors import StoreError
from han_retrieval.evidence.colours import PALETTE
from han_retrieval.matchers import AligningMatcher
from han_retrieval.regions import Regions
from han_retrieval.search.parts import encode_photo
from han_retrieval.search.reader import IndexReader
from han_retrieval.search.similarity import alike_regions
from han_retrieval.serve.schemas import AlikeRegions, LikenessResponse


def likeness(index: IndexReader, model: AligningMatcher, photo: int | Regions, row: int) -> LikenessResponse:
    """How similar the photo in ``row`` is to a photo, which is a row or regions, and by which regions.

    Raises:
        QueryError: The photo has no region.
        StoreError: The regions of a photo have no boxes.
    """
    query, _ = encode_photo(index, model, photo)
    tokens, mask = index.tokens([row])
    with torch.no_grad():
        score = float(model.compare_images(query, tokens.to(model.device), mask))
    (width, height, boxes), (other_width, other_height, others) = _boxes(index, photo), _boxes(index, row)
    pairs = alike_regions(
        query,
        boxes / (width, height, width, height),
        tokens[0][mask[0]],
        others / (other_width, other_height, other_width, other_height),
    )
    return LikenessResponse(
        score=score,
        width=width,
        height=height,
        other_width=other_width,
        other_height=other_height,
        pairs=[
            AlikeRegions(
                box=_box(boxes[pair.region]), other_box=_box(others[pair.other]), cosine=pair.cosine, colour=colour
            )
            for pair, colour in zip(pairs, PALETTE, strict=False)
        ],
    )


def _boxes(index: IndexReader, photo: int | Regions) -> tuple[int, int, np.ndarray]:
    """Width and height of a photo, and the boxes (m, 4) of its regions."""
    if isinstance(photo, Regions):
        width, height, boxes = photo.width, photo.height, photo.boxes
    else:
        width, height = (int(index.photos[side][photo].as_py()) for side in ("width", "height"))
        boxes = index.regions([photo])[0].boxes
    if boxes is None:
        raise StoreError("the regions of a photo have no boxes, so it cannot be shown which of them are alike")
    return width, height, boxes


def _box(edges: np.ndarray) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = np.round(edges.astype(np.float64), 1).tolist()
    return x0, y0, x1, y1
