"""Photos that are uploaded with a request."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import UploadFile
from PIL import Image

from han_retrieval.data import open_photo
from han_retrieval.errors import DataError, HANError
from han_retrieval.search.photo import content_id
from han_retrieval.serve.limits import Limits


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """An uploaded photo.

    Attributes:
        id: The hash of its file.
        decode: Gives the upright photo.

    Raises:
        DataError: Of ``decode``: the file is not a photo that can be read, or has too many pixels.
    """

    id: str
    decode: Callable[[], Image.Image]


def read_upload(sent: UploadFile, limits: Limits) -> Upload:
    """The uploaded photo, which is decoded when it is asked for, as long as the request lasts."""
    sent.file.seek(0)
    return Upload(content_id(sent.file), partial(_decode, sent, limits))


def _decode(sent: UploadFile, limits: Limits) -> Image.Image:
    sent.file.seek(0)
    with TemporaryDirectory() as folder:  # a NamedTemporaryFile cannot be opened twice on Windows
        path = Path(folder, "upload")
        with path.open("wb") as file:
            shutil.copyfileobj(sent.file, file)
        with path.open("rb") as file:
            is_jpeg = file.read(3) == b"\xff\xd8\xff"
        try:
            return open_photo(path, max_pixels=limits.upload_pixels if is_jpeg else limits.upload_pixels_other)
        except HANError as error:
            hint = "" if is_jpeg or "more than the limit" not in str(error) else "; a JPEG may have more"
            name = (sent.filename or "the upload")[:100]
            raise DataError(str(error).replace(str(path), name) + hint) from None
