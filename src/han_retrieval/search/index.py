"""The reading side of an index: what is known of photos in memory, the rest fetched from the table.

A row is a photo's place in ``photos``, from 0; it holds until ``refresh`` says that there is something new.

Legend: N photos, K rows, T queries, m regions, d numbers a token, e numbers a pooled vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.errors import HANError, StoreError
from han_retrieval.matchers import AligningMatcher, load_aligning_matcher, model_folder
from han_retrieval.matchers.saving import folder_hash
from han_retrieval.scoring import Tokens
from han_retrieval.search.photo import hash_file
from han_retrieval.search.pooling import TextMap, pooling_for
from han_retrieval.search.rows import COLUMNS, to_files, to_tokens, to_vectors
from han_retrieval.search.settings import Settings
from han_retrieval.search.summary import IndexSummary
from han_retrieval.search.table import read_broken, read_made_by
from han_retrieval.storage.arrays import to_arrays
from han_retrieval.storage.closing import Closing
from han_retrieval.storage.locks import hold_version
from han_retrieval.storage.table import is_table, manifest_path, metadata_of, open_dataset, reason_of

_TRIES = 50

Rows = NDArray[np.int64]


class PhotoRegions(NamedTuple):
    """Boxes (m, 4) x0 y0 x1 y1 in pixels of the upright photo, and labels, each None where the detector gave none."""

    boxes: np.ndarray | None
    labels: tuple[str, ...] | None


class Unreadable(HANError):
    """What was opened is gone from the disk, or cannot be read any more: no other question will do better."""


class Index(Closing):
    """An index as it is now, made by ``open``; safe in threads but for ``refresh`` and ``close``.

    Attributes:
        path: Its folder.
        settings: What ``index.json`` said.
        made_by: What made it.
        photos: A row a photo: id, root, path, folder, mtime (ns), copies (further files), size, width, height, date,
            camera, regions (their number m).
        pooled: (N, e) float32, of unit length.
        pooling: What made these, and makes a query's.
    """

    photos: pa.Table
    pooled: NDArray[np.float32]

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self._held: IO[str] | None = None
        self._ids: NDArray[np.uint64] = np.empty(0, np.uint64)  # Lance's, which stay with a photo
        self._table: Path | None = None
        self._stamp: tuple[int, int, int] | None = None  # of the version's file: tells a table from one made anew there
        self._text_map: TextMap | None = None
        self._load()

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The index at ``path``; what others change later is seen by ``refresh``.

        Raises:
            HANError: There is nothing at ``path``, or no index, or one of another version.
        """
        return cls(path)

    def __len__(self) -> int:
        return len(self.photos)

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r}, {len(self)} photos)"

    def refresh(self) -> bool:
        """Take in what was committed since; rows are other ones then.

        Returns:
            Whether there was anything.

        Raises:
            HANError: The index is gone, or cannot be read any more.
        """
        settings = Settings.read(self.path)
        with _reading(self.path):
            newest = self._is_here(settings) and self._dataset.latest_version == self._dataset.version
        if newest:
            self.settings = settings
            return False
        self._load()
        return True

    def close(self) -> None:
        """Let the version that was read be deleted."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def files(self, row: int) -> list[Path]:
        """All files of a photo, the one that ``photos`` tells first."""
        ((_, files),) = to_files(self.photos.slice(row, 1)).items()
        return [Path(file.root, file.path) for file in files]

    def row(self, photo_id: str) -> int | None:
        """The row of a photo by the hash of its content; None where the index does not have it."""
        place = pc.index(self.photos["id"], photo_id).as_py()
        return None if place < 0 else int(place)

    def find(self, path: str | Path) -> int | None:
        """The row of a photo by its path, from its root or as a file; None where the index does not have it.

        A file is known by its content, wherever it is; a path that is no file any more, by what it was in the index.

        Raises:
            HANError: There is such a file, and it cannot be read.
        """
        file = Path(path)
        try:
            if file.is_file():
                return self.row(hash_file(file))
        except OSError as error:
            raise HANError(f"{path}: cannot be read ({error.strerror})") from None
        named, whole = file.as_posix(), file.absolute()
        for row, files in enumerate(to_files(self.photos).values()):
            if any(named == each.path or whole == Path(each.root, each.path) for each in files):
                return row
        return None

    def filter(self, where: str) -> Rows:
        """The rows, in order, that an SQL condition on the columns of ``photos`` holds for.

        Raises:
            HANError: The condition is no SQL, or names other columns; one line that says so.
        """
        try:
            found = self._dataset.scanner(columns=[], filter=where, with_row_id=True).to_table()
        except (ValueError, OSError, RuntimeError, pa.ArrowException) as error:
            reason = " ".join(str(error).split(", /")[0].replace("Invalid user input: ", "").split())
            raise HANError(
                f"the condition {where!r} cannot be used: {reason}; columns are {', '.join(COLUMNS)}"
            ) from None
        return np.flatnonzero(np.isin(self._ids, found["_rowid"].to_numpy()))

    def candidates(self, queries: Tensor, k: int, *, rows: Rows | None = None) -> tuple[Rows, NDArray[np.float32]]:
        """For each pooled query the rows whose pooled vectors are nearest, by one matrix product: exact, best first.

        Args:
            queries: (T, e), as ``pooling.texts`` gives them.
            k: How many; all where there are fewer.
            rows: Only of these.

        Returns:
            (T, k) rows and (T, k) dot products.
        """
        vectors = self.pooled if rows is None else self.pooled[rows]
        # By torch: the threads of numpy's products would spin on beside what comes next.
        products = (queries.detach().float().cpu() @ torch.from_numpy(vectors).T).numpy()  # (T, N)
        k = min(k, len(vectors))
        if k < len(vectors):
            places = np.argpartition(products, len(vectors) - k, axis=1)[:, len(vectors) - k :]
        else:
            places = np.tile(np.arange(k), (len(products), 1))
        near = np.take_along_axis(products, places, axis=1)
        order = np.lexsort((places, -near), axis=1)
        best = np.take_along_axis(places, order, axis=1)
        return best if rows is None else rows[best], np.take_along_axis(near, order, axis=1)

    def tokens(self, rows: Rows | Sequence[int]) -> tuple[Tensor, Tensor]:
        """The tokens of some photos, (K, m, d) float32, zero at padding, and their mask (K, m)."""
        tokens, mask = self.stored_tokens(rows)
        return tokens.load(), mask

    def stored_tokens(self, rows: Rows | Sequence[int]) -> tuple[Tokens, Tensor]:
        """As ``tokens``, in the few bytes that the index keeps them in."""
        return to_tokens(self._take(rows, ["regions", "tokens", "scales"]))

    def regions(self, rows: Rows | Sequence[int]) -> list[PhotoRegions]:
        """Boxes and labels of some photos."""
        table = self._take(rows, ["boxes", "labels"])
        labels = (None if each is None else tuple(each) for each in table["labels"].to_pylist())
        return [PhotoRegions(*each) for each in zip(to_arrays(table["boxes"]), labels, strict=True)]

    def load_model(self, folder: str | Path | None = None, *, device: torch.device | str = "cpu") -> AligningMatcher:
        """The model that made the index, from where it was then or from ``folder``.

        Where `han distil` has been run for it, the index finds its candidates by that from now on.

        Raises:
            HANError: It is not there, or another one is.
        """
        path = model_folder(folder or self.settings.model).expanduser()
        if not path.is_dir():
            raise HANError(f"{path}: the index's model is not there; say where it is: --model MODEL")
        if folder_hash(path) != self.made_by.model:
            raise HANError(
                f"{path}: not the model that {self.path} was made with; name that one with --model, or index anew with "
                f"this one: han index --out {self.path} --model {path} --rebuild"
            )
        self.load_text_map(path)
        return load_aligning_matcher(path).to(device)

    def load_text_map(self, folder: Path) -> None:
        """Find candidates by what `han distil` last wrote into the model's folder, if it did.

        Raises:
            HANError: The file is not what it should be.
        """
        self._text_map = TextMap.read(folder, model=self.made_by.model)
        self._set_pooling()

    def describe(self) -> IndexSummary:
        """What the index holds, in numbers."""
        photos, table = len(self), self.path / self.settings.table
        data_bytes = sum(file.stat().st_size for file in (table / "data").glob("*.lance"))
        dates = [date for date in self.photos["date"].to_pylist() if date]
        return IndexSummary(
            photos=photos,
            files=photos + sum(len(copies or ()) for copies in self.photos["copies"].to_pylist()),
            regions_mean=float(self.photos["regions"].to_numpy().mean()) if photos else 0.0,
            bytes_a_photo=data_bytes / photos if photos else 0.0,
            first_date=min(dates, default=None),
            last_date=max(dates, default=None),
            broken=len(read_broken(table)),
            roots=tuple(self.settings.roots),
            model=self.settings.model,
            model_hash=self.made_by.model,
            detector=self.made_by.detector,
            joint_size=self.made_by.joint_size,
            tokens=self.made_by.storage,
            pooling=self.made_by.pooling,
        )

    def _load(self) -> None:
        """Open the newest version and take in what is new of it; vectors of photos that were here stay."""
        settings, dataset, held, stamp = self._open()
        made_by = read_made_by(self.path, metadata_of(dataset))
        with _reading(self.path):
            table = dataset.to_table(columns=COLUMNS, with_row_id=True)
        ids = table["_rowid"].to_numpy()
        pooled = np.empty((len(ids), made_by.pooled_size), np.float32)
        old = np.zeros(len(ids), bool)
        if self._is_here(settings):
            order = np.argsort(self._ids)
            places = np.searchsorted(self._ids, ids, sorter=order)
            places = order[np.minimum(places, len(order) - 1)] if len(order) else places
            old = self._ids[places] == ids if len(order) else old
            pooled[old] = self.pooled[places[old]]
        with _reading(self.path):
            if old.any():
                new = np.flatnonzero(~old)
                pooled[new] = to_vectors(dataset.take(new, columns=["pooled"])["pooled"])
            else:
                pooled = to_vectors(dataset.to_table(columns=["pooled"])["pooled"])
        self.close()
        self._dataset, self._held, self._ids, self._table = dataset, held, ids, self.path / settings.table
        self._stamp = stamp
        self.settings, self.made_by, self.pooled = settings, made_by, pooled
        self._set_pooling()
        self.photos = table.drop_columns(["_rowid"]).combine_chunks()

    def _is_here(self, settings: Settings) -> bool:
        """Whether the index's table is the one that was read: one that was made anew counts rows and versions again."""
        return self.path / settings.table == self._table and _stamp(self._table, self._dataset.version) == self._stamp

    def _set_pooling(self) -> None:
        size = self.made_by.joint_size
        self.pooling = pooling_for(self.made_by.pooling, joint_size=size, text_map=self._text_map)

    def _open(self) -> tuple[Settings, Any, IO[str] | None, tuple[int, int, int] | None]:
        """The newest version, held, and its stamp: between its being found and held, a writer may have deleted it."""
        for _ in range(_TRIES):
            settings = Settings.read(self.path)
            table = self.path / settings.table
            if not is_table(table):
                continue
            version = open_dataset(table).version
            held, stamp = hold_version(table, version), _stamp(table, version)
            try:
                return settings, open_dataset(table, version=version), held, stamp
            except StoreError:
                if held is not None:
                    held.close()
        raise HANError(f"{self.path}: the index's table cannot be opened; index the photos into a new folder")

    def _take(self, rows: Rows | Sequence[int], columns: list[str]) -> pa.Table:
        with _reading(self.path):
            return self._dataset.take(np.asarray(rows, dtype=np.int64), columns=columns)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Around what reads the table of the index at ``path``.

    It was there when it was opened: somebody has deleted it since, or a writer that does not know that we read, as
    where no lock can be written (a read-only share), or the disk fails.

    Raises:
        Unreadable: It cannot be read.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise Unreadable(
            f"{path}: what was being read is gone or broken ({reason_of(error)}); open the index again, or index anew"
        ) from None


def _stamp(table: Path, version: int) -> tuple[int, int, int] | None:
    """What tells a version of a table from one of the same number made anew in its place; None where it is gone."""
    try:
        status = manifest_path(table, version).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
