"""Work on a cluster with Ray: connect to it, and let workers that hold a model go through many items."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, NoReturn, TypeVar

from han_retrieval import errors
from han_retrieval.errors import ConfigError, HANError, ModelError
from han_retrieval.logs import silenced
from han_retrieval.version import __version__

T = TypeVar("T")
R = TypeVar("R")

_SECONDS_TO_ANSWER = 5.0
_RETRIES = 3  # of a task whose worker died
_OBJECTS_BYTES = 500_000_000  # shared memory for results under way, of a Ray that is started here


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the work is done, and by how many.

    Attributes:
        address: HOST:PORT of a Ray cluster, ray://HOST:PORT, or "auto" for the one that this machine belongs to. None
            takes that of the environment variable ``RAY_ADDRESS``, else starts Ray on this machine for as long as the
            work takes.
        workers: How many workers; by default as many as the cluster has room for.
        cpus: CPUs of each worker.
        gpus: GPUs of each worker; several may share one.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class Lost(Generic[T]):
    """Items that came back from no worker, because the one that had them died each time, and why as far as known."""

    items: list[T]
    reason: str


@contextmanager
def connected(address: str | None = None) -> Iterator[Any]:
    """Ray, connected to a cluster; a connection that is there already is used and stays.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what is wrong is said by this package
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError("Ray is missing: pip install 'han-retrieval[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    more: dict[str, Any] = {}
    if address == "local":
        more = {"include_dashboard": False, "object_store_memory": _OBJECTS_BYTES}
    elif address != "auto":
        _require_answer(address)
    try:
        with _without_notes():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **more)
    except Exception as error:  # of many kinds
        raise ConfigError(f"{address}: no Ray cluster can be joined there ({error})") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Check that something listens at an address, for which Ray itself waits long."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if not host or not port.isdecimal():
            raise ConfigError(f"{address!r} is no address of a Ray cluster: give HOST:PORT, such as 10.0.0.1:6379")
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError, UnicodeError) as error:  # a name with two dots in a row
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ConfigError(
            f"{address}: no Ray cluster answers there ({reason}); start one with `ray start --head`, or name another"
        ) from None


def map_on_workers(
    ray: Any, items: Sequence[T], make: Callable[[], Callable[[list[T]], R]], *, cluster: Cluster, at_once: int
) -> Generator[R | Lost[T]]:
    """What workers make of items, some at a time, in the order in which they are done.

    Where a worker dies, another one does again what it had; where that fails several times, the items are ``Lost``.

    Args:
        ray: From ``connected``.
        items: What is worked on; they are pickled.
        make: Called once in each worker: loads what the work needs and returns what does it. Pickled as well.
        cluster: How many workers.
        at_once: Items in one task; a worker that dies loses so much work.

    Raises:
        ConfigError: The cluster has no room for a worker.
        HANError: A worker raised one; the message names its machine.
        RuntimeError: A worker raised something else; the message holds its traceback.
    """
    if not items:
        return
    import ray.data as data

    size = room_for(ray, cluster)
    parts = [list(part) for part in _parts(items, at_once)]
    try:
        tasks = [{"task": number, "items": pickle.dumps(part)} for number, part in enumerate(parts)]
    except Exception as error:  # pickle raises many kinds
        raise ConfigError(
            f"what is to be worked on cannot be sent to other machines ({error}); leave --engine out"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray: max_task_retries will have to be given in another way from 2.64 on
        work = data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
            _Worker,
            fn_constructor_args=[make, __version__],
            batch_size=1,
            compute=data.ActorPoolStrategy(size=min(size, len(tasks))),
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus or None,
            max_restarts=-1,
            max_task_retries=_RETRIES,
        )
    context = work.context
    context.max_errored_blocks = -1  # a worker reports errors itself: what is left is that it died
    context.enable_progress_bars = context.print_on_execution_start = False
    missing = set(range(len(parts)))
    with silenced("ray.data"), _named_errors(ray):  # whose notes would run through the progress bar
        for batch in work.iter_batches(batch_size=None, batch_format="pyarrow"):
            done: Any = batch  # an Arrow table
            for number, result, failure in zip(*(done[name].to_pylist() for name in _COLUMNS), strict=True):
                missing.discard(number)
                if failure:
                    raise_described(pickle.loads(failure))
                yield pickle.loads(result)
    if missing:
        again = "its worker died each time; it may need more memory than there is"
        yield Lost([item for number in sorted(missing) for item in parts[number]], again)


