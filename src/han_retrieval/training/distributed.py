"""Ranks that torchrun started: how they meet, that they are alike, and what they say when one of them ends.

They meet through the store that torchrun keeps. What happened is noted there as well: who each rank is, who has ended
in order, and the first cause of a failure, so that all give the same one, and one rank a machine says it.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from typing import Any

import torch
from pydantic import BaseModel

from han_retrieval.errors import ConfigError, HANError, one_line
from han_retrieval.ranks import ALONE, RankLost, Ranks
from han_retrieval.training.run_folder import difference
from han_retrieval.training.state import PATHS
from han_retrieval.version import __version__

STEP = timedelta(minutes=30)  # for what all ranks do at the same time
_ANSWER = 10.0  # seconds that a rank which lives has to say so when another is lost; torchrun kills after 30
_GLANCE = 2.0  # seconds between looks at the other ranks, beside work on a GPU
_PACKAGES = ("numpy", "open-clip-torch", "tokenizers", "torch", "torchvision", "transformers")


class RankError(HANError):
    """A rank failed, and all stop; the message says which.

    Attributes:
        quiet: Whether another rank of this machine says so already.
    """

    def __init__(self, message: str, *, quiet: bool) -> None:
        super().__init__(message)
        self.quiet = quiet


class RanksDiffer(ConfigError):
    """Ranks have other data, another configuration or other packages."""


@dataclass(frozen=True)
class Launched:
    """What torchrun says in the environment: this process's number, how many there are, its number on its machine."""

    rank: int
    count: int
    local_rank: int


def launched() -> Launched:
    """This process's place; 0 of 1 where it was started alone.

    Raises:
        ConfigError: The environment names several processes and not where they meet.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return Launched(0, 1, 0)
    try:
        place = Launched(*(int(os.environ.get(name, ok)) for name, ok in _ENVIRONMENT))
    except ValueError:
        place = Launched(-1, 0, 0)
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing or not 0 <= place.rank < place.count:
        raise ConfigError(
            f"WORLD_SIZE = {os.environ['WORLD_SIZE']} in the environment asks for several processes, and "
            f"{' and '.join(missing) or 'RANK'} is not set for them: start with torchrun, or unset WORLD_SIZE"
        )
    return place


_ENVIRONMENT = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))


@contextmanager
def join_ranks(device: torch.device | None = None) -> Iterator[Ranks]:
    """Meet the other ranks that torchrun started, for as long as the block lasts; alone where there are none.

    Args:
        device: Where this rank computes, the CPU by default: ranks on CPUs speak through gloo, on GPUs through NCCL.

    Raises:
        ConfigError: The ranks cannot meet.
        RankError: In the block, this rank or another has failed.
        KeyboardInterrupt: The process was asked to end, by SIGTERM too.
    """
    place = launched()
    if place.count == 1:
        yield ALONE
        return
    import torch.distributed as dist

    on_gpu = device is not None and device.type == "cuda"
    notes, ranks = _meet(place, device if on_gpu else None)
    try:
        with _sigterm_interrupts(), _watched(notes) if on_gpu else nullcontext():
            yield ranks
    except RankLost as error:
        raise notes.lost(error) from None
    except RanksDiffer as error:
        raise notes.failed(str(error)) from None
    except HANError as error:
        raise notes.failed(f"{notes.name(place.rank)}: {error}") from None
    except KeyboardInterrupt:
        if cause := notes.seen_dead():
            raise notes.failed(cause) from None
        notes.left()
        raise
    except Exception as error:
        notes.failed(f"{notes.name(place.rank)}: {type(error).__name__}: {error}")
        raise
    notes.left()
    with suppress(RuntimeError):
        dist.destroy_process_group()


def _meet(place: Launched, gpu: torch.device | None) -> tuple[_Notes, Ranks]:
    dist: Any = importlib.import_module("torch.distributed")
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store, *_ = next(dist.rendezvous("env://", timeout=STEP))
        notes = _Notes(dist.PrefixStore("han/notes", store), place)
        if gpu is not None:
            torch.cuda.set_device(gpu)
        dist.init_process_group(
            "gloo" if gpu is None else "cpu:gloo,cuda:nccl",
            store=dist.PrefixStore("han/group", store),
            rank=place.rank,
            world_size=place.count,
            timeout=STEP,
            device_id=gpu,
        )
        return notes, Ranks(place.rank, place.count, place.local_rank)
    except RuntimeError as error:
        raise ConfigError(f"the {place.count} ranks cannot meet at {where} ({error})") from None


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM interrupt as Ctrl-C does; torchrun sends it to all ranks of a machine when one of them has ended."""
    number = signal.SIGTERM
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(number) in (signal.SIG_IGN, None):
        yield
        return
    before = signal.signal(number, signal.default_int_handler)
    try:
        yield
    except RankLost:
        before = signal.SIG_IGN  # this process ends, and says why before it does
        raise
    finally:
        signal.signal(number, before)


