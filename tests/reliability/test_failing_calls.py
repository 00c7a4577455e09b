"""Every command that writes, where a system call fails, the disk is full or read-only: one line, and nothing is lost.

``HAN_EVERY_CALL=1`` lets every single call fail; without it, some of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager, suppress

import pytest
from disturbed import NAMES, check_output
from test_kills_anywhere import EVERY_CALL, disturb_at, places

FAILED = 2


def check_failed(command, out, run) -> None:
    """The run said in one line what went wrong, or none is to be said, as it ended like an undisturbed run."""
    assert run.code in (0, FAILED), f"exit code {run.code}: {run.err}"
    check_output(run, out)
    command.check(out)
    if run.code == 0:
        command.check_done(out)
    command.check_goes_on(out)


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize(("name", "kind"), [("extract", "ENOSPC"), ("index update", "EIO")])
def test_a_call_that_fails(command, tmp_path, name, kind):
    changing = command(name)
    disturb_at(changing, tmp_path / "out", places(changing, 2, first=15), kind, check_failed)


@pytest.mark.slow
@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize(("kind", "count"), [("EIO", 10), ("ENOSPC", 4), ("EROFS", 2), ("short", 3)])
@pytest.mark.parametrize("name", NAMES)
def test_many_calls_that_fail(command, tmp_path, name, kind, count):
    changing = command(name)
    disturb_at(changing, tmp_path / "out", places(changing, count), kind, check_failed)


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("name", ["extract", pytest.param("index", marks=pytest.mark.slow)])
def test_a_write_of_data_that_fails(command, tmp_path, name):
    """Lance's writer reports no failure of these: what it wrote must be looked at before it is committed."""
    changing, out = command(name), tmp_path / "out"
    changing.start(out)
    calls = changing.run(out, kind="count").calls
    writes = [at for at, call in enumerate(calls, 1) if call.name == "write" and "data/" in call.path]
    for kind in ("EIO", "short"):
        disturb_at(changing, out, writes if EVERY_CALL else writes[:2], kind, check_failed)


@pytest.mark.parametrize("name", ["extract", pytest.param("index update", marks=pytest.mark.slow)])
def test_no_file_may_grow(command, tmp_path, name):
    """As one byte is missing of a quota: the system writes what fits, and says so."""
    changing, out = command(name), tmp_path / "out"
    largest = max(path.stat().st_size for path in changing.done.rglob("*.lance"))
    for size in (largest - 1, 1000):
        changing.start(out)
        run = changing.run(out, file_size=size)
        check_failed(changing, out, run)


@contextmanager
def mounted(folder, *options: str):
    """A file system of its own on a folder; skips where this process may mount none."""
    folder.mkdir(exist_ok=True)
    if shutil.which("mount") is None or os.name != "posix":
        pytest.skip("there is no mount")
    made = subprocess.run(["mount", *options, folder], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"nothing may be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index", "extract", "train"])
def test_a_disk_that_is_full(command, tmp_path, name):
    """On a disk with room for a part of what is to be written; with more room, the run goes on."""
    changing = command(name)
    needed = sum(path.stat().st_size for path in changing.done.rglob("*"))
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=8m", "none") as disk:
        out, filler = disk / "out", disk / "filler"
        for room in (0, needed // 3):
            changing.start(out)
            filler.write_bytes(bytes(os.statvfs(disk).f_bavail * 4096 - room // 4096 * 4096))
            run = changing.run(out)
            check_output(run, out)
            assert run.code in (0, FAILED), run.err
            with suppress(FileNotFoundError):  # the folder could not be made
                changing.check(out)
            filler.unlink()
            changing.check_goes_on(out)


@pytest.mark.parametrize("name", ["index update", pytest.param("extract more", marks=pytest.mark.slow)])
def test_a_folder_that_is_read_only(command, tmp_path, name):
    changing, out = command(name), tmp_path / "out"
    changing.start(out)
    with mounted(out, "--bind", str(out)):
        made = subprocess.run(["mount", "-o", "remount,ro,bind", out], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(made.stderr)
        run = changing.run(out)
        check_output(run, out)
        assert run.code == FAILED
        assert changing.read(out) == changing.read(changing.before)  # reading goes on
    changing.check_goes_on(out)
