"""The shards of an index as deployments of Ray Serve, one each, so that a replica that dies is replaced."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from han_retrieval.cluster import Cluster, connected, describe, raise_described, require_version, room_for
from han_retrieval.errors import ConfigError, HANError
from han_retrieval.files import from_home
from han_retrieval.matchers import model_folder
from han_retrieval.search.opened import Unreadable
from han_retrieval.search.shards import Shard
from han_retrieval.version import __version__

_SECONDS_TO_ANSWER = 10.0  # a shard that takes longer is taken for dead until it answers again
_SECONDS_A_TRY = 1.5  # to see whether a shard is there at all
_SECONDS_UNTIL_SAID = 60.0  # that shards have not started
_HEALTH_SECONDS = 1.0  # between two looks of Serve at each replica
_log = logging.getLogger(__name__)


@contextmanager
def shards_on_ray(
    index: str | Path, *, shards: int, model: str | Path | None = None, cluster: Cluster | None = None
) -> Iterator[RayShards]:
    """The shards of an index on a Ray cluster, loaded; they end with the block.

    Args:
        index: The index's folder, under the same path on each machine.
        shards: How many.
        model: The folder of the model, if it was moved.
        cluster: The cluster, and what each shard takes of it.

    Raises:
        ConfigError: Ray Serve is not installed, no cluster answers, or it has no room for the shards.
        HANError: A shard cannot load its index or its model; the message names its machine.
    """
    cluster = cluster or Cluster()
    with connected(cluster.address) as ray:
        room = room_for(ray, Cluster(cpus=cluster.cpus))
        if room < shards:
            raise ConfigError(
                f"the cluster has room for {room} shards of {cluster.cpus:g} CPUs, not for {shards}: take fewer, or "
                "less for each with --cpus-per-worker"
            )
        try:
            from ray import serve
        except ImportError as error:
            raise ConfigError(f"Ray Serve is missing ({error}): pip install 'han-retrieval[ray]'") from None
        logging.getLogger("ray.serve").addFilter(lambda record: record.levelno >= logging.CRITICAL)  # said here
        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        names = [f"han-{uuid.uuid4().hex[:8]}-{each}" for each in range(shards)]
        replicas: Any = serve.deployment(
            _Replica,
            num_replicas=1,
            ray_actor_options={"num_cpus": cluster.cpus},
            health_check_period_s=_HEALTH_SECONDS,
            health_check_timeout_s=60.0,
            graceful_shutdown_timeout_s=1.0,
        )
        where = str(from_home(index).absolute()), model and str(model_folder(model).absolute())
        targets = [
            serve.RunTarget(replicas.bind(__version__, *where, each, shards), name=name, route_prefix=None)
            for each, name in enumerate(names)
        ]
        handles = serve.run_many(targets, wait_for_applications_running=False)
        running = RayShards(handles, names)
        try:
            _wait(serve, names, running)
            yield running
        finally:
            running.close()


class RayShards:
    """Asks shards behind handles of Ray Serve; see ``Shards``.

    A shard that does not answer is left out until it does: its replacement is awaited in a thread.
    """

    def __init__(self, handles: Sequence[Any], names: Sequence[str]) -> None:
        self._handles, self._names = handles, names
        self._threads = ThreadPoolExecutor(2 * len(handles), thread_name_prefix="shard")
        self._back: dict[int, Future[None]] = {}
        self._closed = Event()

    @property
    def count(self) -> int:
        """The number of shards."""
        return len(self._handles)

    def ask(self, method: str, arguments: Sequence[tuple[Any, ...] | None]) -> list[Any | None]:
        """See ``Shards``."""
        asked = [
            None if given is None or not self._is_there(each) else self._threads.submit(self._call, each, method, given)
            for each, given in enumerate(arguments)
        ]
        return [None if answer is None else answer.result() for answer in asked]

    def ready(self, shard: int) -> int:
        """The process of a shard, once it is loaded.

        Raises:
            HANError: It cannot be loaded.
        """
        while not self._closed.is_set():
            try:
                error, process = self._handles[shard].ready.remote().result(timeout_s=_SECONDS_A_TRY)
            except Exception:  # Ray raises many kinds of a replica that is dead or not there yet
                time.sleep(0.1)
                continue
            if error:
                raise_described(error)
            return int(process)
        raise ConfigError("the server was stopped")

    def close(self) -> None:
        """End the shards, which would outlive this process, and wait for none any more."""
        from ray import serve

        self._closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for name in self._names:
            serve.delete(name, _blocking=False)

    def _is_there(self, shard: int) -> bool:
        """Whether a shard answers, as far as known; of one that did not, whether it has answered since."""
        back = self._back.get(shard)
        if back is None:
            return True
        if not back.done():
            return False
        if back.exception() is not None:
            self._lose(shard, f"{back.exception()}")
            return False
        del self._back[shard]
        _log.warning("shard %d answers again", shard)
        return True

    def _call(self, shard: int, method: str, given: tuple[Any, ...]) -> Any | None:
        end = time.monotonic() + _SECONDS_TO_ANSWER
        try:
            response = self._handles[shard].answer.remote(method, given)
            try:
                answer, error = response.result(timeout_s=_SECONDS_A_TRY)
            except TimeoutError:  # it is busy, or dead, and Serve waits for the next one
                self._handles[shard].ready.remote().result(timeout_s=_SECONDS_A_TRY)
                answer, error = response.result(timeout_s=max(0.0, end - time.monotonic()))
        except Exception as failure:  # Ray raises many kinds
            self._lose(shard, type(failure).__name__)
            return None
        if error:
            raise_described(error)
        return answer

    def _lose(self, shard: int, reason: str) -> None:
        if shard not in self._back:
            _log.warning("shard %d of %d does not answer (%s) and is being replaced", shard, self.count, reason)
        self._back[shard] = self._threads.submit(self._await, shard)

    def _await(self, shard: int) -> None:
        self.ready(shard)


class _Replica:
    """A shard in an actor of Ray. Errors are handed over, since Ray would wrap them and Serve would try again."""

    def __init__(self, version: str, index: str, model: str | None, shard: int, shards: int) -> None:
        self._error: tuple[str, str] | None = None
        self._shard: Shard | None = None
        try:
            require_version(version)
            self._shard = Shard(index, model, shard, shards)
            self._shard.warm_up()
        except HANError as error:
            self._error = describe(error)

    def ready(self) -> tuple[tuple[str, str] | None, int]:
        """Why it cannot answer, or None, and the number of its process."""
        import os

        return self._error, os.getpid()

    def answer(self, method: str, given: tuple[Any, ...]) -> tuple[Any, tuple[str, str] | None]:
        """What a method of the shard returns, None where it has another state of the index; and its error."""
        try:
            return getattr(self._shard, method)(*given), self._error
        except Unreadable:
            return None, None
        except HANError as error:
            return None, describe(error)


def _wait(serve: Any, names: Sequence[str], running: RayShards) -> None:
    """Wait until all shards are loaded.

    Raises:
        ConfigError: Serve cannot start one.
        HANError: One cannot be loaded.
    """
    waiting = [running._threads.submit(running.ready, each) for each in range(running.count)]
    said_at = time.monotonic() + _SECONDS_UNTIL_SAID
    while not all(each.done() for each in waiting):
        time.sleep(0.2)
        if time.monotonic() > said_at:  # others may use the CPUs, which is no error
            late = sum(not each.done() for each in waiting)
            _log.warning("%d of %d shards have not started yet: the cluster may have no CPU free", late, len(waiting))
            said_at = math.inf
        for name, status in serve.status().applications.items():
            if name in names and status.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                last = status.message.strip().splitlines()[-1] if status.message.strip() else status.status
                raise ConfigError(f"a shard cannot be started on the cluster: {last}")
    for each in waiting:
        each.result()
