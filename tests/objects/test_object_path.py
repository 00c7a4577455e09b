"""A path in object storage acts as one in a folder."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from han_retrieval.errors import StoreError
from han_retrieval.objects import ObjectPath, is_remote, to_path

NAMES = ("a.txt", "b/c.png", "b/été à la mer/写真 100% #1?.png", "b/d%_+ .png", ".hidden/e.png")


@pytest.mark.parametrize(
    "name", ["s3://bucket/a/b.txt", "s3://bucket//a/./b.txt/", Path("s3://bucket/a/b.txt"), "s3:/bucket/a/b.txt"]
)
def test_urls_are_told_from_files_and_are_made_plain(name):
    path = to_path(name)
    assert is_remote(path)
    assert str(path) == path.as_posix() == "s3://bucket/a/b.txt"
    assert (path.name, path.stem, path.suffix, str(path.parent)) == ("b.txt", "b", ".txt", "s3://bucket/a")
    assert path.parent / "b.txt" == path == path.absolute() == to_path(path) == pickle.loads(pickle.dumps(path))
    assert path.with_name("c") == to_path("s3://bucket/a/c")
    assert path.relative_to(to_path("s3://bucket")).as_posix() == "a/b.txt"
    assert not path.is_relative_to(to_path("s3://bucket/a/b"))
    assert not path.is_relative_to(Path("/"))


@pytest.mark.parametrize("name", ["photos", "s3", "./s3:/x", "/s3://x", "hf:x", "C:/x", "ss3://x"])
def test_names_of_files_stay_paths(name):
    assert to_path(name) == Path(name)
    assert not is_remote(to_path(name))


@pytest.mark.parametrize("name", ["s3://", "s3:///", "gs:/"])
def test_a_url_without_a_bucket_is_refused(name):
    with pytest.raises(StoreError, match="names no bucket"):
        to_path(name)


def test_what_is_written_is_found_by_its_name(url):
    top = to_path(url)
    for name in NAMES:
        (top / name).write_bytes(name.encode())
    assert [file.relative_to(top).as_posix() for file in top.walk_files()] == sorted(NAMES)
    assert {file.read_bytes().decode() for file in top.walk_files()} == set(NAMES)
    assert {each.name for each in top.iterdir()} == {"a.txt", "b", ".hidden"}
    assert [each.name for each in top.glob("*.txt")] == ["a.txt"]
    for name in NAMES:
        path = top / name
        assert path.exists()
        assert path.is_file()
        assert not path.is_dir()
        assert path.stat().st_size == len(name.encode())
    assert (top / "b").is_dir()
    assert not (top / "b").is_file()
    assert not (top / "a").exists()  # a beginning of a name is no folder
    (top / "a.txt").unlink()
    assert not (top / "a.txt").exists()
    with pytest.raises(FileNotFoundError):
        (top / "a.txt").read_bytes()
    top.delete_below()
    assert not top.exists()


def test_conditions_of_writing_are_kept(url):
    path = to_path(url) / "one"
    first = path.write_bytes(b"1", new=True)
    with pytest.raises(FileExistsError):
        path.write_bytes(b"2", new=True)
    second = path.write_bytes(b"2", instead_of=first)
    with pytest.raises(FileExistsError):
        path.write_bytes(b"3", instead_of=first)
    path.write_bytes(b"4", instead_of=second)
    assert path.read_bytes() == b"4"
    assert isinstance(path, ObjectPath)


def test_contents_of_one_second_and_size_are_told_apart(url):
    """Storages keep whole seconds: a photo that is redrawn at once must not count as unchanged."""
    file = to_path(f"{url}/photo")
    times = set()
    for content in (b"one", b"two", b"six"):
        file.write_bytes(content)
        listed = next(each for each in to_path(url).walk_files() if each.name == "photo")
        assert listed.stat().st_mtime_ns == file.stat_now().st_mtime_ns
        times.add(file.stat_now().st_mtime_ns)
    assert len(times) == 3
