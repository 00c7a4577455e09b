"""Pictures to files: written whole, and never over the photo that they show."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from han_retrieval.errors import DataError
from han_retrieval.files import write_whole

if TYPE_CHECKING:
    from PIL import Image


def refuse_overwriting(out: Path, photo: Path) -> None:
    """Check that a picture is not written over the photo that it shows, also not through a link.

    Raises:
        DataError: It would be.
    """
    if out.exists() and photo.exists() and out.samefile(photo):
        raise DataError(f"{out}: the picture would overwrite the photo; name another file")


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture in the format of the file's ending; the file that was there stays where that fails.

    Raises:
        DataError: There is no such format or folder, or the picture cannot be written in this format.
        StoreError: The file cannot be written.
    """
    from PIL import Image

    content = io.BytesIO()
    try:
        if not path.parent.is_dir():
            raise ValueError("there is no such folder")
        kind = Image.registered_extensions().get(path.suffix.lower())
        if kind not in Image.SAVE:  # some can only be read
            raise ValueError(f"no format that can be written ends in {path.suffix!r}")
        picture.save(content, kind)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the picture cannot be written ({error}); give a name such as regions.png") from None
    write_whole(path, content.getvalue())
