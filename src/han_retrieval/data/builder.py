"""What adapters of dataset formats share: names of splits, photo files, photos with their captions, whole formats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from han_retrieval.data.dataset import CaptionedPhoto, CaptionedPhotos
from han_retrieval.data.packed import PackedPhoto
from han_retrieval.errors import DataError

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
    """The split with this name or another name of it ("restval" is train, "validation" is dev), or None."""
    return _SPLIT_OF.get(name.strip().lower())


def split_in(file_name: str) -> str | None:
    """The one split that a file's name contains ("captions_val2017.json" is dev), or None for none or several."""
    splits = {split_of(part) for part in re.split(r"[^a-z]+", file_name.lower())} - {None}
    return splits.pop() if len(splits) == 1 else None


class DatasetBuilder:
    """Collects photos and captions in any order; ``finish`` makes the dataset of them.

    Args:
        format: The adapter's name.
        source: The file or folder that is read.
        folder: Where photo files are looked for, and in the folders of usual names below and beside it; by default the
            source, or its folder.
        exact_paths: Whether a photo lies where its name says, below the folder, and nowhere else.

    Attributes:
        folder: See above.
        skipped: How many things were left out, by reason.
    """

    def __init__(self, format: str, source: Path, *, folder: Path | None = None, exact_paths: bool = False) -> None:
        self.folder = folder or (source if source.is_dir() else source.parent)
        self._format, self._source = format, source
        self._exact_paths = exact_paths
        beside = [base / name for base in (self.folder, self.folder / "images") for name in _PHOTO_FOLDERS]
        above = [self.folder.absolute().parent / name for name in _PHOTO_FOLDERS]
        self._folders = [path for path in dict.fromkeys([self.folder, *beside, *above]) if path.is_dir()]
        self._photos: dict[str, tuple[str, str | None]] = {}  # id -> file name, split
        self._packed: dict[str, PackedPhoto] = {}
        self._captions: dict[str, list[str]] = {}
        self.skipped: Counter[str] = Counter()

    def __contains__(self, photo_id: str) -> bool:
        return photo_id in self._photos

    def photo(
        self, photo_id: str, name: str, *, split: str | None, where: str, packed: PackedPhoto | None = None
    ) -> None:
        """Add a photo, or the same one again.

        Args:
            photo_id: Its id in the dataset.
            name: The name of its file, as the dataset has it.
            split: "train", "dev", "test" or None.
            where: The file and line, for messages.
            packed: Where its bytes are, if it has no file of its own.

        Raises:
            DataError: The id was added before with another file or split.
        """
        name_and_split = (name, split)
        if self._photos.setdefault(photo_id, name_and_split) != name_and_split:
            before = " in split ".join(str(part) for part in self._photos[photo_id])
            raise DataError(f"{where}: photo {photo_id!r} ({name} in split {split}) was listed before as {before}")
        self._captions.setdefault(photo_id, [])
        if packed is not None:
            self._packed.setdefault(photo_id, packed)

    def caption(self, photo_id: str, sentence: str) -> None:
        """Add a sentence to a photo that was added; an empty one is counted and left out."""
        if sentence.strip():
            self._captions[photo_id].append(sentence.strip())
        else:
            self.skipped["empty caption"] += 1

    def finish(self) -> CaptionedPhotos:
        """The dataset: every photo that has a file and a caption; the others are counted.

        Where no photo file at all is found, the photos stay, without a path: such a dataset is used with features that
        were made elsewhere.

        Raises:
            DataError: No photo has a caption and, where there are files, a file; or two photos have one file.
        """
        paths = {
            photo_id: None if photo_id in self._packed else self._find(name)
            for photo_id, (name, _) in self._photos.items()
        }
        ids: dict[Path, str] = {}
        for photo_id, path in paths.items():
            if path is not None and ids.setdefault(path, photo_id) != photo_id:
                raise DataError(
                    f"{self._source}: the photos {ids[path]!r} and {photo_id!r} have the same file, {path}; name each "
                    "file with its folder, as in val2017/1.jpg"
                )
        without_files = not self._packed and not any(paths.values())
        photos = []
        for photo_id, captions in self._captions.items():
            packed = self._packed.get(photo_id)
            if not (paths[photo_id] or packed or without_files):
                self.skipped["photo file missing"] += 1
            elif not captions:
                self.skipped["photo without captions"] += 1
            else:
                split = self._photos[photo_id][1]
                photos.append(CaptionedPhoto(photo_id, paths[photo_id], tuple(captions), split, packed))
        if not photos:
            account = ", ".join(f"{reason}: {count}" for reason, count in self.skipped.items()) or "it names none"
            raise DataError(f"{self._source}: no photo with a caption in it ({account})")
        return CaptionedPhotos(self._format, self._source, tuple(photos), self.skipped)

    def _find(self, name: str) -> Path | None:
        """The photo file of that name below one of the folders; "val2014/1.jpg" may lie there as "1.jpg".

        A name with the backslashes of Windows is found elsewhere, too.
        """
        slashes = name.replace("\\", "/")
        for candidate in dict.fromkeys((name, slashes, slashes if self._exact_paths else slashes.rpartition("/")[2])):
            for position, folder in enumerate(self._folders):
                path = folder / candidate
                if path.is_file():
                    # The next photo is most likely beside this one.
                    self._folders.insert(0, self._folders.pop(position))
                    return path
        return None


@dataclass(frozen=True)
class FileFormat:
    """An adapter of a format whose datasets are one or several files, with the photos beside them.

    Attributes:
        name: The format's name.
        description: What the files are called and hold.
        files: The files of the format that a path is or, as a folder, holds.
        add: Adds the photos and captions of the files, of which there is at least one.
        single: Whether a dataset is one file.
        exact_paths: See ``DatasetBuilder``.
    """

    name: str
    description: str
    files: Callable[[Path], list[Path]]
    add: Callable[[DatasetBuilder, Sequence[Path]], None]
    single: bool = False
    exact_paths: bool = False

    def recognises(self, source: Path) -> bool:
        """See ``DatasetAdapter``."""
        return bool(self.files(source))

    def read(self, source: Path) -> CaptionedPhotos:
        """See ``DatasetAdapter``."""
        files = self.files(source) if source.is_dir() else [source]
        if not files or (self.single and len(files) > 1):
            found = ", ".join(path.name for path in files) or "none"
            raise DataError(
                f"{source}: expected {'one ' * self.single}{self.description}, found {found}; give the file itself"
            )
        folder = None if self.exact_paths else files[0].parent
        builder = DatasetBuilder(self.name, source, folder=folder, exact_paths=self.exact_paths)
        self.add(builder, files)
        return builder.finish()
