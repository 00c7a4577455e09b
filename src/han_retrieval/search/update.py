"""Folders of photos to an index, and again: only what is new, changed, moved or gone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from han_retrieval.errors import HANError
from han_retrieval.matchers import DEFAULT_MODEL, AligningMatcher, load_aligning_matcher, model_folder
from han_retrieval.matchers.saving import folder_hash
from han_retrieval.regions import Detector, detector_for
from han_retrieval.search.additions import Additions
from han_retrieval.search.encode import Encoder
from han_retrieval.search.pooling import MeanPooling, pooling_for
from han_retrieval.search.rows import STORAGES
from han_retrieval.search.scan import Scan, resolve_roots, root_name, scan
from han_retrieval.search.settings import Patterns, Settings, is_index
from han_retrieval.search.table import MadeBy, PhotoTable
from han_retrieval.search.tables import FIRST, make_folder, next_name, open_or_create, remove_old
from han_retrieval.storage.locks import WriterLock

DEFAULT_STORAGE = "int8"


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What a run did to an index.

    Attributes:
        photos: In the index now; files of the same content are one photo.
        added: New ones.
        moved: Those whose files changed: renamed, moved, touched, copied, or one copy fewer.
        removed: Those without a file now.
        broken: Files that are no photos of it, with the reason, those of earlier runs included.
        heif: Photos that pillow-heif would read, and is not there to.
        unreadable: Folders that could not be listed; what was known below them stays.
        seconds: Wall-clock time.
    """

    photos: int
    added: int
    moved: int
    removed: int
    broken: list[tuple[str, str]]
    heif: int
    unreadable: list[str]
    seconds: float


def index_photos(
    roots: Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Path | None = None,
    detector: Detector | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    forget: Sequence[str | Path] = (),
    storage: str | None = None,
    rebuild: bool = False,
    device: torch.device | str = "cpu",
    batch_size: int = 8,
    threads: int = 2,
    progress: bool = False,
) -> IndexReport:
    """Make an index of the photos below some folders, or bring it up to date.

    An interrupt keeps what was done so far, and a killed run loses the photos of its last commit at most.

    Args:
        roots: The folders; none for those that the index follows. Photos of others of its folders stay as they are.
        out: The index's folder.
        model: The model's folder; by default the one that made the index, or the one that ships.
        detector: What finds regions; the one that the model was trained with by default.
        include, exclude: Patterns, as ``scan`` has them, for ``roots``; where these are not given, those of before.
        forget: Folders that the index shall follow no longer.
        storage: How tokens are kept, "int8" (the default) or "float16".
        rebuild: Build anew, beside what is there, then switch; a rebuild that was stopped is gone on with.
        device: Where the model encodes.
        batch_size: Photos that the detector gets at once; twice as many are in memory.
        threads: Threads that read and decode photos ahead of the detector.
        progress: Show photos/s and time left on stderr.

    Raises:
        HANError: A folder is missing or holds no photo; the index was made with another model, detector or storage, is
            being written to, or is none; the model is missing or does not say which detector it needs.
    """
    started = time.perf_counter()
    out = Path(out).absolute()
    patterns = Patterns(include=tuple(include), exclude=tuple(exclude))
    with ExitStack() as stack:
        before = _lock(out, stack) if is_index(out) else None
        given = resolve_roots(roots, before.roots if before else ())
        follows = _follow(before, given, forget, patterns)
        rebuild = rebuild and before is not None
        scanned = follows if rebuild or not given else {root: follows[root] for root in given}
        found = _scan(scanned, before)
        maker = _Maker.load(out, before, model, detector, storage, device)
        if before is None:
            make_folder(out)
            stack.enter_context(WriterLock(out))
            settings = Settings(table=FIRST, model=maker.name, roots=follows)
            table = open_or_create(out / FIRST, maker.made_by)
        else:
            remove_old(out, before.table)
            name = next_name(before.table) if rebuild else before.table
            settings = Settings(table=name, model=maker.name, roots=follows)
            table = open_or_create(out / name, maker.made_by) if rebuild else _require(out / name, maker)
        if not rebuild:
            settings.write(out)
        additions = Additions(table, found, lambda root: root in scanned or root not in follows)
        additions.run(maker.encoder(), batch_size=batch_size, threads=threads, progress=progress)
        if rebuild:
            settings.write(out)
            remove_old(out, settings.table)
        return IndexReport(
            photos=len(table),
            added=additions.added,
            moved=len(additions.moved),
            removed=additions.removed,
            broken=additions.broken + found.unnamed,
            heif=found.heif,
            unreadable=[str(folder) for folder in found.unreadable],
            seconds=time.perf_counter() - started,
        )


