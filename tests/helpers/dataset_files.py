"""Small datasets on the disk, and what is expected of reading them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from han_retrieval.data import CaptionedPhotos, read_dataset
from han_retrieval.errors import HANError


def photos(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(folder / name, format="PNG")


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_json(path: Path, content: object) -> Path:
    return write(path, json.dumps(content))


def summary(dataset: CaptionedPhotos) -> list[tuple[str, str | None, list[str], str | None]]:
    """Id, file name, captions and split of each photo."""
    return [(p.id, p.path and p.path.name, list(p.captions), p.split) for p in dataset.photos]


def refused(source: Path, reason: str, *, format: str | None = None) -> None:
    with pytest.raises(HANError, match=reason) as error:
        read_dataset(source, format=format)
    assert "\n" not in str(error.value)


def flickr(folder: Path) -> Path:
    photos(folder / "images", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    write(
        folder / "Flickr8k.token.txt",
        *("a.jpg#0\tA dog .", "a.jpg#1\tA dog\truns .", "b.jpg#0\tÉcole", "c.jpg#0\tC", "d.jpg#0\tD", ""),
    )
    write(folder / "Flickr8k.lemma.token.txt", "a.jpg#0\tdog")
    write(folder / "Flickr_8k.trainImages.txt", "a.jpg", "")
    write(folder / "Flickr_8k.devImages.txt", "c.jpg")
    write(folder / "Flickr_8k.testImages.txt", "d.jpg")
    return folder
