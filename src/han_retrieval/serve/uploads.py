"""Photos that are uploaded with a request."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import UploadFile
from PIL import Image

from han_retrieval.data import open_photo
from han_retrieval.errors import DataError, HANError
from han_retrieval.search.photo import hash_file
from han_retrieval.serve.limits import Limits


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """An uploaded photo: the hash of its file, and the upright photo."""

    id: str
    photo: Image.Image


def read_upload(sent: UploadFile, limits: Limits) -> Upload:
    """The uploaded photo, upright.

    Raises:
        DataError: The file is not a photo that can be read, or has too many pixels.
    """
    with TemporaryDirectory() as folder:  # a NamedTemporaryFile cannot be opened twice on Windows
        path = Path(folder, "upload")
        with path.open("wb") as file:
            shutil.copyfileobj(sent.file, file)
        with path.open("rb") as file:
            is_jpeg = file.read(3) == b"\xff\xd8\xff"
        try:
            photo = open_photo(path, max_pixels=limits.upload_pixels if is_jpeg else limits.upload_pixels_other)
        except HANError as error:
            hint = "" if is_jpeg or "more than the limit" not in str(error) else "; a JPEG may have more"
            name = (sent.filename or "the upload")[:100]
            raise DataError(str(error).replace(str(path), name) + hint) from None
        return Upload(hash_file(path), photo)
