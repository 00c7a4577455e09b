"""Bring a table up to date with what a scan found: read and encode new files, commit by commit.

A photo is identified by its content: a file that was renamed, moved, copied or touched is not encoded again. Photos are
deleted at the end, when every file has been read, so that a photo that moved is not deleted before it is found again.
A file that cannot be read now may be any photo of its size: none of these is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing

from han_retrieval.data import PHOTO_READER, UnreadablePhotoError, reason_without
from han_retrieval.errors import DataError, HANError
from han_retrieval.process import interrupts_wait
from han_retrieval.progress import progress_bar
from han_retrieval.search.files import EncodedFile, EncodeFiles
from han_retrieval.search.rows import PhotoFile, PhotoRow
from han_retrieval.search.scan import LISTED, FileState, Place, Scan, path_of
from han_retrieval.search.table import Broken, PhotoTable
from han_retrieval.stages import stage

_ROWS_A_COMMIT = 256
_SECONDS_A_COMMIT = 20.0


class Additions:
    """The changes that a scan brings to a table, which is locked for writing; ``accounts_for`` says of which roots.

    Attributes:
        todo: Files to read: those that are new or changed.
        unread: Files that cannot be read now, and the reasons.
        added, removed: The number of photos, once ``run`` has returned.
    """

    def __init__(self, table: PhotoTable, found: Scan, accounts_for: Callable[[str], bool]) -> None:
        self._table, self._found, self._accounts_for = table, found, accounts_for
        self._stored, self._sizes = table.files()
        # The files of each photo, as far as is known by now.
        self._files = {
            photo_id: [file for file in files if self._keeps(file, self._sizes[photo_id])]
            for photo_id, files in self._stored.items()
        }
        # Photos whose row has other files; photos without any file are deleted at the end.
        self._changed = {each for each, files in self._stored.items() if 0 < len(self._files[each]) < len(files)}
        self._last_known = {
            (file.root, file.path): (photo_id, file) for photo_id, files in self._stored.items() for file in files
        }
        self.unread = dict(found.unread)
        # What another version could not read is tried again.
        self._broken = {
            place: each
            for place, each in table.read_broken().items()
            if self._stays(place, each.state) and (each.reader == PHOTO_READER or place not in found.files)
        }
        settled = {(file.root, file.path) for files in self._files.values() for file in files} | self._broken.keys()
        self.todo = sorted(found.files.keys() - settled)
        self._rows: list[PhotoRow] = []
        self.added = self.removed = 0

    @property
    def moved(self) -> list[str]:
        """Photos that were in the index before and have other files now."""
        return [each for each, files in self._stored.items() if self._files[each] and tuple(self._files[each]) != files]

    @property
    def broken(self) -> list[tuple[str, str]]:
        """Files that could not be indexed, those of earlier updates included, and the reasons."""
        return [(str(path_of(place)), each.reason) for place, each in sorted(self._broken.items())]

    def run(self, encode: EncodeFiles, *, exact_up_to: int, progress: bool) -> None:
        """Bring the table up to date; after an interrupt or an error, what was done before it is kept.

        Args:
            encode: Reads and encodes files, some at a time and in any order. It is given the ids of the photos that
                are known, which grow meanwhile.
            exact_up_to: The number of photos above which the table gets a vector index.
            progress: Show photos/s and the time left on stderr.
        """
        last = time.monotonic()
        batches = encode(self.todo, self._files)
        with (
            progress_bar(total=len(self.todo), unit=" photos", show=progress and bool(self.todo)) as bar,
            closing(batches),
        ):
            try:
                for batch in batches:
                    self._take(batch)
                    if (
                        len(self._rows) + len(self._changed) >= _ROWS_A_COMMIT
                        or time.monotonic() - last >= _SECONDS_A_COMMIT
                    ):
                        self._commit()
                        last = time.monotonic()
                    bar.update(len(batch))
            except (HANError, KeyboardInterrupt):
                self._commit()
                raise
        self._commit()
        gone = self._gone()
        with stage("write"):
            self._table.delete(gone)
            self.removed = len(gone)
            self._table.tidy(exact_up_to=exact_up_to)

    def _keeps(self, file: PhotoFile, size: int) -> bool:
        return self._stays((file.root, file.path), FileState(size, file.mtime))

    def _stays(self, place: Place, state: FileState) -> bool:
        """Whether a file that was indexed in a state need not be read again."""
        if not self._accounts_for(place[0]) or self._found.overlooks(place):
            return True
        return self._found.files.get(place) in (state, LISTED)

    def _gone(self) -> list[str]:
        """Photos that have no file any more, and none that cannot be read now to which they may have moved."""
        unread = {self._found.files[place].size for place in self.unread if place in self._found.files}

        def may_be_unread(photo_id: str) -> bool:
            forgotten = all(file.root not in self._found.roots for file in self._stored[photo_id])
            return not forgotten and (self._found.unsure or self._sizes[photo_id] in unread)

        return [each for each, files in self._files.items() if not files and not may_be_unread(each)]

    def _take(self, batch: Iterable[EncodedFile]) -> None:
        for place, photo, encoded in batch:
            if isinstance(photo, DataError):
                self._take_error(place, photo)
                continue
            file = PhotoFile(*place, photo.state.mtime)
            if photo.id in self._files:
                self._add_file(photo.id, file)
            elif isinstance(encoded, str):
                state = FileState(photo.state.size, file.mtime)
                self._broken[place] = Broken(state, encoded, PHOTO_READER)
            else:
                assert encoded is not None  # this photo is new
                self._files[photo.id] = [file]  # first: an interrupt in between would leave a row without files
                self._rows.append(PhotoRow(photo.id, (file,), photo.state.size, photo.info, encoded))

    def _take_error(self, place: Place, error: DataError) -> None:
        reason = reason_without(path_of(place), error)
        if not isinstance(error, UnreadablePhotoError):
            self._broken[place] = Broken(self._found.files[place], reason, PHOTO_READER)
            return
        self.unread[place] = reason
        if place in self._last_known:
            self._add_file(*self._last_known[place])

    def _add_file(self, photo_id: str, file: PhotoFile) -> None:
        self._files[photo_id] = sorted([*self._files[photo_id], file])
        self._changed.add(photo_id)

    def _commit(self) -> None:
        with stage("write"), interrupts_wait():  # what was encoded is either in the table or here
            self._write()

    def _write(self) -> None:
        # Copies of a new photo may have been found since it was encoded.
        rows, self._rows = [row._replace(files=tuple(self._files[row.id])) for row in self._rows], []
        new = {row.id for row in rows}
        self._table.append(rows)
        self.added += len(rows)
        self._table.move({each: self._files[each] for each in sorted(self._changed - new)})
        self._changed = set()
        self._table.write_broken(self._broken)
