"""Dataset formats from other packages: found by name, and a broken one harms no other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dataset_files import photos, refused, summary, write

from han_retrieval import plugins
from han_retrieval.data import read_dataset
from han_retrieval.errors import ConfigError

PAIRS = """
from han_retrieval.data import CaptionedPhotos, DatasetBuilder, read_lines

class Pairs:
    description = "pairs.txt with a photo, a tab and a caption in each line"

    def recognises(self, source):
        return source.name == "pairs.txt"

    def read(self, source):
        builder = DatasetBuilder("pairs", source)
        for number, line in enumerate(read_lines(source), start=1):
            name, _, caption = line.partition("\\t")
            builder.photo(name, name, split=None, where=f"{source}, line {number}")
            builder.caption(name, caption)
        return builder.finish()
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package ``formats`` of this code whose entry points have these names and targets."""
    site = tmp_path / "site"

    def installed(code: str, **targets: str) -> None:
        write(site / "their_formats.py", code)
        info = site / "their_formats-2.0.dist-info"
        write(info / "METADATA", "Metadata-Version: 2.1", "Name: their-formats", "Version: 2.0")
        lines = [f"{name} = their_formats:{target}" for name, target in targets.items()]
        write(info / "entry_points.txt", "[han_retrieval.datasets]", *lines)
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, "their_formats", raising=False)
        plugins.installed.cache_clear()

    yield installed
    sys.modules.pop("their_formats", None)
    monkeypatch.undo()
    plugins.installed.cache_clear()


def test_a_format_of_another_package_is_recognised_and_read(tmp_path: Path, install: Install) -> None:
    install(f"{PAIRS}\nADAPTER = Pairs()", pairs="ADAPTER")
    photos(tmp_path, "a.jpg", "b.jpg")
    file = write(tmp_path / "pairs.txt", "a.jpg\tA dog.", "b.jpg\tA cat.", "a.jpg\tOne more.")
    expected = [("a.jpg", "a.jpg", ["A dog.", "One more."], None), ("b.jpg", "b.jpg", ["A cat."], None)]
    assert summary(read_dataset(file)) == expected
    assert summary(read_dataset(file, format="pairs")) == expected
    refused(write(tmp_path / "notes.md", "x"), "pairs: pairs.txt with a photo, a tab and a caption in each line")


def test_a_format_that_cannot_be_imported_harms_no_other(tmp_path: Path, install: Install) -> None:
    install("import no_such_module", pairs="ADAPTER")
    photos(tmp_path, "a.jpg")
    with pytest.warns(UserWarning, match=r"skipped: .*'pairs' of their-formats 2\.0 .*no_such_module"):
        assert read_dataset(tmp_path).format == "photos"
    with pytest.raises(ConfigError, match=r"'pairs' of their-formats 2\.0 .*no_such_module"):
        read_dataset(tmp_path, format="pairs")


def test_a_format_that_fails_to_recognise_harms_no_other(tmp_path: Path, install: Install) -> None:
    install(f"{PAIRS}\nADAPTER = Pairs()\nADAPTER.recognises = lambda source: source.nme", pairs="ADAPTER")
    photos(tmp_path, "a.jpg")
    with pytest.warns(UserWarning, match=r"'pairs' of their-formats 2\.0 fails to recognise .*nme"):
        assert read_dataset(tmp_path).format == "photos"


def test_a_format_without_its_members_is_named(tmp_path: Path, install: Install) -> None:
    install("class Pairs:\n    def read(self, source): ...", pairs="Pairs")
    photos(tmp_path, "a.jpg")
    with pytest.raises(ConfigError, match=r"'pairs' of their-formats 2\.0 has no description and no recognises"):
        read_dataset(tmp_path, format="pairs")


def test_the_formats_of_this_package_keep_their_names(tmp_path: Path, install: Install) -> None:
    install(f"{PAIRS}\nADAPTER = Pairs()", photos="ADAPTER")
    photos(tmp_path, "a.jpg")
    assert read_dataset(tmp_path, format="photos").format == "photos"
    parts = plugins.installed("datasets")
    ours = {name for name, plugin in parts.items() if plugin.package.startswith("han-retrieval")}
    packed = {"benchmark", "hf", "lance", "manifest", "parquet", "webdataset"}
    assert ours == {"coco", "flickr", "karpathy", "lavis", "metadata", "photos", "scan", "vse-infinity"} | packed
    for name in ours & {"coco", "flickr", "karpathy", "lavis", "metadata"}:
        assert plugins.load("datasets", name).name == name
