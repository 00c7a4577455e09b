"""Files are there whole or not at all, and errors say which."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from han_retrieval.errors import HANError
from han_retrieval.files import from_home, sync, write_whole


def test_a_file_is_replaced_whole(tmp_path):
    for content in ("old", b"new"):
        write_whole(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_home_folder_is_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert from_home("~/model") == tmp_path / "model"
    assert from_home("~no-such-user/model") == Path("~no-such-user/model")


def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "below", tmp_path / "folder", tmp_path / "none" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(HANError, match=f"{path}: cannot be written"):
            write_whole(path, "content")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_is_left_to_windows_to_keep(tmp_path, monkeypatch):
    monkeypatch.setattr("han_retrieval.files.os.open", lambda *_: pytest.fail("Windows cannot open a folder"))
    monkeypatch.setattr("han_retrieval.files._WINDOWS", True)
    sync(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_text("old")
    for name, target in (("link", "far/file"), ("dangling", "far/new")):
        (tmp_path / name).symlink_to(tmp_path / target)
        write_whole(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / target).read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["dangling", "far", "file", "link", "new"]
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(HANError, match="circle: cannot be written"):
        write_whole(tmp_path / "circle", "new")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        write_whole(tmp_path / "pipe", "content")
        assert read.result(timeout=10) == "content"
    assert (tmp_path / "pipe").is_fifo()
