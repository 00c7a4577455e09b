"""Read an index: the columns of photos are in memory, and pooled vectors without a vector index; the rest is fetched.

A row is a photo's place in ``photos``, from 0. Rows stay valid until ``refresh`` returns true.

Legend: N photos, K rows, T queries, m regions, d numbers a token, e numbers a pooled vector.
"""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from han_retrieval.clock import Clock
from han_retrieval.data.url_path import UrlPath, is_url
from han_retrieval.errors import DataError, ModelError, StoreError
from han_retrieval.files import from_home
from han_retrieval.matchers.saving import CONFIG, VOCABULARY, WEIGHTS, folder_hash, model_folder
from han_retrieval.objects import to_path
from han_retrieval.search.conditions import check_condition, refusal
from han_retrieval.search.opened import Opened, open_newest, reading
from han_retrieval.search.photo import hash_file
from han_retrieval.search.pooling import TextMap, make_pooling
from han_retrieval.search.rows import CHECKSUMS, columns_of, files_of, to_tokens, with_all_columns
from han_retrieval.search.scan import path_of
from han_retrieval.search.settings import Settings
from han_retrieval.search.summary import IndexSummary, summarise_index
from han_retrieval.search.table import MadeBy, read_made_by
from han_retrieval.search.vector_index import usable
from han_retrieval.search.vectors import InMemory, OnDisk, Rows, Vectors, read_vectors
from han_retrieval.storage.arrays import to_arrays
from han_retrieval.storage.closing import Closing
from han_retrieval.storage.folder_checksums import refuse_damage
from han_retrieval.storage.sound import SoundRows, read_all, read_sound
from han_retrieval.storage.versions import metadata_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from han_retrieval.matchers import AligningMatcher
    from han_retrieval.scoring import Tokens
    from han_retrieval.search.prepared import PreparedPhotos, StoredPhotos

    Score = Callable[[StoredPhotos], list[Tensor]]

_PHOTOS_AT_ONCE = 256

_MOST_PREPARED = 1024  # photos of a search; one of more would put out what the others need


class PhotoRegions(NamedTuple):
    """Boxes (m, 4) x0 y0 x1 y1 in pixels of the upright photo and m labels, each None if the detector gave none."""

    boxes: np.ndarray | None
    labels: tuple[str, ...] | None


