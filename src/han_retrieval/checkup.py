"""Check what is in a folder against what was written there, and mend what can be mended: ``han doctor PATH``."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from han_retrieval.errors import DataError, HANError, StoreError
from han_retrieval.files import BACKBONE_FOLDER, leftovers, move
from han_retrieval.matchers.saving import CONFIG, VOCABULARY, WEIGHTS, model_folder
from han_retrieval.objects import is_remote, to_path
from han_retrieval.parsing import read_settings
from han_retrieval.storage.damage import Damage
from han_retrieval.storage.folder_checksums import NAME, accept_files, check_files, listed_files

T = TypeVar("T")
_OF_BACKBONE, _OF_RUN = "size and SHA-256 of its files, that it loads", "settings, metrics and checkpoints"
_CALIBRATION, _TEXT_MAP, _TEXT_WEIGHTS = "calibration.json", "candidates.safetensors", "text_encoder.safetensors"
# What programs read of a model, a detector or the weights of a text encoder.
_FILES = (CONFIG, VOCABULARY, _CALIBRATION, _TEXT_MAP, WEIGHTS, "text_encoder.json", _TEXT_WEIGHTS)

_ABANDONED = 600  # seconds since a file was last written to


@dataclass(frozen=True)
class Checkup:
    """What a check found.

    Attributes:
        path: What was checked.
        kind: What it is, such as "model".
        checked: What was checked, a line each.
        unchecked: What could not be, and what makes it so that it can.
        damages: What is not as it was written; none where all is.
    """

    path: Path
    kind: str
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]
    damages: tuple[Damage, ...]


@dataclass(frozen=True)
class _Part:
    """One of the things that a folder can be: its name, what is checked of it, and how it is checked and mended."""

    kind: str
    checked: str
    check: Callable[[Path], list[Damage]]
    repair: Callable[[Path], list[str]]
    unchecked: Callable[[Path], str | None] = lambda _: None


def check_path(name: str | Path, *, progress: bool = False) -> Checkup:
    """Check an index, a region store, a model, a detector, a pre-trained text encoder or a training run in full.

    Args:
        name: Its folder, or a model by name.
        progress: Show a progress bar on standard error while tables are read.

    Raises:
        DataError: It is none of these.
    """
    path, parts = _parts(name, progress=progress)
    damages = [damage for part in parts for damage in part.check(path)]
    unchecked = [] if damages else [note for part in parts if (note := part.unchecked(path))]
    kind = " and ".join(part.kind for part in parts)
    return Checkup(path, kind, tuple(part.checked for part in parts), tuple(unchecked), tuple(damages))


def repair_path(name: str | Path) -> list[str]:
    """Mend what can be mended of what ``check_path`` checks; returns what was done, a line each.

    Raises:
        HANError: It is nothing of these, or it cannot be mended.
    """
    path, parts = _parts(name)
    return [line for part in parts for line in part.repair(path)]


def accept_path(name: str | Path) -> list[str]:
    """Take the files of a model, a detector or a text encoder for sound; returns the names of these files.

    Raises:
        DataError: It is none of these.
    """
    path, _ = _parts(name)
    accepted = accept_files(path, _FILES) if _is_of_files(path) else []
    if not accepted:
        raise DataError(f"{path}: no model, detector or text encoder, so it has no {NAME}")
    return accepted


def _parts(name: str | Path, *, progress: bool = False) -> tuple[Path, list[_Part]]:
    path = to_path(name) if is_remote(to_path(name)) else model_folder(name)
    parts = list(_found(path, progress=progress))
    if not parts:
        missing = "there is nothing" if not path.exists() else "nothing that can be checked"
        raise DataError(
            f"{path}: {missing}; give the folder of an index, a region store, a model, a detector, a text encoder or a "
            "training run"
        )
    return path, parts


def _found(path: Path, *, progress: bool) -> Iterator[_Part]:
    from han_retrieval.search.settings import is_index
    from han_retrieval.storage.versions import is_table

    of_table = "the files and the rows of its newest version"
    if is_index(path) or any(map(is_table, path.glob("photos-*"))):
        from han_retrieval.search.damage import check_index, repair_index, unchecked_index

        yield _Part("index", of_table, partial(check_index, progress=progress), repair_index, unchecked_index)
    elif is_table(path):
        from han_retrieval.regions.damage import check_store, repair_store, unchecked_store

        yield _Part("region store", of_table, partial(check_store, progress=progress), repair_store, unchecked_store)
    if path.absolute().name == BACKBONE_FOLDER and (path / CONFIG).is_file():
        yield _Part("backbone", _OF_BACKBONE, _of_parent(_check_backbone), _sweep)
        return
    if path.absolute().name == "training" and _is_run(path):
        yield _Part("training run", _OF_RUN, _of_parent(_check_run), _of_parent(_repair_run))
        return
    if _is_of_files(path):
        listed = listed_files(path) or {}
        names = f"size and SHA-256 of {', '.join(listed)}" if listed else "that it loads"
        yield _Part(_kind_of_files(path), names, _check_model, _sweep, _unchecked_model)
    if (path / BACKBONE_FOLDER / CONFIG).is_file():
        yield _Part("backbone", _OF_BACKBONE, _check_backbone, _sweep_backbone)
    if _is_run(path / "training"):
        yield _Part("training run", _OF_RUN, _check_run, _repair_run)


def _is_run(path: Path) -> bool:
    return (path / "config.json").is_file() or any(path.glob("checkpoint-*"))


def _of_parent(do: Callable[[Path], T]) -> Callable[[Path], T]:
    """What is done with a folder, for a part of it that was named."""
    return lambda part: do(part.absolute().parent)


def _is_of_files(path: Path) -> bool:
    return any((path / name).is_file() for name in (CONFIG, WEIGHTS, _TEXT_WEIGHTS, NAME))


def _kind_of_files(path: Path) -> str:
    names = {each.name for each in path.iterdir()} | (listed_files(path) or {}).keys()
    if _TEXT_WEIGHTS in names:
        return "text encoder"
    return "detector" if VOCABULARY not in names and is_detector(path) else "model"


def is_detector(path: Path) -> bool:
    """Whether a folder with a configuration is that of a detector, not of a model."""
    try:
        return not (path / VOCABULARY).exists() and b'"names"' in (path / CONFIG).read_bytes()
    except OSError:
        return False


def check_model(folder: str | Path) -> list[Damage]:
    """Check the folder of a model, a detector or a pre-trained text encoder: its checksums, then that it loads."""
    return _check_model(model_folder(folder))


def _unchecked_model(folder: Path) -> str | None:
    if listed_files(folder) is not None:
        return None
    accept = f"`han doctor {shlex.quote(str(folder))} --accept`"
    return f"whether its files are as they were written: it has no {NAME}; {accept} writes one"


def _check_model(folder: Path) -> list[Damage]:
    damages = check_files(folder, listed_files(folder) or _FILES)
    if damages:
        return damages
    try:
        _load(folder)
    except HANError as error:
        what = str(error).removeprefix(f"{folder}: ")
        return [Damage(folder, what, "copy the folder again from where it came, or write it anew")]
    return []


def _load(folder: Path) -> None:
    kind = _kind_of_files(folder)
    if kind == "text encoder":
        from han_retrieval.training.text_weights import load_pretrained_text

        load_pretrained_text(folder)
    elif kind == "detector":
        from han_retrieval.regions.bottom_up import load_network

        load_network(folder)
    else:
        from han_retrieval.matchers import load_matcher
        from han_retrieval.matchers.saving import folder_hash
        from han_retrieval.search.calibration import Calibration
        from han_retrieval.search.pooling import TextMap

        size = load_matcher(folder).config.joint_size
        Calibration.read(folder)
        TextMap.read(folder, model=folder_hash(folder), size=size)


def _check_backbone(folder: Path) -> list[Damage]:
    """Check the backbone that was trained with a model."""
    from han_retrieval.regions.backbones.efficientnet import make_backbone

    own = folder / BACKBONE_FOLDER
    damages = check_files(own, listed_files(own) or [CONFIG, WEIGHTS])
    if not damages:
        try:
            make_backbone(str(own.absolute()))
        except HANError as error:
            what = str(error).removeprefix(f"{own}: ")
            damages = [Damage(own, what, "copy the folder again from where it came, or go on with the training")]
    return damages


def _sweep_backbone(folder: Path) -> list[str]:
    return _sweep(folder / BACKBONE_FOLDER)


def _sweep(folder: Path) -> list[str]:
    """Delete the files that killed processes had not finished; not those that a process may be at."""
    done = []
    for file in list(leftovers(folder)):
        if time.time() - file.stat().st_mtime > _ABANDONED:
            file.unlink()
            done.append(f"deleted {file}, which a process that was killed had left")
    return done


def _check_run(folder: Path) -> list[Damage]:
    from han_retrieval.training.checkpoint import check_checkpoint, checkpoints
    from han_retrieval.training.log import METRICS

    run = folder / "training"
    damages = [damage for checkpoint in checkpoints(run) for damage in check_checkpoint(checkpoint)]
    for name, check, mend in (
        ("config.json", _wrong_settings, "the command of the run with --show-config prints it; write it there"),
        (METRICS, _wrong_lines, "harmless: --resume goes on without what cannot be read"),
    ):
        try:
            what = check(run / name) if (run / name).exists() else ""
        except StoreError as error:
            what = str(error).removeprefix(f"{run / name}: ")
        if what:
            damages.append(Damage(run / name, what, mend))
    return damages


def _wrong_settings(file: Path) -> str:
    return "" if isinstance(read_settings(file, kind=StoreError), dict) else "is no configuration"


def _wrong_lines(file: Path) -> str:
    from han_retrieval.training.log import damaged_lines

    lines = damaged_lines(file)
    return f"{len(lines)} lines are damaged, the first is line {lines[0]}" if lines else ""


def _repair_run(folder: Path) -> list[str]:
    """Put damaged checkpoints aside, so that a run resumes from the newest sound one or begins anew."""
    from han_retrieval.storage.locks import WriterLock
    from han_retrieval.training.checkpoint import check_checkpoint, checkpoints

    done = []
    with WriterLock(folder / "training"):
        for checkpoint in checkpoints(folder / "training"):
            if check_checkpoint(checkpoint):
                aside = checkpoint.with_name(f"damaged-{checkpoint.name}")
                move(checkpoint, aside)
                done.append(f"renamed {checkpoint} to {aside.name}: --resume goes on from an older one, or begins anew")
    return done
