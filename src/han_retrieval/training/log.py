"""The metrics of a run: a JSON line a record, and TensorBoard events when asked for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from han_retrieval.errors import ConfigError, StoreError
from han_retrieval.files import write_whole
from han_retrieval.storage.closing import Closing

METRICS = "metrics.jsonl"


class Log(Closing):
    """Writes ``folder/metrics.jsonl``.

    Args:
        folder: The folder of the run.
        after_step: Records after this step are dropped first: the run goes on from there and writes them again.
        tensorboard: Write TensorBoard events to ``folder/tensorboard`` as well.
    """

    def __init__(self, folder: Path, *, after_step: int = 0, tensorboard: bool = False):
        path = folder / METRICS
        there = read_log(path) if path.exists() else []
        if after_step and there and (damaged := damaged_lines(path)):
            tqdm.write(f"warning: {path}: {len(damaged)} damaged lines are left out", file=sys.stderr)
        kept = [record for record in there if record["step"] <= after_step]
        write_whole(path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = path.open("a", encoding="utf-8")
        self._events: Any = None
        if tensorboard:
            self._events = events_writer()(str(folder / "tensorboard"), purge_step=after_step + 1)

    def step(self, step: int, **values: float) -> None:
        """The numbers of one optimiser step."""
        self._write({"step": step, **values})
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"train/{name}", value, step)

    def epoch(self, step: int, *, epoch: int, metrics: dict[str, Any]) -> None:
        """The metrics on the dev split after an epoch."""
        self._write({"step": step, "epoch": epoch, "dev": metrics})
        if self._events is not None:
            for name, value in _flat(metrics):
                self._events.add_scalar(f"dev/{name}", value, step)

    def _write(self, record: dict[str, Any]) -> None:
        # JSON has no infinity; p = inf is written as the word that a configuration takes too.
        record = {key: "inf" if value == float("inf") else value for key, value in record.items()}
        with self._writing():
            self._file.write(json.dumps(record) + "\n")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self._file.name}: cannot be written ({error.strerror}); make room: the last checkpoint stands"
            ) from None

    def flush(self) -> None:
        """Bring everything to the disk, as before a checkpoint that relies on it.

        Raises:
            StoreError: It cannot be written.
        """
        with self._writing():
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the files.

        Raises:
            StoreError: The last records cannot be written.
        """
        with self._writing():
            self._file.close()
        if self._events is not None:
            self._events.close()


class NoLog(Log):
    """Writes nothing: the log of a rank that is not the first."""

    def __init__(self) -> None:
        self._events = None

    def _write(self, record: dict[str, Any]) -> None:
        pass

    def flush(self) -> None:  # noqa: D102
        pass

    def close(self) -> None:  # noqa: D102
        pass


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics file, without lines that are damaged or that a killed run left unfinished.

    Raises:
        StoreError: It cannot be read.
    """
    return [record for line in _lines(path) if (record := _record(line)) is not None]


def damaged_lines(path: Path) -> list[int]:
    """The numbers of the lines of a metrics file that are no records; a last one that is unfinished does not count.

    Raises:
        StoreError: It cannot be read.
    """
    return [number for number, line in enumerate(_lines(path)[:-1], start=1) if _record(line) is None]


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from None


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None


def _flat(metrics: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Nested metrics by names such as "image_to_text/R@1"."""
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from ((f"{name}/{inner}", number) for inner, number in _flat(value))
        elif value is not None:
            yield name, value


def events_writer() -> Any:
    """TensorBoard's writer class.

    Raises:
        ConfigError: The package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError("--tensorboard needs a package: pip install 'han-retrieval[tensorboard]'") from None
    return SummaryWriter
