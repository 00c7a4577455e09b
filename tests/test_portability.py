"""What only one operating system has is used nowhere, and paths of Windows are read as such."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest
from PIL import Image

import han_retrieval
from han_retrieval import files
from han_retrieval.files import sync, write_whole
from han_retrieval.search import scan as scan_module
from han_retrieval.search.settings import Patterns

SOURCE = Path(han_retrieval.__file__).parent

# What Python lacks on Windows: modules, and names of modules that are there.
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
SIGNALS = {
    *("SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGIO", "SIGKILL", "SIGPIPE", "SIGPROF", "SIGQUIT", "SIGSTOP"),
    *("SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH", "alarm", "pause"),
    *("pthread_kill", "pthread_sigmask", "setitimer", "siginterrupt", "sigwait"),
}
OF_OS = {
    *("O_DIRECTORY", "O_NONBLOCK", "WNOHANG", "chown", "chroot", "confstr", "fchmod", "fchown", "fork", "forkpty"),
    *("getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid", "getpriority", "getuid", "initgroups"),
    *("killpg", "lchown", "lockf", "mkfifo", "mknod", "nice", "openpty", "pathconf", "posix_fadvise", "pread"),
    *("preadv", "pwrite", "register_at_fork", "sched_getaffinity", "sched_setaffinity", "sendfile", "setpriority"),
    *("setsid", "statvfs", "sync", "sysconf", "uname", "wait", "wait3"),
}

IMPORT_ALL = """
import builtins, importlib, pkgutil, signal, sys, types
modules, signals = (set(argument.split(",")) for argument in sys.argv[1:])
some_signals = types.ModuleType("signal")
some_signals.__dict__.update((name, value) for name, value in vars(signal).items() if name not in signals)
original = builtins.__import__

def as_on_windows(name, globals=None, locals=None, fromlist=(), level=0):
    ours = (globals or {}).get("__name__", "").partition(".")[0] == "han_retrieval"
    if ours and not level and name.partition(".")[0] in modules:
        raise ModuleNotFoundError(f"{globals['__name__']} imports {name}, which Windows lacks", name=name)
    return some_signals if ours and name == "signal" else original(name, globals, locals, fromlist, level)

builtins.__import__ = as_on_windows
import han_retrieval
for module in pkgutil.walk_packages(han_retrieval.__path__, "han_retrieval."):
    importlib.import_module(module.name)
print(sum(name.startswith("han_retrieval") for name in sys.modules))
"""


def test_every_module_can_be_imported_without_what_windows_lacks():
    arguments = [",".join(MODULES), ",".join(SIGNALS)]
    found = subprocess.run([sys.executable, "-c", IMPORT_ALL, *arguments], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) == len(list(SOURCE.rglob("*.py")))


def test_nothing_that_windows_lacks_is_used_anywhere():
    """In functions either, where importing a module does not show it."""
    found = []
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [each.name.partition(".")[0] for each in node.names if each.name.partition(".")[0] in MODULES]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                lacking = {"os": OF_OS, "signal": SIGNALS}.get(node.module or "", set())
                names = [each.name for each in node.names if each.name in lacking or node.module in MODULES]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                names = [node.attr] if node.attr in {"os": OF_OS, "signal": SIGNALS}.get(node.value.id, ()) else []
            found += [f"{file.relative_to(SOURCE)}, line {node.lineno}: {name}" for name in names]
    assert found == []


def test_files_are_written_where_folders_cannot_be_opened_and_files_are_in_use(tmp_path, monkeypatch):
    """As on Windows."""
    opened, replace, refused = [], Path.replace, []

    def open_file(path, flags, *rest, original=files.os.open):
        assert not Path(path).is_dir()
        opened.append(flags & files.os.O_RDWR)
        return original(path, flags, *rest)

    def replace_later(source, target):
        if len(refused) < 3:
            refused.append(target)
            raise PermissionError(13, "used by another process")
        return replace(source, target)

    monkeypatch.setattr(files, "_WINDOWS", True)
    monkeypatch.setattr(files.os, "open", open_file)
    monkeypatch.setattr(Path, "replace", replace_later)
    write_whole(tmp_path / "file", "content")
    assert (tmp_path / "file").read_text() == "content"
    assert len(refused) == 3
    sync(tmp_path / "file")
    sync(tmp_path)
    assert opened == [files.os.O_RDWR]


def test_names_that_the_output_cannot_show_are_escaped(tmp_path):
    """In a pipe on Windows the encoding is a code page."""
    photos = tmp_path / "写真"
    photos.mkdir()
    Image.new("RGB", (8, 8)).save(photos / "犬.png")
    program = "import sys; from han_retrieval.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "extract", str(photos), "--detector", "grid", "--out", f"{photos}-out"]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    found = subprocess.run(command, capture_output=True, env=environment)
    assert found.returncode == 0, found.stderr
    assert b"\\u5199\\u771f-out: 1 photos" in found.stdout


class WindowsFile(PureWindowsPath):
    """A path of Windows; every file is there."""

    def absolute(self):
        return self

    expanduser = resolve = absolute

    def is_dir(self):
        return True

    def exists(self):
        return True

    def stat(self):
        return files.os.stat(__file__)


@pytest.fixture
def windows(monkeypatch):
    """Folders of photos as ``scan`` sees them on Windows."""
    folders = {
        r"C:\Photos": ["1.jpg"],
        r"C:\Photos\Trips\2024": ["Nul point.jpg", "b.PNG"],
        r"C:\Photos\Private": ["c.jpg"],
        r"\\server\share\photos": ["d.jpg"],
    }

    def photo_files(root, *, enter, **_):
        for folder, names in folders.items():
            inside = WindowsFile(folder)
            if inside.is_relative_to(root) and (inside == root or enter(folder)):
                yield from (inside / name for name in names)

    monkeypatch.setattr(scan_module, "Path", WindowsFile)
    monkeypatch.setattr(scan_module, "to_path", WindowsFile)
    monkeypatch.setattr(scan_module, "from_home", WindowsFile)
    monkeypatch.setattr(scan_module, "photo_files", photo_files)


def test_photos_below_a_drive_or_a_share_have_places_with_slashes(windows):
    found = scan_module.scan({r"C:\Photos": Patterns(exclude=["private"]), r"\\server\share\photos": Patterns()})
    assert sorted(found.files) == [
        ("C:\\Photos", "1.jpg"),
        ("C:\\Photos", "Trips/2024/Nul point.jpg"),
        ("C:\\Photos", "Trips/2024/b.PNG"),
        ("\\\\server\\share\\photos", "d.jpg"),
    ]
    some = scan_module.scan({r"C:\Photos": Patterns(include=["trips/*/b.png"])})
    assert sorted(some.files) == [("C:\\Photos", "Trips/2024/b.PNG")]
    assert sorted(scan_module.scan({r"C:\Photos": Patterns(exclude=["trips/2024"])}).files)[1:] == [
        ("C:\\Photos", "Private/c.jpg")
    ]


def test_a_folder_is_known_in_other_capitals_and_another_is_not(windows):
    assert scan_module.root_name(r"c:\photos", [r"C:\Photos"]) == r"C:\Photos"
    assert scan_module.root_name("C:/Photos", [r"C:\Photos"]) == r"C:\Photos"
    assert scan_module.root_name(r"D:\Photos", [r"C:\Photos"]) == r"D:\Photos"
