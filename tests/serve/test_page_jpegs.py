"""Photos as JPEGs for the page."""

from __future__ import annotations

import io
import math

import pytest
from PIL import Image

from han_retrieval.serve.jpegs import Size


@pytest.mark.parametrize("size", Size)
@pytest.mark.parametrize("photo", [(6000, 4000), (4096, 8192), (1700, 1600), (1600, 799), (300, 200)])
def test_as_many_pixels_are_counted_as_are_decoded(size, photo):
    file = io.BytesIO()
    Image.new("L", photo).save(file, "JPEG")
    opened = Image.open(file)
    opened.draft(None, (min(size.value[:2]),) * 2)
    # a sixth of all is counted at least: a progressive file, whose coefficients are held, cannot be told by its name
    assert size.pixels_of(*photo) == pytest.approx(max(math.prod(opened.size), math.prod(photo) / 6), rel=0.01)
