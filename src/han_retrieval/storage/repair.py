"""Check a table in full, and mend it: rows that are damaged leave, all others stay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from han_retrieval.errors import StoreError
from han_retrieval.files import write_whole
from han_retrieval.progress import progress_bar
from han_retrieval.storage import hashes
from han_retrieval.storage.checksums import Groups, damaged_rows, has_checksums
from han_retrieval.storage.closing import Closing
from han_retrieval.storage.damage import Damage
from han_retrieval.storage.failures import is_failure, reading
from han_retrieval.storage.table import Table
from han_retrieval.storage.versions import open_unchecked, open_version, versions

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 64  # in memory at a time


def check_table(path: Path, checksums: Groups, *, mend: str, progress: bool = False) -> list[Damage]:
    """Read all of the newest version of a table.

    Args:
        path: Its folder.
        checksums: The columns of checksums, and what they cover.
        mend: How to mend it, in words.
        progress: Show a progress bar on standard error.

    Returns:
        What is damaged; nothing where everything is as it was written.
    """
    numbers = _numbers(path)
    if not numbers:
        return [Damage(path, "has no version", "make it anew")]
    try:
        damage = _of_version(path, numbers[0])
        if not damage:
            damage = [each for each, _ in _of_fragments(path, _open(path, numbers[0]), checksums, progress=progress)]
    except StoreError as error:
        return [Damage(path, str(error).removeprefix(f"{path}: ").rpartition("; ")[0], mend)]
    return [replace(each, mend=mend) for each in damage]


def check_opens(path: Path, open_it: Callable[[Path], Closing], *, mend: str) -> list[Damage]:
    """Open a store or an index, for what the files of its table do not tell: the damage that refuses it, if any."""
    try:
        open_it(path).close()
    except StoreError as error:
        return [Damage(path, str(error).removeprefix(f"{path}: "), mend)]
    return []


def unchecked(path: Path, checksums: Groups) -> str | None:
    """What a check cannot tell of a table that was made before there were checksums; None if it can tell all."""
    try:
        names = _open(path, versions(path)[0]).schema.names
    except (StoreError, IndexError):
        return None  # it is damaged, as a check says
    return None if has_checksums(names, checksums) else "the values of its rows, as they have no checksums"


def repair_table(path: Path, checksums: Groups, *, versions_held: bool) -> list[str]:
    """Mend a table, whose writer's lock the caller holds.

    Returns:
        What was done, a line each; none where there was nothing to do.

    Raises:
        StoreError: It cannot be mended; what is there is kept.
    """
    numbers = _numbers(path)
    if not numbers:
        raise StoreError(f"{path}: it has no version, so that nothing can be mended; make it anew")
    done = _restore_manifest(path, numbers)
    number = versions(path)[0]
    dataset = _open(path, number)
    damage = list(_of_fragments(path, dataset, checksums))
    bad = {fragment for _, fragment in damage}
    if bad:
        before = dataset.count_rows()
        table = Table(path, checksums=checksums, versions_held=versions_held, dataset=dataset)
        table.replace(bad, _rescued(path, dataset, bad, checksums))
        done += [f"{each.path}: {each.what}" for each, _ in damage]
        lost = before - len(table)
        done.append(f"{path}: {lost:,} of {before:,} rows were damaged and left it; the others are there")
    if done:
        Table(path, checksums=checksums, versions_held=versions_held).begin_writing()
    return done


def _numbers(path: Path) -> list[int]:
    """The versions, the newest first; also those whose manifest is gone."""
    return sorted({*versions(path), *hashes.recorded(path)}, reverse=True)


def _restore_manifest(path: Path, numbers: list[int]) -> list[str]:
    """Put a manifest that is damaged back from its copy, or go back to the version before."""
    number = numbers[0]
    manifest, copy = hashes.manifest_path(path, number), hashes.copy_path(path, number)
    try:
        known = hashes.read_hashes(path, number)
    except FileNotFoundError:
        known = None
    except StoreError:
        with reading(path):
            if not copy.exists() or copy.read_bytes() != manifest.read_bytes():
                raise StoreError(
                    f"{path}: the hashes of its files and its manifest {manifest.name} are damaged; it cannot be "
                    "mended; make it anew"
                ) from None
            hashes.forget(path, numbers[1:])
        return [f"{path}: the hashes of its files were damaged; written anew"]
    if known is None:
        if _opens(path, number):
            return []
    elif not hashes.check_manifest(path, number, known):
        if copy.exists() and copy.read_bytes() == manifest.read_bytes():
            return []
        write_whole(copy, manifest.read_bytes())
        return [f"{copy}: was damaged; copied again"]
    elif copy.exists() and hashes.is_manifest(copy.read_bytes(), known):
        manifest.parent.mkdir(exist_ok=True)
        write_whole(manifest, copy.read_bytes())
        return [f"{manifest}: was damaged; put back from its copy"]
    older = next((each for each in numbers[1:] if _opens(path, each)), None)
    if older is None:
        raise StoreError(f"{manifest}: is damaged, without a version before it; it cannot be mended; make it anew")
    for each in numbers[: numbers.index(older)]:
        hashes.manifest_path(path, each).unlink(missing_ok=True)
    hashes.forget(path, versions(path))
    return [f"{manifest}: was damaged; the version before it is the newest now"]


def _of_version(path: Path, number: int) -> list[Damage]:
    """Damage of the manifest and its copy."""
    with reading(path):
        try:
            known = hashes.read_hashes(path, number)
        except FileNotFoundError:
            return []
        found = hashes.check_manifest(path, number, known)
        copy = hashes.copy_path(path, number)
        is_copy = copy.exists() and hashes.is_manifest(copy.read_bytes(), known)
        return [each for each in (found, None if is_copy else Damage(copy, "is not as it was written", "")) if each]


def _of_fragments(
    path: Path, dataset: Any, checksums: Groups, *, progress: bool = False
) -> Iterator[tuple[Damage, int]]:
    """Damage of the files of a version, and the number of the fragment that has the file."""
    files = hashes.read_hashes(path, dataset.version).files if hashes.is_recorded(path, dataset.version) else {}
    fragments = list(_fragments(dataset))
    for fragment, places in progress_bar(fragments, desc="checking", unit="file", show=progress):
        names = list(hashes.names_of(fragment.metadata))
        known = (hashes.check_file(path / name, files[name], whole=True) for name in names if name in files)
        found = next((each for each in known if each is not None), None)
        if found is None:
            missing = len(places) - sum(len(rows) for rows in _sound(dataset, places, checksums))
            what = f"{missing:,} of its {len(places):,} rows are not as they were written"
            found = Damage(path / names[0], what, "") if missing else None
        if found is not None:
            yield found, fragment.fragment_id


def _fragments(dataset: Any) -> Iterator[tuple[Any, range]]:
    """The fragments, with the places of their rows in the dataset, by the manifest alone."""
    first = 0
    for fragment in dataset.get_fragments():
        deletions = fragment.metadata.deletion_file
        count = fragment.physical_rows - (0 if deletions is None else deletions.num_deleted_rows)
        yield fragment, range(first, first + count)
        first += count


def _sound(dataset: Any, places: range, checksums: Groups) -> Iterator[pa.Table]:
    """The rows at some places that can be read and fit their checksums, some at a time."""
    for first in range(0, len(places), _ROWS):
        part = places[first : first + _ROWS]
        rows = _take(dataset, part)
        for each in [rows] if rows is not None else (_take(dataset, [place]) for place in part):
            if each is not None:
                yield each.filter(~damaged_rows(each, checksums))


def _take(dataset: Any, places: Sequence[int]) -> pa.Table | None:
    """Rows, or None where they cannot be read."""
    try:
        return dataset.take(list(places))
    except BaseException as error:
        if not is_failure(error):
            raise
        return None


def _rescued(path: Path, dataset: Any, bad: Collection[int], checksums: Groups) -> Iterator[pa.RecordBatch]:
    """The sound rows of fragments that are damaged; none where no checksum tells which these are."""
    if not has_checksums(dataset.schema.names, checksums):
        return
    known = hashes.read_hashes(path, dataset.version).files if hashes.is_recorded(path, dataset.version) else {}
    for fragment, places in _fragments(dataset):
        names = [name for name in hashes.names_of(fragment.metadata) if name in known]
        # Where the end of a file or a deletion file is damaged, no row of it can be told.
        is_whole = not any(hashes.quick_check(path, name, known[name]) for name in names)
        if fragment.fragment_id in bad and is_whole:
            for rows in _sound(dataset, places, checksums):
                yield from rows.to_batches()


def _open(path: Path, number: int) -> Any:
    """A version, whether or not its files are as they were written."""
    with reading(path):
        return open_unchecked(path, number)


def _opens(path: Path, number: int) -> bool:
    try:
        open_version(path, number)
    except StoreError:
        return False
    return True
