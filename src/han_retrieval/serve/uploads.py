"""Photos that are sent with a request."""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile

from fastapi import UploadFile

from han_retrieval.data import open_photo
from han_retrieval.errors import HANError
from han_retrieval.search.photo import hash_file
from han_retrieval.serve.engine import Upload


def read_upload(sent: UploadFile, *, max_pixels: int) -> Upload:
    """The photo that was sent, upright.

    Raises:
        HANError: It is no photo that can be read, or too large a one.
    """
    with NamedTemporaryFile() as file:
        while part := sent.file.read(2**20):
            file.write(part)
        file.flush()
        path = Path(file.name)
        try:
            photo = open_photo(path, max_pixels=max_pixels)
        except HANError as error:
            raise HANError(str(error).replace(str(path), sent.filename or "the upload")) from None
        return Upload(hash_file(path), photo)