@contextmanager
def _watched(notes: _Notes) -> Iterator[None]:
    """End this process when another rank has failed and this one does not notice.

    What waits for a GPU waits for ever where another rank's share does not come, and handles no signal.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_GLANCE):
            if (cause := notes.seen_dead()) and not over.wait(_ANSWER):
                error = notes.failed(cause)
                if not error.quiet:
                    print(f"han: error: {error}", file=sys.stderr, flush=True)
                os._exit(2)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


class _Notes:
    """What ranks note in the store about themselves."""

    def __init__(self, store: Any, place: Launched) -> None:
        self._store, self._place, self._host = store.clone(), place, socket.gethostname()
        self._known: dict[int, list[str]] = {}  # of each rank that was heard of: process, machine, namespace
        self._store.set_timeout(timedelta(seconds=_ANSWER))
        self._namespace = ""  # of processes: containers of one machine may have one name and not see each other's
        with suppress(OSError):
            self._namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115
        self._store.set(f"who/{place.rank}", f"{os.getpid()} {self._host} {self._namespace}")

    def left(self) -> None:
        """Note that this rank ends in order."""
        with suppress(RuntimeError):
            self._store.set(f"left/{self._place.rank}", "")

    def failed(self, cause: str) -> RankError:
        """Note why all ranks stop, if nobody has; the error that says so."""
        try:
            cause = self._store.compare_set("cause", "", one_line(cause)).decode()
            quiet = self._store.add(f"said/{self._host}", 1) > 1
        except RuntimeError:  # the store is gone with the machine that it was on
            quiet = self._place.local_rank > 0
        return RankError(cause, quiet=quiet)

    def lost(self, error: RankLost) -> RankError:
        """Find out which rank is lost: one that says why itself, has died on this machine, or does not answer."""
        others = range(self._place.count)
        with suppress(RuntimeError):
            self._store.set(f"here/{self._place.rank}", "")
            end, silent = time.monotonic() + _ANSWER, set(others)
            while silent and time.monotonic() < end:
                if cause := self.seen_dead():
                    return self.failed(cause)
                silent = {rank for rank in silent if not self._has(f"here/{rank}") and not self._has(f"left/{rank}")}
                time.sleep(0.1)
            if error.waiting and len(silent) > 1:
                silent.discard(0)  # at work while the others wait, so that it cannot answer
            if silent:
                named = " and ".join(self.name(rank) for rank in sorted(silent))
                return self.failed(f"{named} can no longer be reached; {_STOP}")
            return self.failed(f"the ranks lost each other ({error}); {_STOP}")
        where = f"the machine of rank 0, {os.environ.get('MASTER_ADDR')}"
        return self.failed(f"{where}, can no longer be reached; {_STOP}")

    def seen_dead(self) -> str:
        """The cause that was noted, or which rank of this machine has died; "" for neither."""
        with suppress(RuntimeError):
            if self._has("cause"):
                return self._store.get("cause").decode()
            for rank in range(self._place.count):
                process, *where = self._who(rank)
                is_here = where == [self._host, self._namespace]
                if is_here and not _is_alive(int(process)) and not self._has(f"left/{rank}"):
                    return f"{self.name(rank)} has died, without a word: killed, or out of memory; {_STOP}"
        return ""

    def name(self, rank: int) -> str:
        """A rank, its machine and its process."""
        process, host, _ = self._who(rank)
        return f"rank {rank}" + (f" on {host} (process {process})" if host else "")

    def _who(self, rank: int) -> list[str]:
        """Its process, machine and namespace; empty where nothing was heard of it."""
        with suppress(RuntimeError):
            if rank not in self._known and self._has(f"who/{rank}"):
                self._known[rank] = self._store.get(f"who/{rank}").decode().split(" ", 2)
        return self._known.get(rank, ["", "", ""])

    def _has(self, key: str) -> bool:
        return bool(self._store.check([key]))


_STOP = "all ranks stop. The last checkpoint stands: the same command with --resume goes on from it"


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # where os.kill ends a process whatever the signal
        return True
    try:
        os.kill(process, 0)
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:  # noqa: PTH123  # one that died may not be gone yet
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except ProcessLookupError:
        return False
    except OSError:  # another system, or another user's
        return True


def compare_ranks(ranks: Ranks, config: BaseModel, facts: dict[str, Any]) -> None:
    """See that all ranks train the same: the configuration, the data, the packages; a collective call.

    Raises:
        RanksDiffer: One has others than the first; the message says what.
    """
    if ranks.count == 1:
        return
    versions = {"han-retrieval": __version__}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    own: dict[str, dict[str, Any]] = {
        "packages": versions,
        "configuration": config.model_dump(),
        "data": {name: value for name, value in facts.items() if name not in PATHS},
    }
    (_, first), *others = ranks.gather_objects((socket.gethostname(), own))
    for rank, (host, other) in enumerate(others, start=1):
        for part, of_first in first.items():
            if found := difference(of_first, other[part], words=("is {} on rank 0", "{} here")):
                raise RanksDiffer(f"rank {rank} on {host} does not have the {part} of rank 0: {found}")
