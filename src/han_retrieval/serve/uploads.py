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


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """An uploaded photo: the hash of its file, and the upright photo."""

    id: str
    photo: Image.Image


def read_upload(sent: UploadFile, *, max_pixels: int) -> Upload:
    """The uploaded photo, upright.

    Raises:
        DataError: The file is not a photo that can be read, or has more than ``max_pixels`` pixels.
    """
    with TemporaryDirectory() as folder:  # a NamedTemporaryFile cannot be opened twice on Windows
        path = Path(folder, "upload")
        with path.open("wb") as file:
            shutil.copyfileobj(sent.file, file)
        try:
            photo = open_photo(path, max_pixels=max_pixels)
        except HANError as error:
            raise DataError(str(error).replace(str(path), sent.filename or "the upload")) from None
        return Upload(hash_file(path), photo)