class IndexReader(Closing):
    """One version of an index, for reading; all but ``refresh`` and ``close`` may be called from several threads.

    Args:
        path: The index's folder, or its place in object storage, such as s3://bucket/index.

    Attributes:
        path: Its absolute path.
        settings: The content of ``index.json``.
        made_by: The model, the detector and the storage that the index was made with.
        photos: An Arrow table with a row a photo: id, root, path, folder, mtime (ns), copies (further files), size,
            width, height, date, camera, regions (their number m), text, latitude, longitude, place.
        vectors: The pooled vectors of photos.
        pooling: Makes the pooled vectors of photos and queries.

    Raises:
        StoreError: There is nothing at ``path``, no index, or one of another format.
    """

    made_by: MadeBy
    photos: pa.Table
    vectors: Vectors
    _uses_vector_index = True

    def __init__(self, path: str | Path) -> None:
        self.path = from_home(path).absolute()
        self._opened: Opened | None = None
        self._ids: NDArray[np.uint64] = np.empty(0, np.uint64)  # row ids of the table, which stay with a photo
        self._photos_dataset: Any = None
        self._text_map: TextMap | None = None
        self._prepared: PreparedPhotos | None = None
        self._load()

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def pooled(self) -> NDArray[np.float32]:
        """The pooled vectors of all photos, (N, e) float32, of unit length; in memory from then on."""
        with reading(self.path):
            return self.vectors.all()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {len(self)} photos)"

    def refresh(self) -> bool:
        """Read what others have committed to the index since; rows change then.

        Returns:
            Whether there was anything new.

        Raises:
            StoreError: The index is gone, or cannot be read any more.
        """
        settings = Settings.read(self.path)
        with reading(self.path):
            is_newest = self._opened is not None and self._opened.is_newest(self.path / settings.table)
        if is_newest:
            self.settings = settings
            return False
        self._load()
        return True

    def close(self) -> None:
        """Release the version that was read, so that it may be deleted."""
        if self._opened is not None:
            self._opened.close()

    def files(self, row: int) -> list[Path | UrlPath]:
        """All files of a photo; the first is the one in ``photos``."""
        (files,) = files_of(self.photos.slice(row, 1))
        return [path_of((file.root, file.path)) for file in files]

    def row(self, photo_id: str) -> int | None:
        """The row of the photo whose content has this hash; None if the index does not have it."""
        place = pc.index(self.photos["id"], photo_id).as_py()
        return None if place < 0 else int(place)

    def find(self, path: str | Path) -> int | None:
        """The row of a photo by its path; None if the index does not have it.

        A file is recognised by its content, wherever it is. A path without a file is looked up in the index; see
        ``named``.

        Raises:
            DataError: The file cannot be read.
        """
        file = to_path(path)
        try:
            if file.is_file():
                return self.row(hash_file(file))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        return self.named(path)

    def named(self, name: str | Path) -> int | None:
        """The row of a photo by its id or by a path that the index has, absolute or from its root; None if it has none.

        No file is looked at.
        """
        if (row := self.row(str(name))) is not None:
            return row
        file = to_path(name)
        named, whole = str(name) if is_url(str(name)) else file.as_posix(), file.absolute()
        # Only files of its name, and what has copies, are looked at one by one. Paths of Windows are equal in any case.
        last, paths = named.rpartition("/")[2], self.photos["path"]
        alike = pc.or_(pc.equal(pc.utf8_lower(paths), last.lower()), pc.ends_with(paths, f"/{last}", ignore_case=True))
        rows = np.flatnonzero(pc.or_(alike, pc.is_valid(self.photos["copies"])).to_numpy())
        for row, files in zip(rows.tolist(), files_of(self.photos.take(rows)), strict=True):
            if any(named == each.path or whole == path_of((each.root, each.path)) for each in files):
                return int(row)
        return None

    def filter(self, where: str) -> Rows:
        """The rows, ascending, of the photos that meet an SQL condition on the columns of ``photos``.

        Raises:
            QueryError: The condition is no SQL, or holds more than ``check_condition`` allows.

        Example:
            >>> index.filter("date >= '2024' and width > height")
        """
        condition = check_condition(where)
        try:
            found = self._facts().scanner(columns=[], filter=condition, with_row_id=True).to_table()
        except (ValueError, OSError, RuntimeError, pa.ArrowException) as error:
            reason = " ".join(str(error).split(", /")[0].replace("Invalid user input: ", "").split())
            raise refusal(where, reason) from None
        return np.sort(found["_rowid"].to_numpy()).astype(np.int64)

    def _facts(self) -> Any:
        """``photos`` as a dataset in memory, whose row ids are the rows; what the disk has may have changed since."""
        if self._photos_dataset is None:
            import lance

            place = f"memory://{uuid.uuid4().hex}"
            self._photos_dataset = lance.write_dataset(self.photos, place, enable_stable_row_ids=True)
        return self._photos_dataset

    def nearest(self, queries: Tensor, k: int, *, rows: Rows | None = None, where: str | None = None) -> Rows:
        """The k rows whose pooled vectors have the largest dot products with each query, best first: (T, k).

        From a vector index come nearly these. The arguments are those of ``candidates``.
        """
        condition = None if where is None else check_condition(where)
        with reading(self.path):
            return self.vectors.nearest(queries, k, rows=rows, where=condition)

    def candidates(
        self, queries: Tensor, k: int, *, rows: Rows | None = None, where: str | None = None
    ) -> tuple[Rows, NDArray[np.float32]]:
        """As ``nearest``, with the products.

        Args:
            queries: (T, e), as ``pooling.sentences`` gives them.
            k: The number of rows; all where there are fewer.
            rows: Search only these.
            where: The condition that ``rows`` meet, by which a vector index is searched.

        Returns:
            (T, k) rows and (T, k) dot products.
        """
        found = self.nearest(queries, k, rows=rows, where=where)
        with reading(self.path):
            pairs = zip(found, queries.detach().float().cpu().numpy(), strict=True)
            return found, np.stack([self.vectors.take(each) @ query for each, query in pairs])

    def pooled_of(self, row: int) -> NDArray[np.float32]:
        """The pooled vector (1, e) of a photo."""
        with reading(self.path):
            return self.vectors.take(np.array([row]))

    @property
    def missing(self) -> int:
        """How many photos the last search could not ask: none where one process has the whole index."""
        return 0

    def begin_search(self) -> None:
        """Called before each search."""

    def scores(self, rows: Rows, score: Score, *, clock: Clock) -> tuple[Rows, NDArray[np.float32]]:
        """The scores of photos, which are read some at a time and kept as they are stored.

        Args:
            rows: The photos.
            score: Gives P rows of (k,) scores for some of them.
            clock: Measures the steps.

        Returns:
            The rows that were scored, here all, and their scores (P, K).

        Raises:
            StoreError: A score is not finite.
        """
        import torch

        from han_retrieval.search.prepared import PreparedPhotos, StoredPhotos

        if self._prepared is None:
            self._prepared = PreparedPhotos()
        prepared = self._prepared if len(rows) <= _MOST_PREPARED else None
        parts = []
        for first in range(0, max(len(rows), 1), _PHOTOS_AT_ONCE):
            some = rows[first : first + _PHOTOS_AT_ONCE].tolist()
            with clock("fetch"):
                photos = StoredPhotos(some, self.stored_tokens, prepared, clock=clock)
            with clock("rank"):
                parts.append(torch.stack(score(photos)).float().cpu().numpy())
        scores = np.concatenate(parts, axis=1)
        wrong = np.flatnonzero(~np.isfinite(scores.sum(0)))
        if len(wrong):
            raise StoreError(f"{self.files(int(rows[wrong[0]]))[0]}: its score is not finite; index anew: --rebuild")
        return rows, scores

    def tokens(self, rows: Rows | Sequence[int]) -> tuple[Tensor, Tensor]:
        """The tokens of some photos, (K, m, d) float32, zero at padding, and their mask (K, m)."""
        tokens, mask = self.stored_tokens(rows)
        return tokens.load(), mask

    def stored_tokens(self, rows: Rows | Sequence[int]) -> tuple[Tokens, Tensor]:
        """As ``tokens``, but int8 or float16, as the index stores them."""
        return to_tokens(self.take(rows, ["tokens", "scales"]))

    def regions(self, rows: Rows | Sequence[int]) -> list[PhotoRegions]:
        """Boxes and labels of some photos."""
        table = self.take(rows, ["boxes", "labels"])
        labels = (None if each is None else tuple(each) for each in table["labels"].to_pylist())
        return [PhotoRegions(*each) for each in zip(to_arrays(table["boxes"]), labels, strict=True)]

    def region_names(self) -> list[str]:
        """The names that the detector gave to regions, each once, the most frequent first; none where it gives none."""
        with reading(self.path):
            rows = read_all(self._dataset, ["boxes", "labels"])
            self._sound.require(range(len(self)), rows)
            column = rows["labels"]
        counts = pc.value_counts(column.combine_chunks().flatten()).to_pylist()
        return [each["values"] for each in sorted(counts, key=lambda each: (-each["counts"], each["values"]))]

    def load_model(self, folder: str | Path | None = None, *, device: torch.device | str = "cpu") -> AligningMatcher:
        """Load the model that made the index, and the map of `han distil` if its folder has one.

        Args:
            folder: Where the model is, if it was moved since.
            device: Where it runs.

        Raises:
            ModelError: It is not there, or it is another model.
        """
        from han_retrieval.matchers import load_aligning_matcher

        path = model_folder(folder or self.settings.model)
        if not path.is_dir():
            raise ModelError(f"{path}: the index's model is not there; say where it is: --model MODEL")
        if folder_hash(path) != self.made_by.model:
            refuse_damage(path, [CONFIG, WEIGHTS, VOCABULARY])
            anew = shlex.join(["han", "index", "--out", str(self.path), "--model", str(path), "--rebuild"])
            raise ModelError(
                f"{path}: not the model that {self.path} was made with; name that one with --model, or index anew with "
                f"this one: {anew}"
            )
        self.load_text_map(path)
        return load_aligning_matcher(path).to(device)

    def load_text_map(self, folder: Path) -> None:
        """Choose candidates with the map that `han distil` wrote into the model's folder, if there is one.

        Raises:
            ModelError: The file cannot be read.
        """
        self._text_map = TextMap.read(folder, model=self.made_by.model, size=self.made_by.joint_size)
        self.pooling = make_pooling(self.made_by.pooling, self._text_map)

    def describe(self) -> IndexSummary:
        """What the index holds, in numbers."""
        return summarise_index(self)

    def _load(self) -> None:
        """Open the newest version; only vectors of photos that are new are read."""
        opened = open_newest(self.path)
        try:
            self._read(opened.settings, opened.dataset)
        except BaseException:
            opened.close()
            raise
        self.close()
        self._opened = opened

    def _read(self, settings: Settings, dataset: Any) -> None:
        """Read the columns that are kept in memory."""
        made_by = read_made_by(self.path, metadata_of(dataset))
        table = read_sound(self.path / settings.table, dataset, [*columns_of(dataset.schema), "_rowid"], CHECKSUMS)
        sound = SoundRows(self.path / settings.table, table, CHECKSUMS)
        ids = table["_rowid"].to_numpy()
        vectors = self._read_vectors(settings, dataset, ids, sound, made_by.pooled_size)
        self._dataset, self._ids, self._sound = dataset, ids, sound
        self.settings, self.made_by, self.vectors = settings, made_by, vectors
        self.pooling = make_pooling(made_by.pooling, self._text_map)
        self.photos, self._photos_dataset = with_all_columns(table).combine_chunks(), None
        self._prepared = None

    def _read_vectors(
        self, settings: Settings, dataset: Any, ids: NDArray[np.uint64], sound: SoundRows, size: int
    ) -> Vectors:
        """The pooled vectors: on the disk if there is a vector index, else in memory."""
        segments = usable(self.path / settings.table, dataset) if self._uses_vector_index else None
        if segments is not None:
            return OnDisk(dataset, ids, sound, segments)
        with reading(self.path):
            return InMemory(self._read_pooled(settings, dataset, ids, sound, size))

    def _read_pooled(
        self, settings: Settings, dataset: Any, ids: NDArray[np.uint64], sound: SoundRows, size: int
    ) -> NDArray[np.float32]:
        """The pooled vectors; only those of photos that are not in memory yet are read."""
        old = np.zeros(len(ids), bool)
        is_grown = self._opened is not None and self._opened.is_in(self.path / settings.table)
        if is_grown and isinstance(self.vectors, InMemory) and len(self._ids):
            order = np.argsort(self._ids)
            places = np.searchsorted(self._ids, ids, sorter=order)
            places = order[np.minimum(places, len(order) - 1)]
            old = self._ids[places] == ids
        if not old.any():
            return read_vectors(dataset, None, sound)
        new = read_vectors(dataset, np.flatnonzero(~old), sound)
        pooled = np.empty((len(ids), size), np.float32)
        pooled[old], pooled[~old] = self.pooled[places[old]], new
        return pooled

    def take(self, rows: Rows | Sequence[int], columns: list[str]) -> pa.Table:
        """Columns of some photos, as the table has them, checked."""
        with reading(self.path):
            table = self._dataset.take(np.asarray(rows, dtype=np.int64), columns=columns)
            self._sound.require(rows, table)
            return table
