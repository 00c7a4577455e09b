"""The right to write to a prefix of object storage: an object that its writer renews, in place of a locked file.

Only its first writer can make the object, and only in place of what was read is it replaced (conditional puts). A
writer renews it every few seconds. One that was killed no longer does, and another may take over ``SECONDS`` after the
last renewal, by the clock of the storage; at once, where it ran on the same machine and the process is gone.

A writer that was suspended meanwhile finds the object replaced, and commits nothing more.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from han_retrieval.errors import StoreError
from han_retrieval.objects.path import ObjectPath, ObjectStatus, is_remote
from han_retrieval.storage.closing import Closing

SECONDS = 60.0
_RENEWED = SECONDS / 6  # seconds between two renewals
_TRIES = 10

_held: weakref.WeakValueDictionary[str, Lease] = weakref.WeakValueDictionary()


class Lease(Closing):
    """The right to write below a folder, until it is closed, the process ends, or it was not renewed for too long.

    Raises:
        StoreError: Another process, or another object of this one, has it, or nothing can be written there.
    """

    def __init__(self, folder: ObjectPath, name: str) -> None:
        self._folder, self._file = folder, folder / name
        self._content = json.dumps({"id": uuid.uuid4().hex, **_this_process()}).encode()
        self._lock = threading.Lock()
        self._status = _acquire(folder, self._file, self._content)
        self._renewed = _now()
        self._is_lost = False
        self._closing = threading.Event()
        # Of the object, only what does not keep it from being collected.
        threading.Thread(target=_keep_up, args=(weakref.ref(self), self._closing), daemon=True, name="lease").start()
        self._end = weakref.finalize(self, _release, self._closing, self._file, self._content)
        _held[str(folder)] = self

    def require(self) -> None:
        """Make sure that this is still the one writer.

        Raises:
            StoreError: Another writer has taken over, or the storage cannot be asked.
        """
        if any(now - then > SECONDS / 2 for now, then in zip(_now(), self._renewed, strict=True)):
            self.renew()
        if self._is_lost:
            raise StoreError(
                f"{self._folder}: another process writes to it by now, as this one was not heard of for {SECONDS:.0f} "
                "seconds; what was committed is kept: give the command again when the other has ended"
            )

    def renew(self) -> None:
        """Say that this process goes on.

        Raises:
            StoreError: The storage cannot be asked.
        """
        with self._lock:
            if self._is_lost or self._closing.is_set():
                return
            began = _now()
            try:
                self._status = self._file.write_bytes(self._content, instead_of=self._status)
                self._renewed = began
            except (FileExistsError, FileNotFoundError):
                # The answer to an earlier renewal may have been lost.
                with suppress(FileNotFoundError):
                    content, self._status = self._file.read()
                    self._is_lost = content != self._content
                    if not self._is_lost:
                        self._renewed = began
                    return
                self._is_lost = True

    def close(self) -> None:
        """Let others write."""
        with self._lock:
            if not self._is_lost:
                self._end()
            self._closing.set()


def _now() -> tuple[float, float]:
    """By the clock that nobody sets, which stands still while the machine sleeps, and by the one of the wall."""
    return time.monotonic(), time.time()


def require_lease(table: Path) -> None:
    """Make sure that this process still is the writer of a table, whose folder or the one above it it has a lease of.

    Raises:
        StoreError: Another writer has taken over.
    """
    for folder in (table, table.parent) if is_remote(table) else ():
        if (lease := _held.get(str(folder))) is not None:
            lease.require()


def _acquire(folder: ObjectPath, file: ObjectPath, content: bytes) -> ObjectStatus:
    for _ in range(_TRIES):
        try:
            return file.write_bytes(content, new=True)
        except FileExistsError:
            pass
        try:
            theirs, status = file.read()
            age = folder.seconds_since(status)
            if age <= SECONDS and not _is_gone(theirs):
                raise StoreError(
                    f"{folder}: {_name(theirs)} is writing to it; wait until it ends, or stop it: one that was stopped "
                    f"without notice keeps others out for {max(1, round(SECONDS - age))} more seconds"
                )
            return file.write_bytes(content, instead_of=status)
        except (FileNotFoundError, FileExistsError):  # released or taken over just now
            continue
    raise StoreError(f"{folder}: other processes are writing to it; wait until they end")


def _keep_up(lease: weakref.ref[Lease], closing: threading.Event) -> None:
    while not closing.wait(_RENEWED):
        one = lease()
        if one is None:
            return
        with suppress(StoreError):  # away for a while; a commit will tell
            one.renew()
        del one


def _release(closing: threading.Event, file: ObjectPath, content: bytes) -> None:
    """Delete the object, if it is the writer's own; also when Python ends."""
    closing.set()
    with suppress(StoreError, OSError):
        if file.read_bytes() == content:
            file.unlink(missing_ok=True)


def _this_process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "process": os.getpid(), "system": _system()}


def _system() -> str | None:
    """Tells this run of this machine, and what numbers its processes, from others; None where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except (OSError, NotImplementedError):
        return None


def _is_gone(writer: bytes) -> bool:
    """Whether a writer is known to have ended; where it ran elsewhere, that is not known."""
    told = _read(writer)
    system, process = told.get("system"), told.get("process")
    if system is None or system != _system() or not isinstance(process, int):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _name(writer: bytes) -> str:
    told = _read(writer)
    if "process" not in told:
        return "another process"
    return f"process {told['process']} on {told.get('host', 'another machine')}"


def _read(writer: bytes) -> dict[str, Any]:
    try:
        told = json.loads(writer)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