@dataclass(frozen=True)
class _Maker:
    """What makes an index's rows of photos.

    Attributes:
        name: The model's, as the index remembers it: its folder, or ``DEFAULT_MODEL``.
    """

    name: str
    model: AligningMatcher
    detector: Detector | None
    made_by: MadeBy

    @classmethod
    def load(
        cls,
        out: Path,
        before: Settings | None,
        folder: str | Path | None,
        detector: Detector | None,
        storage: str | None,
        device: torch.device | str,
    ) -> _Maker:
        name = folder or (before.model if before else DEFAULT_MODEL)
        folder = model_folder(name).expanduser().absolute()
        if not folder.is_dir():
            raise HANError(f"{folder}: no such model; name its folder, or that to which it was moved: --model MODEL")
        model = load_aligning_matcher(folder).to(device)
        fingerprint = model.config.detector_fingerprint
        if detector is None:
            if fingerprint is None:
                raise HANError(f"{folder}: does not say which detector it was trained with; name it with --detector")
            if before is None:
                detector = detector_for(fingerprint)  # refused now, not when an index was begun
        elif fingerprint not in (None, detector.fingerprint) or detector.feature_size != model.config.region_size:
            raise HANError(
                f"{folder}: reads {model.config.region_size} numbers a region of {fingerprint or 'a detector'!r}, and "
                f"{detector.fingerprint!r} gives {detector.feature_size}"
            )
        if storage is None:
            storage = PhotoTable(out / before.table).made_by.storage if before else DEFAULT_STORAGE
        if storage not in STORAGES:
            raise HANError(f"tokens are kept as one of {', '.join(STORAGES)}, not as {storage!r}")
        size = model.config.joint_size
        pooling = MeanPooling(size)
        made_by = MadeBy(
            model=folder_hash(folder),
            detector=detector.fingerprint if detector else str(fingerprint),
            joint_size=size,
            storage=storage,
            pooling=pooling.name,
            pooled_size=pooling.size,
        )
        kept = DEFAULT_MODEL if str(name) == DEFAULT_MODEL else str(folder)
        return cls(kept, model, detector, made_by)

    def encoder(self) -> Encoder:
        """Encodes photos; the detector is loaded when there is one to encode."""
        pooling = pooling_for(self.made_by.pooling, joint_size=self.made_by.joint_size)
        detector = cache(lambda: self.detector or detector_for(self.made_by.detector))
        return Encoder(self.model, detector, pooling, self.made_by.storage)


def _lock(out: Path, stack: ExitStack) -> Settings:
    stack.enter_context(WriterLock(out))
    return Settings.read(out)


def _follow(
    before: Settings | None, roots: Sequence[str], forget: Sequence[str | Path], patterns: Patterns
) -> dict[str, Patterns]:
    """The folders that the index follows from now on."""
    follows = dict(before.roots) if before else {}
    for each in forget:
        root = root_name(each, follows)
        if root not in follows:
            raise HANError(f"{each}: not a folder that the index follows; it follows {', '.join(follows) or 'none'}")
        del follows[root]
    if not roots and not before:
        raise HANError("which photos? name their folder: han index PHOTOS --out INDEX")
    return follows | dict.fromkeys(roots, patterns)


def _scan(roots: dict[str, Patterns], before: Settings | None) -> Scan:
    """What is there; a folder without a photo is refused, as it may be a disk that is not there."""
    found = scan(roots)
    with_photos = {root for root, _ in found.files}
    for root in roots:
        if root in with_photos:
            continue
        patterns = roots[root]
        through = " that --include and --exclude let through" if patterns.include or patterns.exclude else ""
        what = f"no photo in it or below it{through}" if Path(root).is_dir() else "no such folder"
        heif = "; .heic and .heif are read with pillow-heif: pip install pillow-heif" if found.heif else ""
        # Patterns that are new may be mistaken, so that nothing has to leave.
        known = before is not None and root in before.roots and (not through or before.roots[root] == patterns)
        mend = "; if its photos are to leave the index: --forget" if known else heif
        raise HANError(f"{root}: {what}{mend}")
    return found


def _require(path: Path, maker: _Maker) -> PhotoTable:
    """The table at ``path``, which must be made as the run would make it."""
    table = PhotoTable(path)
    was, now = table.made_by, maker.made_by
    if was == now:
        return table
    what = {
        "model": f"{maker.name} is another model than the one that it was made with",
        "detector": f"it was made with the detector {was.detector!r}, not {now.detector!r}",
        "storage": f"it keeps tokens as {was.storage}, not {now.storage}",
    }
    differs = [text for name, text in what.items() if getattr(was, name) != getattr(now, name)]
    raise HANError(
        f"{path.parent}: {differs[0] if differs else 'it was made otherwise'}; --rebuild makes it anew, beside what is "
        "there, and then switches"
    )
