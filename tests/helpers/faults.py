"""Faults at the n-th system call by which a process changes a folder, on Linux.

The kernel hands such calls of the process to this one before it makes them (seccomp's user notification, Linux 5.6),
whichever language they come from: Lance's Rust makes some of them without the C library, where no preloaded library
would see them. A call is then let through, refused with an error, cut short, or the process is killed at it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

MACHINES = {  # the number of an architecture, of seccomp, and of each call
    "x86_64": (0xC000003E, 317, {
        1: "write", 18: "pwrite64", 20: "writev", 77: "ftruncate", 285: "fallocate", 74: "fsync", 75: "fdatasync",
        82: "rename", 264: "renameat", 316: "renameat2", 86: "link", 265: "linkat", 87: "unlink", 263: "unlinkat",
        84: "rmdir", 83: "mkdir", 258: "mkdirat", 257: "openat", 326: "copy_file_range", 40: "sendfile",
    }),
    "aarch64": (0xC00000B7, 277, {
        64: "write", 68: "pwrite64", 66: "writev", 46: "ftruncate", 47: "fallocate", 82: "fsync", 83: "fdatasync",
        38: "renameat", 276: "renameat2", 37: "linkat", 35: "unlinkat", 34: "mkdirat", 56: "openat",
        285: "copy_file_range", 71: "sendfile",
    }),
}  # fmt: skip

_PATHS = {  # where a call has a path, and before it the folder that the path starts from (None: the current one)
    "rename": ((None, 0), (None, 1)), "renameat": ((0, 1), (2, 3)), "renameat2": ((0, 1), (2, 3)),
    "link": ((None, 0), (None, 1)), "linkat": ((0, 1), (2, 3)), "unlink": ((None, 0),), "unlinkat": ((0, 1),),
    "rmdir": ((None, 0),), "mkdir": ((None, 0),), "mkdirat": ((0, 1),), "openat": ((0, 1),),
}  # fmt: skip
_OUTPUT = {"copy_file_range": 2}  # which argument is the file that is written; else the first
_NEEDS_NO_ROOM = ("rename", "unlink", "rmdir")  # a full disk lets these through
_AT_CWD = 0xFFFFFF9C
_SIGNED = 1 << 31

KINDS = ("kill", "torn", "short", "EIO", "ENOSPC", "EROFS")
"""What happens at the n-th call: the process is killed before it, or in the midst of it, half being written; half is
written, and the process told so; it fails once; it and all later ones that need room fail; all later ones fail."""


@dataclass(frozen=True)
class Fault:
    """What happens below ``folder`` at the call number ``at``, from 1; with "count", nothing does."""

    kind: str
    at: int
    folder: Path


class Call(NamedTuple):
    """A call that changes a file: its name, and the path below the folder."""

    name: str
    path: str


def why_not() -> str | None:
    """Why faults cannot be made on this machine; None where they can."""
    if not sys.platform.startswith("linux") or platform.machine() not in MACHINES:
        return "the system has no seccomp, or its calls have other numbers"
    child = os.fork()
    if not child:
        try:
            listen()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    return None if os.waitpid(child, 0)[1] == 0 else "the system lets nobody listen to system calls"


def listen() -> int:
    """In the process that is to suffer, with one thread: the file descriptor by which ``supervise`` hears of calls.

    From then on, calls that change files wait until they are answered.
    """
    arch, seccomp, calls = MACHINES[platform.machine()]
    load, equal, any_bit, give = 0x20, 0x15, 0x45, 0x06
    allow, notify = 0x7FFF0000, 0x7FC00000
    opening = next(number for number, name in calls.items() if name == "openat")
    others = [number for number in calls if number != opening]
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    end = len(others)
    program = [
        (load, 0, 0, 4),
        (equal, 0, end + 2, arch),  # another architecture's calls: allow
        (load, 0, 0, 0),
        (equal, end + 1, 0, opening),
        *((equal, end - place + 3, 0, number) for place, number in enumerate(others)),
        (give, 0, 0, allow),
        (load, 0, 0, 16 + 8 * 2),  # the flags of openat
        (any_bit, 1, 0, writing),
        (give, 0, 0, allow),
        (give, 0, 0, notify),
    ]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    listener = libc.syscall(seccomp, 1, 8, ctypes.c_char_p(filter_))  # SET_MODE_FILTER, FLAG_NEW_LISTENER
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


def supervise(listener: int, process: int, fault: Fault, *, seconds: float) -> list[Call]:
    """Answer the calls of a process until it ends, with the fault at its place; killed after so many seconds.

    Returns:
        The calls that would change something below the folder, in their order.
    """
    pidfd = os.pidfd_open(process)
    seen: list[Call] = []
    until = time.monotonic() + seconds
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    try:
        while True:
            ready = dict(poll.poll(max(0, 1000 * (until - time.monotonic()))))
            if pidfd in ready:
                return seen
            if not ready:
                os.kill(process, signal.SIGKILL)
                return seen
            notice = bytearray(80)
            try:
                fcntl.ioctl(listener, 0xC0502100, notice)  # SECCOMP_IOCTL_NOTIF_RECV
            except OSError:  # the thread is gone
                continue
            answer = _answer(notice, process, pidfd, fault, seen)
            if answer is None:
                os.kill(process, signal.SIGKILL)
                return seen
            try:
                fcntl.ioctl(listener, 0xC0182101, notice[:8] + answer)  # SECCOMP_IOCTL_NOTIF_SEND
            except OSError:
                continue
    finally:
        os.close(pidfd)


_GO_ON = struct.pack("qiI", 0, 0, 1)  # SECCOMP_USER_NOTIF_FLAG_CONTINUE


def _answer(notice: bytearray, process: int, pidfd: int, fault: Fault, seen: list[Call]) -> bytes | None:
    """What to answer to a call; None kills the process."""
    _, thread, _, number, *_ = struct.unpack_from("QIIi", notice)
    arguments = struct.unpack_from("6Q", notice, 32)
    name = MACHINES[platform.machine()][2][number]
    path = next((path for path in _places(name, arguments, thread) if path.is_relative_to(fault.folder)), None)
    if path is None:
        return _GO_ON
    seen.append(Call(name, str(path.relative_to(fault.folder))))
    if fault.kind == "count" or len(seen) < fault.at:
        return _GO_ON
    if fault.kind in ("EIO", "ENOSPC", "EROFS"):
        once, room = fault.kind == "EIO", fault.kind == "ENOSPC" and name.startswith(_NEEDS_NO_ROOM)
        goes_on = (once and len(seen) > fault.at) or room
        return _GO_ON if goes_on else struct.pack("qiI", 0, -getattr(errno, fault.kind), 0)
    if len(seen) > fault.at:
        return _GO_ON
    if fault.kind == "kill":
        return None
    half = _write_half(name, arguments, thread, pidfd)
    if fault.kind == "torn":
        return None
    return _GO_ON if half is None else struct.pack("qiI", half, 0, 0)


def _places(name: str, arguments: tuple[int, ...], thread: int) -> list[Path]:
    """The files that a call is about."""
    try:
        if name not in _PATHS:
            return [Path(f"/proc/{thread}/fd/{arguments[_OUTPUT.get(name, 0)]}").readlink()]
        return [_path(thread, None if at is None else arguments[at], arguments[to]) for at, to in _PATHS[name]]
    except OSError:
        return []


def _path(thread: int, folder: int | None, address: int) -> Path:
    text = b""
    while b"\0" not in text:
        text += _memory(thread, address + len(text), 256)
    path = Path(os.fsdecode(text.partition(b"\0")[0]))
    inside = "cwd" if folder is None or folder & 0xFFFFFFFF == _AT_CWD else f"fd/{folder}"
    return path if path.is_absolute() else Path(f"/proc/{thread}/{inside}").readlink() / path


def _memory(thread: int, address: int, size: int) -> bytes:
    with Path(f"/proc/{thread}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(min(size, 4096 - address % 4096))


def _bytes(thread: int, address: int, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += _memory(thread, address + len(found), size - len(found))
    return found


def _write_half(name: str, arguments: tuple[int, ...], thread: int, pidfd: int) -> int | None:
    """Make half of a write in the process's place; None where the call writes nothing that can be halved."""
    if name not in ("write", "pwrite64", "writev"):
        return None
    descriptor, address, size = arguments[:3]
    if name == "writev":
        parts = struct.iter_unpack("QQ", _bytes(thread, address, 16 * size))
        content = b"".join(_bytes(thread, start, length) for start, length in parts)
    else:
        content = _bytes(thread, address, size)
    half = content[: len(content) // 2]
    if not half:
        return None
    own = ctypes.CDLL(None, use_errno=True).syscall(438, pidfd, ctypes.c_int(descriptor), 0)  # pidfd_getfd
    try:
        return os.pwrite(own, half, arguments[3]) if name == "pwrite64" else os.write(own, half)
    finally:
        os.close(own)
