"""What adapters do alike: name splits, find photo files, gather captions by photo, count what is left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from han_retrieval.data.dataset import CaptionedPhoto, CaptionedPhotos
from han_retrieval.errors import HANError

_SPLITS = {
    "train": ("train", "training", "restval"),
    "dev": ("dev", "val", "valid", "validation"),
    "test": ("test", "testall", "testing"),
}
_SPLIT_OF = {name: split for split, names in _SPLITS.items() for name in names}

# Where datasets keep their photos: beside the file that describes them, or one folder above it.
_PHOTO_FOLDERS = (
    *("images", "Images", "photos", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr8k-images", "flickr30k-images"),
    *("flickr30k_images", "train2014", "val2014", "test2014", "train2017", "val2017", "test2017"),
)


def split_of(name: str) -> str | None:
    """The split that a name means ("restval" is train, "validation" is dev), None for a name that means none."""
    return _SPLIT_OF.get(name.strip().lower())


def split_in(file_name: str) -> str | None:
    """The one split that a file's name speaks of ("captions_val2017.json" is dev), None for none or several."""
    splits = {split_of(part) for part in re.split(r"[^a-z]+", file_name.lower())} - {None}
    return splits.pop() if len(splits) == 1 else None


class PhotoFiles:
    """Finds the photo files that a dataset's file names, in the folders where they are usually kept.

    Args:
        folder: The folder of the describing file.
        by_last_part: Whether "val2014/1.jpg" may be found as "1.jpg".
    """

    def __init__(self, folder: Path, *, by_last_part: bool = True) -> None:
        self._by_last_part = by_last_part
        beside = [base / name for base in (folder, folder / "images") for name in _PHOTO_FOLDERS]
        above = [folder.absolute().parent / name for name in _PHOTO_FOLDERS]
        self._folders = [path for path in dict.fromkeys([folder, *beside, *above]) if path.is_dir()]

    def find(self, name: str) -> Path | None:
        """The file with that path below one of the folders, or None."""
        for candidate in dict.fromkeys((name, name.rpartition("/")[2] if self._by_last_part else name)):
            for position, folder in enumerate(self._folders):
                path = folder / candidate
                if path.is_file():
                    # The next photo is most likely beside this one.
                    self._folders.insert(0, self._folders.pop(position))
                    return path
        return None


class Gathering:
    """Photos and captions as an adapter meets them, in any order; ``finish`` makes the dataset of them.

    Args:
        format: The adapter's name.
        source: The file or folder that is read.
        find: Gives the photo file for the name that the dataset has for it, or None.
    """

    def __init__(self, format: str, source: Path, find: Callable[[str], Path | None]) -> None:
        self._format, self._source, self._find = format, source, find
        self._photos: dict[str, tuple[str, str | None]] = {}  # id -> file name, split
        self._captions: dict[str, list[str]] = {}
        self.skipped: Counter[str] = Counter()

    def __contains__(self, photo_id: str) -> bool:
        return photo_id in self._photos

    def photo(self, photo_id: str, name: str, *, split: str | None, where: str) -> None:
        """A photo, told once or again: its id, the name of its file and its split.

        Raises:
            HANError: It was told before with another file or split.
        """
        name_and_split = (name, split)
        if self._photos.setdefault(photo_id, name_and_split) != name_and_split:
            before = " in split ".join(str(part) for part in self._photos[photo_id])
            raise HANError(f"{where}: photo {photo_id!r} ({name} in split {split}) stands there before as {before}")
        self._captions.setdefault(photo_id, [])

    def caption(self, photo_id: str, sentence: str) -> None:
        """A sentence about a photo that has been told; an empty one is counted and left out."""
        if sentence.strip():
            self._captions[photo_id].append(sentence.strip())
        else:
            self.skipped["empty caption"] += 1

    def finish(self) -> CaptionedPhotos:
        """The dataset: every photo that has a file and a caption; the others are counted.

        Where not one photo file is found, the dataset is taken for one that is used with features made elsewhere:
        its photos stay, without a path.

        Raises:
            HANError: No photo has a caption and, where there are files, a file; or two photos have one file.
        """
        paths = {photo_id: self._find(name) for photo_id, (name, _) in self._photos.items()}
        ids: dict[Path, str] = {}
        for photo_id, path in paths.items():
            if path is not None and ids.setdefault(path, photo_id) != photo_id:
                raise HANError(
                    f"{self._source}: the photos {ids[path]!r} and {photo_id!r} have one file, {path}; name each file "
                    "with its folder, as in val2017/1.jpg"
                )
        without_files = not any(paths.values())
        photos = []
        for photo_id, captions in self._captions.items():
            if not (paths[photo_id] or without_files):
                self.skipped["photo file missing"] += 1
            elif not captions:
                self.skipped["photo without captions"] += 1
            else:
                photos.append(CaptionedPhoto(photo_id, paths[photo_id], tuple(captions), self._photos[photo_id][1]))
        if not photos:
            account = ", ".join(f"{reason}: {count}" for reason, count in self.skipped.items()) or "it names none"
            raise HANError(f"{self._source}: there is no photo with a caption ({account})")
        return CaptionedPhotos(self._format, self._source, tuple(photos), self.skipped)
