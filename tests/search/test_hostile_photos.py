"""Photos as hostile as disks hold them: none crashes, hangs or fills the memory, and none harms its neighbours.

Each run is in a process of its own, with a limit of time; what it took of memory is measured.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hostile_photos import (
    broken,
    encoded,
    grey_tiff,
    large,
    picture,
    sound,
    write_odd_names,
    write_photos,
    write_what_is_no_file,
)
from hostile_runs import extract_all, index_all, run
from tiny_index import files

from han_retrieval.regions import RegionStore
from han_retrieval.search import Index

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="links to /proc, and memory as Linux has it")

SECONDS_A_FILE = 5  # of small files, most of which take a hundredth
MEGABYTES = 250  # for all small ones
MEGABYTES_OF_TABLES = 300  # of Lance and torch, once they work


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, model):
    """Folders of sound photos, and of these among all others; indexes and features of both, and what the runs said."""
    folder = tmp_path_factory.mktemp("corpus")
    photos = sound()
    write_photos(folder / "sound", photos)
    write_odd_names(folder / "sound")
    write_photos(folder / "all", photos | broken())
    write_odd_names(folder / "all")
    write_what_is_no_file(folder / "all", sparse=False)
    index_all(folder / "sound", folder / "of sound", model)
    extract_all(folder / "sound", folder / "of sound")
    verbs = ("open", "index", "extract", "again")
    reports = run(*verbs, photos=folder / "all", out=folder / "of all", model=model, timeout=240)
    return folder, reports


def readable(path):
    return os.fsencode(path.name).decode(errors="replace")


def test_there_are_many_kinds():
    assert len(sound()) >= 80
    assert len(broken()) >= 150
    assert not sound().keys() & broken().keys()


def test_each_opens_or_is_refused_soon_and_in_little_memory(corpus):
    report = corpus[1]["open"]
    refused = {name: result for name, (result, _) in report["opened"].items() if isinstance(result, str)}
    assert not refused.keys() & sound().keys()
    assert max(map(len, refused.values())) < 1000
    assert max(seconds for _, seconds in report["opened"].values()) < SECONDS_A_FILE
    assert report["megabytes"] < MEGABYTES
    for name, reason in {
        "empty.jpg": "the file is empty",
        "messages.jpg": "the file is empty",
        "zero.jpg": "is no regular file",
        "pipe.jpg": "is no regular file",
        "loop.jpg": "cannot be read (Too many levels",
        "dangling.jpg": "no such photo",
        "huge.png": "more pixels than the limit",
        "a-svg-called.jpg": "not an image",
        "many-scans.jpg": "scans, more than any photo has",
        "sparse.jpg": "more than a photo takes",
    }.items():
        assert reason in refused[name]


def test_sound_photos_are_indexed_as_if_alone_and_all_others_are_named(corpus):
    folder, reports = corpus
    report, again = reports["index"], reports["again"]
    assert report["megabytes"] < MEGABYTES + MEGABYTES_OF_TABLES
    alone, among = _tokens(folder / "of sound" / "index"), _tokens(folder / "of all" / "index")
    assert len(alone) > 90
    assert all(np.array_equal(among[photo], its) for photo, its in alone.items())
    indexed = {path for photo in files(folder / "of all" / "index").values() for path in photo}
    named = {Path(name).name for name, _ in report["broken"] + report["unread"]}
    there = {readable(path) for path in (folder / "all").iterdir()} - {"folder.jpg"}
    assert there | {"folder.jpg/inside.png"} == indexed | named
    assert not indexed & named
    assert (again["added"], again["removed"], again["photos"]) == (0, 0, report["photos"])
    assert (again["broken"], again["unread"]) == (report["broken"], report["unread"])


def _tokens(out):
    with Index.open(out) as index:
        found, mask = index.tokens(np.arange(len(index)))
        ids = index.photos["id"].to_pylist()
        return {photo: its[there].numpy() for photo, its, there in zip(ids, found, mask, strict=True)}


def test_sound_photos_are_extracted_as_if_alone_and_all_others_are_named(corpus):
    folder, reports = corpus
    assert reports["extract"]["megabytes"] < MEGABYTES + MEGABYTES_OF_TABLES
    alone, among = (RegionStore.open(folder / name / "features") for name in ("of sound", "of all"))
    names = list(alone.ids)
    assert len(names) > 90
    for one, other in zip(alone.read(names), among.read(names), strict=True):
        assert np.array_equal(one.features, other.features)
    skipped = {Path(name).name for name, _ in reports["extract"]["skipped"]}
    regular = {readable(path) for path in (folder / "all").iterdir() if path.is_file()}
    assert regular | {"folder.jpg/inside.png"} == skipped | set(among.ids)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_spoiled_photos_without_end(tmp_path, seed):
    """As many as 250 of each seed: bytes changed, cut out, doubled, parts of one photo in another."""
    rng = np.random.default_rng(seed)
    whole = [*sound().values()]
    spoiled = {}
    for number in range(250):
        data = bytearray(whole[rng.integers(len(whole))][:50_000])
        for _ in range(rng.integers(1, 6)):
            place, other = (int(n) for n in rng.integers(0, max(1, len(data) - 16), 2))
            kind = rng.integers(4)
            if kind == 0:
                data[place] = rng.integers(256)
            elif kind == 1:
                del data[place : place + int(rng.integers(1, 16))]
            elif kind == 2:
                data[place:place] = data[other : other + 16]
            else:
                data[place : place + 4] = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"][rng.integers(3)]
        spoiled[f"{number}.jpg"] = bytes(data)
    write_photos(tmp_path / "photos", spoiled)
    report = run("open", photos=tmp_path / "photos", out=tmp_path, model=tmp_path, timeout=300)["open"]
    assert len(report["opened"]) == 250
    assert max(seconds for _, seconds in report["opened"].values()) < 30  # sizes that were changed may be large
    assert report["megabytes"] < 1200


@pytest.mark.slow
def test_photos_of_nearly_the_most_pixels(tmp_path):
    """Each of these is some 400 MB when it is decoded; no kind takes much more than twice that."""
    for name, data in large():
        write_photos(tmp_path / "photos", {name: data})
    report = run("open", photos=tmp_path / "photos", out=tmp_path, model=tmp_path, timeout=300)["open"]
    assert len(report["opened"]) > 10
    assert max(seconds for _, seconds in report["opened"].values()) < 60
    assert report["megabytes"] < 1100


@pytest.mark.slow
def test_many_large_photos_are_indexed_in_bounded_memory(tmp_path, model):
    """Twelve of 100 million pixels, 400 MB each: two at a time are in memory, and what threads keep of others."""
    data = encoded(picture(size=(9_990, 9_990)), "JPEG")
    write_photos(tmp_path / "photos", {f"{i:02}.jpg": data + bytes([i]) for i in range(12)})
    reports = run("index", "extract", photos=tmp_path / "photos", out=tmp_path, model=model, timeout=300)
    assert (reports["index"]["photos"], reports["extract"]["done"]) == (12, 12)
    assert reports["extract"]["megabytes"] < 2200


@pytest.mark.slow
def test_files_that_are_mostly_holes(tmp_path, model):
    write_photos(tmp_path / "photos", {"a.png": encoded(picture(), "PNG"), "b.tif": grey_tiff(8, 8)})
    names = write_what_is_no_file(tmp_path / "photos", sparse=True)
    assert {"sparse.jpg", "sparse.ppm", "sparse-2-gb.tif"} <= set(names)
    report = run("index", photos=tmp_path / "photos", out=tmp_path, model=model, timeout=120)["index"]
    named = {Path(name).name for name, _ in report["broken"] + report["unread"]}
    assert {"sparse.jpg", "core.jpg", "messages.jpg", "memory.jpg", "pipe.jpg"} <= named
    assert report["megabytes"] < 1400
