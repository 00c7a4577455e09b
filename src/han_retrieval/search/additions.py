"""Bring a table up to date with what a scan found: read and encode new files, commit by commit.

A photo is identified by its content: a file that was renamed, moved, copied or touched is not encoded again. Photos are
deleted at the end, when every file has been read, so that a photo that moved is not deleted before it is found again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from han_retrieval.data import read_ahead
from han_retrieval.errors import HANError
from han_retrieval.regions.extraction import progress_bar
from han_retrieval.search.maker import Maker
from han_retrieval.search.photo import Photo, read_photo
from han_retrieval.search.rows import PhotoFile, PhotoRow
from han_retrieval.search.scan import FileState, Place, Scan
from han_retrieval.search.table import Broken, PhotoTable

_ROWS_A_COMMIT = 256
_SECONDS_A_COMMIT = 20.0


class Additions:
    """The changes that a scan brings to a table, which is locked for writing; ``accounts_for`` says of which roots.

    Attributes:
        todo: Files to read: those that are new or changed.
        added, removed: The number of photos, once ``run`` has returned.
    """

    def __init__(self, table: PhotoTable, found: Scan, accounts_for: Callable[[str], bool]) -> None:
        self._table, self._found, self._accounts_for = table, found, accounts_for
        self._stored, sizes = table.files()
        # The files of each photo, as far as is known by now.
        self._files = {
            photo_id: [
                file for file in files if self._stays((file.root, file.path), FileState(sizes[photo_id], file.mtime))
            ]
            for photo_id, files in self._stored.items()
        }
        # Photos whose row has other files; photos without any file are deleted at the end.
        self._changed = {each for each, files in self._stored.items() if 0 < len(self._files[each]) < len(files)}
        self._broken = {place: each for place, each in table.read_broken().items() if self._stays(place, each.state)}
        settled = {(file.root, file.path) for files in self._files.values() for file in files} | self._broken.keys()
        self.todo = sorted(found.files.keys() - settled)
        self._waiting: dict[str, tuple[Photo, list[PhotoFile]]] = {}
        self._rows: list[PhotoRow] = []
        self.added = self.removed = 0

    @property
    def moved(self) -> list[str]:
        """Photos that were in the index before and have other files now."""
        return [each for each, files in self._stored.items() if self._files[each] and tuple(self._files[each]) != files]

    @property
    def broken(self) -> list[tuple[str, str]]:
        """Files that could not be indexed, those of earlier updates included, and the reasons."""
        return [(str(Path(*place)), each.reason) for place, each in sorted(self._broken.items())]

    def run(self, maker: Maker, *, batch_size: int, threads: int, progress: bool) -> None:
        """Bring the table up to date; after an interrupt or an error, what was done before it is kept."""
        last = time.monotonic()
        with (
            progress_bar(total=len(self.todo), show=progress) as bar,
            closing(read_ahead(self.todo, self._read, threads=threads, ahead=batch_size)) as photos,
        ):
            try:
                for place, photo in photos:
                    self._take(place, photo)
                    if len(self._waiting) >= batch_size:
                        self._encode(maker)
                    if (
                        len(self._rows) + len(self._changed) >= _ROWS_A_COMMIT
                        or time.monotonic() - last >= _SECONDS_A_COMMIT
                    ):
                        self._commit()
                        last = time.monotonic()
                    bar.update()
                self._encode(maker)
            except (HANError, KeyboardInterrupt):
                self._commit()
                raise
        self._commit()
        gone = [photo_id for photo_id, files in self._files.items() if not files]
        self._table.delete(gone)
        self.removed = len(gone)
        self._table.tidy()

    def _stays(self, place: Place, state: FileState) -> bool:
        """Whether a file that was indexed in a state need not be read again."""
        if not self._accounts_for(place[0]) or self._found.overlooks(place):
            return True
        return self._found.files.get(place) == state

    def _read(self, place: Place) -> Photo | str:
        return read_photo(Path(*place), self._files)

    def _take(self, place: Place, photo: Photo | str) -> None:
        if isinstance(photo, str):
            self._broken[place] = Broken(self._found.files[place], photo)
            return
        file = PhotoFile(*place, photo.state.mtime)
        if photo.id in self._files:
            self._files[photo.id] = sorted([*self._files[photo.id], file])
            self._changed.add(photo.id)
        else:
            self._waiting.setdefault(photo.id, (photo, []))[1].append(file)

    def _encode(self, maker: Maker) -> None:
        waiting, self._waiting = list(self._waiting.values()), {}
        images = [photo.image for photo, _ in waiting if photo.image is not None]  # all, since these photos are new
        for (photo, files), encoded in zip(waiting, maker.encode(images) if images else (), strict=True):
            if isinstance(encoded, str):
                self._broken |= {(f.root, f.path): Broken(FileState(photo.state.size, f.mtime), encoded) for f in files}
                continue
            self._rows.append(PhotoRow(photo.id, tuple(sorted(files)), photo.state.size, photo.exif, encoded))
            self._files[photo.id] = sorted(files)

    def _commit(self) -> None:
        rows, self._rows = self._rows, []
        new = {row.id for row in rows}
        self._table.append(rows)
        self.added += len(rows)
        # If copies of a new photo were found since it was encoded, its row lacks them.
        behind = {row.id for row in rows if tuple(self._files[row.id]) != row.files}
        self._table.move({each: self._files[each] for each in sorted((self._changed - new) | behind)})
        self._changed = set()
        self._table.write_broken(self._broken)
