"""Commands of ``han`` that change something on the disk, and what must hold when one is disturbed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
from child_commands import Commands, Run
from safetensors.numpy import load_file
from tiny_index import change_photos, make_model, make_photo, make_photos
from training_data import same_run

from han_retrieval.errors import HANError
from han_retrieval.matchers import HAN
from han_retrieval.regions import RegionStore
from han_retrieval.search import Index
from han_retrieval.search.rows import to_files
from han_retrieval.search.settings import Settings, is_index
from han_retrieval.storage.table import is_table

FINGERPRINT = "fake-1-4"
NAMES = (
    "extract", "extract more", "index", "index add", "index update", "index delete", "index forget", "index rebuild",
    "train", "distil",
)  # fmt: skip

Contents = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """A command that changes a folder, and the same command undisturbed.

    Attributes:
        name: One of ``NAMES``.
        arguments: Of ``han``, with "OUT" for the folder.
        before: The folder before it; None where there is none.
        done: The folder after an undisturbed run.
        read: What a folder holds, by what must not be lost; an ``AssertionError`` where it is not whole.
        calls: The calls that an undisturbed run makes.
        seconds: What it takes.
    """

    name: str
    arguments: tuple[object, ...]
    before: Path | None
    done: Path
    read: Callable[[Path], Contents]
    commands: Commands
    calls: int
    seconds: float

    def start(self, out: Path) -> None:
        """Make the folder as it is before the command."""
        shutil.rmtree(out, ignore_errors=True)
        if self.before is not None:
            shutil.copytree(self.before, out)

    def run(self, out: Path, **disturbed: Any) -> Run:
        """Run the command on a folder, a training that was begun with ``--resume``; see ``Commands.run``."""
        resume = ["--resume"] if self.name == "train" and (out / "training/config.json").exists() else []
        return _run(self.commands, (*self.arguments, *resume), out, **disturbed)

    def check(self, out: Path) -> None:
        """After a disturbed run: nothing is lost, nothing doubled, and what is there can be read."""
        before = self.read(self.before) if self.before is not None else {}
        try:
            done, now = self.read(self.done), self.read(out)
        except HANError as error:
            raise AssertionError(f"cannot be read: {error}") from None
        for name, content in now.items():
            assert content in (done.get(name), before.get(name)), f"{name} is neither as before nor as it becomes"
        lost = before.keys() & done.keys() - now.keys()
        assert not lost, f"lost: {sorted(lost)}"

    def check_done(self, out: Path) -> None:
        """The folder is as an undisturbed run leaves it."""
        assert self.read(out) == self.read(self.done), "ended unlike an undisturbed run"
        if self.name.startswith("index"):
            assert files_of(out) == files_of(self.done), "files of photos unlike those of an undisturbed run"
        if self.name == "train":
            assert same_run(out, self.done), "trained unlike an undisturbed run"

    def check_goes_on(self, out: Path) -> None:
        """The same command, given again, ends as an undisturbed run, and leaves nothing that nothing needs."""
        again = self.run(out)
        if "not a folder of this index" in again.err:  # it was forgotten
            assert Settings.read(out) == Settings.read(self.done)
            again = self.commands.run("index", "--out", out)
        assert again.code == 0, f"the next run failed: {again.err}"
        self.check_done(out)
        left = leftovers(out)
        assert not left, f"left over: {left}"


def _run(commands: Commands, arguments: tuple[object, ...], out: Path, **disturbed: Any) -> Run:
    return commands.run(*(out if each == "OUT" else each for each in arguments), folder=out, **disturbed)


def make_command(name: str, folder: Path, commands: Commands) -> Command:
    """Make one of the commands ``NAMES``, with its data below ``folder``, and run it undisturbed."""
    folder = folder / name.replace(" ", "-")
    before = folder / "before"
    arguments, prepare = _KINDS[name](folder)
    for each in prepare:
        if callable(each):
            each()
        else:
            ended = _run(commands, each, before)
            assert ended.code == 0, ended.err
    done = folder / "done"
    if before.exists():
        shutil.copytree(before, done)
    ended = _run(commands, arguments, done)
    assert ended.code == 0, ended.err
    counted = folder / "counted"
    if before.exists():
        shutil.copytree(before, counted)
    calls = _run(commands, arguments, counted, kind="count").calls
    read = {"extract": _read_store, "index": _read_index}.get(name.split()[0], _read_model)
    there = before if before.exists() else None
    return Command(name, arguments, there, done, read, commands, len(calls), ended.seconds)


def _extract(folder: Path, *, more: bool) -> tuple[tuple[object, ...], list[Any]]:
    photos = make_photos(folder / "photos", 6)
    arguments = ("extract", photos, "--out", "OUT", "--detector", "fake", "--regions", 4, "--batch-size", 2)
    return arguments, [arguments, lambda: make_photos(photos, 7, first=6)] if more else [
        lambda: make_photos(photos, 11)
    ]


def _index(folder: Path, change: str) -> tuple[tuple[object, ...], list[Any]]:
    photos, model = make_photos(folder / "photos", 9), make_model(folder / "model", fingerprint=FINGERPRINT)
    other = folder / "other"

    def delete() -> None:
        for number in range(4):
            (photos / f"{number:03}.png").unlink()

    update_it: tuple[object, ...] = ("index", "--out", "OUT", "--batch-size", 2)
    fresh = ("index", photos, *update_it[1:], "--model", model)
    both = ("index", photos, other, *update_it[1:], "--model", model)
    if change == "fresh":
        return fresh, []
    if change == "add":
        return ("index", make_photos(other, 6, first=30), *update_it[1:]), [fresh]
    if change == "forget":
        make_photos(other, 6, first=30)
        return (*update_it, "--forget", other), [both]
    if change == "rebuild":
        newer = make_model(folder / "newer", seed=1, fingerprint=FINGERPRINT)
        return (*update_it, "--model", newer, "--rebuild"), [fresh]
    return update_it, [fresh, (lambda: change_photos(photos, new=6)) if change == "update" else delete]


def _training(folder: Path, command: str) -> tuple[tuple[object, ...], list[Any]]:
    """A training, or what is written into a model's folder."""
    dataset, colours = folder / "dataset", ("red", "blue", "green", "white")
    rows = []
    for number in range(16 if command == "train" else 32):
        name = make_photo(dataset / f"{number:03}.png", number).name
        captions = [f"a {colours[number % 4]} dog", f"{number} {colours[number % 4]} cats"]
        rows.append({"file_name": name, "captions": captions, "split": "dev" if number % 4 == 3 else "train"})
    (dataset / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    features, model = folder / "features", folder / "before"
    extract = ("extract", dataset, "--out", features, "--detector", "fake", "--regions", 4)
    if command == "train":
        small = ["epochs=2", "batch_size=8", "min_count=1", "warm_up_steps=2", "checkpoint_minutes=1e-9"]
        small += ["model.word_size=8", "model.joint_size=16"]
        options = [option for field in small for option in ("--set", field)]
        return ("train", dataset, "--features", features, "--out", "OUT", *options), [extract]
    arguments = (command, "OUT", dataset, "--features", features)
    return arguments, [extract, lambda: make_model(model, fingerprint=FINGERPRINT)]


_KINDS: dict[str, Callable[[Path], tuple[tuple[object, ...], list[Any]]]] = {
    "extract": lambda folder: _extract(folder, more=False),
    "extract more": lambda folder: _extract(folder, more=True),
    "index": lambda folder: _index(folder, "fresh"),
    **{
        f"index {change}": lambda folder, change=change: _index(folder, change)
        for change in ("add", "update", "delete", "forget", "rebuild")
    },
    **{name: lambda folder, name=name: _training(folder, name) for name in ("train", "distil")},
}


def _read_store(out: Path) -> Contents:
    """The regions of each photo."""
    if not is_table(out):
        return {}  # killed before there was one
    store = RegionStore.open(out)
    assert len(set(store.ids)) == len(store.ids) == store._table.dataset.count_rows(), "a photo is there twice"
    return {
        photo_id: (regions.features.tobytes(), regions.boxes.tobytes(), regions.labels)
        for photo_id, regions in zip(store.ids, store.read(store.ids), strict=True)
    }


def _read_index(out: Path) -> Contents:
    """The tokens and regions of each photo."""
    if not is_index(out):
        return {}  # killed before there was one
    with Index.open(out) as index:
        rows = range(len(index))
        ids = list(to_files(index.photos))
        assert len(ids) == len(index), "a photo is there twice"
        tokens, mask = index.tokens(rows)
        return {
            name: (its[there].numpy().tobytes(), regions.boxes.tobytes())
            for name, its, there, regions in zip(ids, tokens, mask, index.regions(rows), strict=True)
        }


def files_of(out: Path) -> dict[str, tuple[str, ...]]:
    """The files of each photo of an index, by their whole paths."""
    with Index.open(out) as index:
        return {name: tuple(str(Path(f.root, f.path)) for f in files) for name, files in to_files(index.photos).items()}


def _read_model(out: Path) -> Contents:
    """What a model's folder can do; its weights change from epoch to epoch."""
    if not (out / "model.safetensors").exists():
        return {}  # killed before there was one
    HAN.from_pretrained(out)
    found: Contents = {"model": True}
    if (out / "candidates.safetensors").exists():
        found["map"] = {name: value.tobytes() for name, value in load_file(out / "candidates.safetensors").items()}
    return found


def leftovers(out: Path) -> list[str]:
    """Files in a store, an index or a model that nothing needs, though no process is at work there."""
    left = [path for path in out.rglob("*") if path.name.startswith(".")]
    tables = [path.parent for path in out.rglob("_versions")]
    for table in tables:
        dataset = lance.dataset(table)
        needed = {table / "data" / file.path for each in dataset.get_fragments() for file in each.data_files()}
        left += [path for path in (table / "data").glob("*") if path not in needed]
        left += sorted((table / "_versions").glob("*.manifest"))[1:]
        left += sorted((table / "_transactions").glob("*.txn"))[1:]
        if not any(each.deletion_file() for each in dataset.get_fragments()):
            left += (table / "_deletions").glob("*")
    if is_index(out):
        current = out / Settings.read(out).table
        left += [table for table in tables if table != current]
        newest = f"{current.name}-{lance.dataset(current).version}"
        left += [path for path in (out / "readers").glob("*") if path.name != newest]
    return sorted({str(path.relative_to(out)) for path in left})


def check_output(run: Run, out: Path) -> None:
    """A run that failed or was stopped said so in one line that names the place, not in a traceback."""
    for sign in ("Traceback", "panicked", "RUST_BACKTRACE", "WARN ", "ERROR "):
        assert sign not in run.err, run.err
    if run.code not in (0, 130) and run.code > 0:
        assert run.code == 2, f"exit code {run.code}: {run.err}"
        errors = [line for line in run.err.replace("\r", "\n").splitlines() if line.startswith("han: error: ")]
        assert len(errors) == 1, run.err
        assert len(errors[0]) < 1000, run.err
        assert str(out) in errors[0], run.err


def errors_of(check: Callable[[], object]) -> str | None:
    """What a check finds wrong, in a line; None where nothing is."""
    try:
        check()
    except (AssertionError, HANError, OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return None
