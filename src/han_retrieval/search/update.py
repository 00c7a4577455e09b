"""Make an index of folders of photos, and bring it up to date: only photos that are new, changed, moved or gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from han_retrieval.data.manifest import is_list
from han_retrieval.errors import DataError, StoreError
from han_retrieval.files import from_home
from han_retrieval.matchers import DEFAULT_MODEL, AligningMatcher
from han_retrieval.objects import to_path
from han_retrieval.regions import Detector
from han_retrieval.search.additions import Additions
from han_retrieval.search.files import EncodeFiles, encode_files
from han_retrieval.search.maker import Maker
from han_retrieval.search.pooling import POOLINGS
from han_retrieval.search.report import IndexReport
from han_retrieval.search.rows import DEFAULT_STORAGE
from han_retrieval.search.scan import Place, Scan, follow, path_of, resolve_roots, scan
from han_retrieval.search.settings import Patterns, Settings, is_index
from han_retrieval.search.table import PhotoTable
from han_retrieval.search.tables import (
    FIRST,
    make_folder,
    next_name,
    open_or_create,
    refuse_filled,
    remove_begun,
    remove_old,
)
from han_retrieval.search.vector_index import EXACT_UP_TO
from han_retrieval.stages import StageTimes, stage
from han_retrieval.storage.locks import WriterLock


def index_photos(
    roots: Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Path | None = None,
    loaded: AligningMatcher | None = None,
    detector: Detector | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    forget: Sequence[str | Path] = (),
    storage: str | None = None,
    candidates: str | None = None,
    exact_up_to: int | None = None,
    rebuild: bool = False,
    device: torch.device | str = "cpu",
    batch_size: int = 8,
    threads: int = 2,
    encoder: Callable[[Maker], EncodeFiles] | None = None,
    progress: bool = False,
) -> IndexReport:
    """Make an index of the photos below some folders, or bring it up to date.

    An interrupt keeps what was done so far. Where all photos are broken, no new index is made, and the report says why.
    A killed run loses at most the photos of its last commit.

    Args:
        roots: Folders, here or in object storage, or lists of photos (see ``data/manifest``); none means all that are
            indexed already. Photos of other indexed folders stay as they are.
        out: The index's folder, or its place in object storage, such as s3://bucket/index.
        model: The model's folder; by default the model of the index, or the one that ships.
        loaded: That model, if it is loaded already.
        detector: Finds regions; by default the detector that the model was trained with.
        include, exclude: Patterns for ``roots``, see ``scan``; where neither is given, those of before hold.
        forget: Folders to remove from the index.
        storage: How tokens are stored, "int8" (the default) or "float16".
        candidates: What chooses the candidates of a search, the "mean" of the tokens (the default) or the vectors that
            the towers of the model give, "pooled".
        exact_up_to: The number of photos above which candidates come from a vector index; by default that of the index,
            or ``EXACT_UP_TO``.
        rebuild: Build the index anew beside the present one, then switch. A rebuild that was stopped is resumed.
        device: Where the model runs.
        batch_size: The most photos that the detector gets at once; twice as many are in memory. Large photos are fewer
            at a time: some 250 million pixels are in memory at once.
        threads: Threads that read and decode photos ahead of the detector.
        encoder: Makes what reads and encodes the files; by default this process does.
        progress: Show photos/s and the time left on stderr.

    Raises:
        DataError: A folder is missing or holds no photo.
        StoreError: The index was made with another model, detector or storage, another process is writing to it, or
            ``out`` is no index.
        ModelError: The model is missing, or does not say which detector it needs.
        QueryError: No folder is named, or ``forget`` names one that is not indexed.

    Example:
        >>> index_photos(["~/photos"], "index", progress=True).added
    """
    started = time.perf_counter()
    out = from_home(out).absolute()
    patterns = Patterns(include=tuple(include), exclude=tuple(exclude))
    with ExitStack() as stack:
        before = None
        if is_index(out):
            stack.enter_context(WriterLock(out))
            before = Settings.read(out)
        given = resolve_roots(roots, before.roots if before else ())
        follows = follow(before, given, forget, patterns)
        rebuild = rebuild and before is not None
        scanned = follows if rebuild or not given else {root: follows[root] for root in given}
        found = _scan(scanned, before)
        made_by = PhotoTable(out / before.table).made_by if before and None in (storage, candidates) else None
        storage = storage or (made_by.storage if made_by else DEFAULT_STORAGE)
        candidates = candidates or (made_by.pooling if made_by else POOLINGS[0])
        if exact_up_to is None:
            exact_up_to = before.exact_up_to if before else EXACT_UP_TO
        name = model or (before.model if before else DEFAULT_MODEL)
        maker = Maker.load(name, model=loaded, detector=detector, storage=storage, candidates=candidates, device=device)
        if before is None or rebuild:
            maker.try_out()  # refused before the index is begun
        if before is None:
            settings, table = _begin(out, maker, follows, stack)
            settings = settings.model_copy(update={"exact_up_to": exact_up_to})
        else:
            remove_old(out, before.table)
            place = next_name(before.table) if rebuild else before.table
            settings = Settings(table=place, model=maker.name, roots=follows, exact_up_to=exact_up_to)
            table = open_or_create(out / place, maker.made_by) if rebuild else _require(out / place, maker)
        if not rebuild:
            # A folder is forgotten once its photos have left: until then, the same command can be given again.
            until_then = {**before.roots, **follows} if before else follows
            settings.model_copy(update={"roots": until_then}).write(out)
        additions = Additions(table, found, lambda root: root in scanned or root not in follows)
        here = partial(encode_files, maker, batch_size=batch_size, threads=threads, where=found.path)
        encode = here if encoder is None else encoder(maker)
        times = StageTimes(parallel=("network", "encode"))
        with stage("other"):
            additions.run(encode, exact_up_to=exact_up_to, progress=progress)
        if rebuild:
            assert before is not None
            _require_all(PhotoTable(out / before.table), table, additions.unread, found)
        photos = len(table)
        if before is None and not photos and not additions.unread:  # what is unread is tried again
            remove_begun(out)
        if rebuild or forget:
            settings.write(out)
        if rebuild:
            remove_old(out, settings.table)
        return IndexReport(
            photos=photos,
            added=additions.added,
            moved=len(additions.moved),
            removed=additions.removed,
            broken=additions.broken + found.left_out,
            unread=[(str(path_of(place)), reason) for place, reason in sorted(additions.unread.items())],
            unreadable=[str(folder) for folder in found.unreadable],
            seconds=time.perf_counter() - started,
            processor_seconds={name: round(seconds, 3) for name, seconds in times.seconds().items()},
        )


def create_index(
    out: str | Path,
    *,
    model: str | Path = DEFAULT_MODEL,
    loaded: AligningMatcher | None = None,
    detector: Detector | None = None,
    storage: str = DEFAULT_STORAGE,
    candidates: str = POOLINGS[0],
) -> None:
    """Make an empty index, to which ``index_photos`` adds photos; the arguments are those of ``index_photos``.

    Raises:
        StoreError: There is an index or something else at ``out``, or the folder cannot be made.
        ModelError: The model is missing, or does not say which detector it needs.
    """
    out = from_home(out).absolute()
    if is_index(out):
        raise StoreError(f"{out}: is an index already; open it, or choose a new folder")
    maker = Maker.load(model, model=loaded, detector=detector, storage=storage, candidates=candidates)
    with ExitStack() as stack:
        settings, _ = _begin(out, maker, {}, stack)
        settings.write(out)


def _begin(out: Path, maker: Maker, follows: dict[str, Patterns], stack: ExitStack) -> tuple[Settings, PhotoTable]:
    """The settings and the table of a new index, locked for as long as the stack is open."""
    make_folder(out)
    stack.enter_context(WriterLock(out))
    refuse_filled(out)
    remove_old(out, FIRST)
    return Settings(table=FIRST, model=maker.name, roots=follows), open_or_create(out / FIRST, maker.made_by)


def _scan(roots: dict[str, Patterns], before: Settings | None) -> Scan:
    """The photos in some folders; a folder without a photo is an error, since it may be a disk that is not mounted."""
    found = scan(roots)
    with_photos = {root for root, _ in found.files}
    for root in roots:
        if root in with_photos:
            continue
        patterns = roots[root]
        through = " that --include and --exclude let through" if patterns.include or patterns.exclude else ""
        what = f"no photo in it or below it{through}" if to_path(root).is_dir() else "no such folder"
        if is_list(root):
            what = f"none of its photos is there{through}"
        # New patterns may be mistaken, which is no reason to remove photos.
        known = before is not None and root in before.roots and (not through or before.roots[root] == patterns)
        mend = "; if its photos are to leave the index: --forget" if known else ""
        raise DataError(f"{root}: {what}{mend}")
    return found


def _require(path: Path, maker: Maker) -> PhotoTable:
    """The table at ``path``, if it was made with what this update uses."""
    table = PhotoTable(path)
    was, now = table.made_by, maker.made_by
    if was == now:
        return table
    what = {
        "model": f"{maker.name} is not the model that it was made with",
        "detector": f"it was made with the detector {was.detector!r}, not {now.detector!r}",
        "storage": f"it keeps tokens as {was.storage}, not {now.storage}",
        "pooling": f"its candidates are chosen by {was.pooling}, not by {now.pooling}",
    }
    differs = [text for name, text in what.items() if getattr(was, name) != getattr(now, name)]
    raise StoreError(
        f"{path.parent}: {differs[0] if differs else 'its vectors are of another size'}; --rebuild makes it anew, "
        "beside the present one, and then switches"
    )


def _require_all(old: PhotoTable, new: PhotoTable, unread: dict[Place, str], found: Scan) -> None:
    """Check that a new table lacks no photo of the old one because its file cannot be read now."""
    there, _ = new.files()
    places = [
        (each.root, each.path) for photo_id, files in old.files()[0].items() if photo_id not in there for each in files
    ]
    lost = [place for place in places if place in unread or found.overlooks(place)]
    if lost:
        reason = unread.get(lost[0], "is below a folder that cannot be listed")
        raise StoreError(
            f"{path_of(lost[0])}: {reason}, as are {len(lost) - 1:,} other files of the present index, which "
            "therefore stays; give the command again when they can be read, or move them out of their folders"
        )