_COLUMNS = ("task", "result", "error")


class _Worker:
    """Does tasks in an actor of Ray. An error is handed over, since Ray would wrap it in its own."""

    def __init__(self, make: Callable[[], Callable[[list[Any]], Any]], version: str) -> None:
        self._work: Callable[[list[Any]], Any] | None = None
        self._error: tuple[str, str] | None = None
        try:
            require_version(version)
            self._work = make()
        except Exception as error:
            self._error = describe(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        numbers, results, failures = [], [], []
        for number, items in zip(batch["task"], batch["items"], strict=True):
            result, error = None, self._error
            if self._work is not None:
                try:
                    result = pickle.dumps(self._work(pickle.loads(items)))
                except Exception as caught:
                    error = describe(caught)
            numbers.append(int(number))
            results.append(result or b"")
            failures.append(pickle.dumps(error) if error else b"")
        return dict(zip(_COLUMNS, (numbers, results, failures), strict=True))


def require_version(version: str) -> None:
    """Check that this machine has the version of this package that another one has.

    Raises:
        ModelError: It has another one.
    """
    if version != __version__:
        raise ModelError(f"has han-retrieval {__version__}, not {version}: install the same on all machines")


def describe(error: Exception) -> tuple[str, str]:
    """The kind of an error and what it says, with the machine's name; of a defect the traceback."""
    where = f"worker on {socket.gethostname()}: "
    if isinstance(error, HANError):
        return type(error).__name__, where + str(error)
    return "", where + traceback.format_exc()


def raise_described(described: tuple[str, str]) -> NoReturn:
    """Raise here what ``describe`` found elsewhere."""
    kind, message = described
    if not kind:
        raise RuntimeError(message)
    found = getattr(errors, kind, HANError)
    raise (found if isinstance(found, type) and issubclass(found, HANError) else HANError)(message)


def room_for(ray: Any, cluster: Cluster) -> int:
    """How many workers there are to be: as many as were asked for, if there is room.

    Raises:
        ConfigError: There is none for a single one.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most = sum(_room_on(machine, cluster) for machine in machines)
    if not most:
        cpus, gpus = (max((each.get(name, 0) for each in machines), default=0) for name in ("CPU", "GPU"))
        raise ConfigError(
            f"a machine of the cluster has {cpus:g} CPUs and {gpus:g} GPUs at most, and a worker takes "
            f"{cluster.cpus:g} and {cluster.gpus:g}: start larger machines, or give workers less"
        )
    return min(cluster.workers or most, most)


def _room_on(machine: Mapping[str, float], cluster: Cluster) -> int:
    """How many workers a machine has room for."""
    room = [
        int(machine.get(name, 0) / each + 1e-6)  # 2 // 0.2 is 9
        for name, each in (("CPU", cluster.cpus), ("GPU", cluster.gpus))
        if each
    ]
    return min(room, default=1)


def _parts(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    rest = iter(items)
    while part := tuple(islice(rest, size)):
        yield part


@contextmanager
def _without_notes() -> Iterator[None]:
    """Without what Ray's start prints: that it obeys a variable, and Lance's fear of a fork, which only starts Ray."""
    stderr = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere, warnings.catch_warnings():  # noqa: PTH123
            warnings.filterwarnings("ignore", "lance is not fork-safe")
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@contextmanager
def _named_errors(ray: Any) -> Iterator[None]:
    """A context in which errors of Ray itself are one line."""
    try:
        yield
    except ray.exceptions.RayError as error:
        text = str(error)
        if "No module named 'han_retrieval" in text:
            raise ModelError(
                f"a worker has no han-retrieval: install version {__version__} with its extra ray on all machines"
            ) from None
        last = text.strip().splitlines()[-1] if text.strip() else type(error).__name__
        raise ConfigError(f"the cluster failed: {last}; the same command goes on from what is done") from None
