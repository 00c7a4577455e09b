"""Locks between processes: one writer, any number of readers, and none of a process that is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from han_retrieval.errors import StoreError
from han_retrieval.storage.locks import WriterLock, hold_version, lock_unread, locked_versions

HOLD = """
import sys
from pathlib import Path
from han_retrieval.storage.locks import WriterLock, hold_version
held = WriterLock(Path(sys.argv[1])) if sys.argv[2] == "write" else hold_version(Path(sys.argv[1]), int(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold(request):
    """Start a process that writes to a folder, or reads a version of a table."""

    def start(path: Path, what: str | int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path), str(what)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        request.addfinalizer(process.communicate)  # its pipes, too
        request.addfinalizer(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    return start


def deletable(table: Path, *versions: int) -> int:
    with lock_unread(table, versions) as count:
        return count


def test_one_writer_until_its_process_is_killed(tmp_path, hold):
    process = hold(tmp_path, "write")
    with pytest.raises(StoreError, match=f"process {process.pid} is writing to it; wait until it ends"):
        WriterLock(tmp_path)
    process.kill()
    process.wait()
    with WriterLock(tmp_path), pytest.raises(StoreError, match=f"process {os.getpid()} is writing to it"):
        WriterLock(tmp_path)
    WriterLock(tmp_path).close()


def test_a_writer_that_cannot_be_read_is_another_process(tmp_path, monkeypatch):
    """As on Windows, where nobody reads what is locked."""

    class Locked:
        def __init__(self, file):
            self._file = file

        def read(self):
            raise PermissionError(13, "another process has locked a portion of the file")

        def __getattr__(self, name):
            return getattr(self._file, name)

    original = Path.open
    with WriterLock(tmp_path):
        monkeypatch.setattr(Path, "open", lambda path, *args, **options: Locked(original(path, *args, **options)))
        with pytest.raises(StoreError, match=": another process is writing to it"):
            WriterLock(tmp_path)


def test_a_folder_that_is_not_there_cannot_be_locked(tmp_path):
    with pytest.raises(StoreError, match="nothing can be written there"):
        WriterLock(tmp_path / "none")


def test_what_is_read_and_all_that_is_newer_is_spared_until_the_readers_are_gone(tmp_path, hold):
    table = tmp_path / "photos-1"
    process, own = hold(table, 2), hold_version(table, 2)
    assert own is not None
    assert deletable(table, 1, 2, 3) == 1
    own.close()
    assert deletable(table, 1, 2, 3) == 1
    process.kill()
    process.wait()
    assert locked_versions(table) == [2]
    assert deletable(table, 3, 1, 2) == 3
    assert locked_versions(table) == []


def test_lock_files_outlive_a_deletion_that_failed(tmp_path):
    table = tmp_path / "photos-1"
    with pytest.raises(OSError, match="disk"), lock_unread(table, [1, 2]):
        raise OSError("disk")
    assert sorted(locked_versions(table)) == [1, 2]
    assert deletable(table, 1, 2) == 2


def test_tables_side_by_side_have_locks_of_their_own(tmp_path):
    first, tenth = hold_version(tmp_path / "photos-1", 5), hold_version(tmp_path / "photos-10", 7)
    assert first is not None
    assert tenth is not None
    assert (locked_versions(tmp_path / "photos-1"), locked_versions(tmp_path / "photos-10")) == ([5], [7])
    first.close()
    assert (deletable(tmp_path / "photos-1", 5), deletable(tmp_path / "photos-10", 7)) == (1, 0)
    tenth.close()


def test_without_a_place_for_locks_reading_goes_on(tmp_path):
    (tmp_path / "readers").touch()
    assert hold_version(tmp_path / "photos-1", 1) is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has other locks")
def test_a_version_is_held_where_locks_need_what_they_protect_open_for_reading(tmp_path, monkeypatch):
    import fcntl

    import portalocker

    # As NFS does for flock.
    monkeypatch.setattr(portalocker.portalocker, "LOCKER", fcntl.lockf)
    held = hold_version(tmp_path / "photos-1", 3)
    assert held is not None
    held.close()
