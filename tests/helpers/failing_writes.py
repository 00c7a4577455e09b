"""Writes of files that fail, as on a disk that is full or broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Counts calls that write to files whose path contains $FAIL_IN; the $FAIL_AT-th and all that follow fail with EIO, or
# that one alone with $FAIL_ONCE. $FAIL_COUNT is a file that gets a byte a call.
_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <fcntl.h>

static atomic_int calls;

static int fails(int fd) {
    const char *in = getenv("FAIL_IN"), *at = getenv("FAIL_AT"), *count = getenv("FAIL_COUNT");
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0 || !in) return 0;
    path[length] = 0;
    if (!strstr(path, in)) return 0;
    int n = ++calls;
    if (count) {
        FILE *file = fopen(count, "a");
        if (file) { fputc('x', file); fclose(file); }
    }
    if (!at || n < atoi(at) || (getenv("FAIL_ONCE") && n > atoi(at))) return 0;
    errno = EIO;
    return 1;
}

#define WRAP(type, name, parameters, arguments) \
    type name parameters { \
        static type (*real) parameters; \
        if (!real) real = dlsym(RTLD_NEXT, #name); \
        return fails(fd) ? -1 : real arguments; \
    }
WRAP(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
WRAP(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
WRAP(ssize_t, pwrite64, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
WRAP(ssize_t, writev, (int fd, const struct iovec *data, int count), (fd, data, count))
WRAP(int, fsync, (int fd), (fd))
WRAP(int, fdatasync, (int fd), (fd))
WRAP(int, ftruncate64, (int fd, off_t size), (fd, size))
"""


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """No file may grow beyond some bytes: of a write that would go on, the part up to there is done."""
    resource = pytest.importorskip("resource")
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def build_shim(folder: Path) -> Path:
    """Build the library that makes writes fail; skips the test where that is not possible."""
    if not sys.platform.startswith("linux") or shutil.which("gcc") is None:
        pytest.skip("needs Linux and gcc")
    source, library = folder / "failing.c", folder / "failing.so"
    source.write_text(_SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def run_with_failing_writes(
    library: Path, code: str, *arguments: object, within: str, at: int | None = None, once: bool = False
) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run Python code, and count the calls that write below ``within``; from the ``at``-th on they fail with EIO."""
    count = library.with_name("count")
    count.write_bytes(b"")
    environment = os.environ | {"LD_PRELOAD": str(library), "FAIL_IN": within, "FAIL_COUNT": str(count)}
    environment |= {"FAIL_AT": str(at)} if at is not None else {}
    environment |= {"FAIL_ONCE": "1"} if once else {}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    return done, count.stat().st_size
