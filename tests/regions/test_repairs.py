"""Region stores and indexes that are damaged are mended without losing what is sound."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import lance
import pytest
from fake_detector import FakeDetector, make_photos

from han_retrieval.errors import StoreError
from han_retrieval.regions import RegionStore, extract, rows
from han_retrieval.regions.damage import check_store, repair_store, unchecked_store
from han_retrieval.storage import hashes
from han_retrieval.storage.table import Table

PHOTOS = 9


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"), PHOTOS)


@pytest.fixture
def store(photos, tmp_path, monkeypatch) -> Path:
    """A store with files of five and of four photos."""
    with monkeypatch.context() as patch:
        patch.setattr(Table, "compact", lambda table: None)
        extract(photos.only([photo.id for photo in photos.photos[:5]]), FakeDetector(), tmp_path / "features")
        extract(photos, FakeDetector(), tmp_path / "features")
    assert check_store(tmp_path / "features") == []
    assert repair_store(tmp_path / "features") == []
    return tmp_path / "features"


def features(path: Path) -> dict[str, bytes]:
    store = RegionStore.open(path)
    return {i: each.features.tobytes() for i, each in zip(store.ids, store.read(store.ids), strict=True)}


def data_files(path: Path) -> list[Path]:
    """The data files in the order of their rows."""
    fragments = lance.dataset(path).get_fragments()
    return [path / "data" / each.path for fragment in fragments for each in fragment.metadata.files]


def flip(path: Path, part: bytes) -> None:
    """Flip a bit of a part of a file."""
    content = path.read_bytes()
    assert content.count(part) == 1
    path.write_bytes(content.replace(part, bytes([part[0] ^ 1]) + part[1:]))


def test_one_row_that_is_damaged_leaves_alone_and_is_detected_again(store, photos):
    wanted = features(store)
    flip(data_files(store)[0], wanted["photo 2.png"])
    with pytest.raises(StoreError, match="1 of 9 rows that were read are not as they were written"):
        features(store)
    (damage,) = check_store(store)
    assert damage.path == data_files(store)[0]
    assert "han doctor --repair" in damage.mend
    assert repair_store(store)[-1].endswith("1 of 9 rows were damaged and left it; the others are there")
    del (rest := dict(wanted))["photo 2.png"]
    assert features(store) == rest
    assert check_store(store) == []
    assert extract(photos, FakeDetector(), store).done == 1
    assert features(store) == wanted


@pytest.mark.parametrize("kept", [None, 0, 1000])
def test_rows_of_a_file_that_is_gone_or_cut_leave(store, photos, kept):
    wanted, file = features(store), data_files(store)[1]
    content = file.read_bytes()
    file.unlink()
    if kept is not None:
        file.write_bytes(content[:kept])
    (damage,) = check_store(store)
    assert damage.path == file
    with pytest.raises(StoreError, match=file.name):
        RegionStore.open(store)
    with pytest.raises(StoreError, match=file.name):
        extract(photos, FakeDetector(), store)
    assert repair_store(store)[-1].endswith("4 of 9 rows were damaged and left it; the others are there")
    assert len(features(store)) == 5
    assert extract(photos, FakeDetector(), store).done == 4
    assert features(store) == wanted
    assert check_store(store) == []


@pytest.mark.parametrize("damage", [b"", b"x" * 500, None])
def test_a_manifest_is_put_back_from_its_copy(store, damage):
    wanted = features(store)
    manifest = min((store / "_versions").glob("*.manifest"))
    content = manifest.read_bytes()
    manifest.unlink()
    if damage is not None:
        manifest.write_bytes(damage)
    assert [each.path for each in check_store(store)] == [manifest]
    with pytest.raises(StoreError, match=manifest.name):
        RegionStore.open(store)
    assert repair_store(store) == [f"{manifest}: was damaged; put back from its copy"]
    assert manifest.read_bytes() == content
    assert features(store) == wanted
    assert check_store(store) == []


def test_a_manifest_without_a_copy_gives_way_to_the_version_before(store, photos):
    wanted = features(store)
    manifest = min((store / "_versions").glob("*.manifest"))
    manifest.write_bytes(b"")
    hashes.copy_path(store, hashes.recorded(store)[0]).write_bytes(b"")
    assert "the version before it is the newest now" in repair_store(store)[0]
    assert len(features(store)) == 5
    extract(photos, FakeDetector(), store)
    assert features(store) == wanted


def test_what_cannot_be_mended_is_kept(store):
    for file in (store / "_versions").glob("*.manifest"):
        file.write_bytes(b"x")
    for file in (store / "_hashes").glob("*.manifest"):
        file.write_bytes(b"x")
    before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file() and file.name != "writer.lock"}
    with pytest.raises(StoreError, match="it cannot be mended"):
        repair_store(store)
    assert {file: file.read_bytes() for file in before} == before


def test_hashes_that_are_damaged_are_written_anew(store):
    wanted = features(store)
    hashes._path(store, hashes.recorded(store)[0]).write_text("{")
    with pytest.raises(StoreError, match=r"_hashes/.*json: is damaged"):
        RegionStore.open(store)
    assert check_store(store)
    assert repair_store(store) == [f"{store}: the hashes of its files were damaged; written anew"]
    assert features(store) == wanted
    assert check_store(store) == []


def test_nothing_is_mended_while_another_writes(store, photos):
    with (
        RegionStore.resume(store, fingerprint="fake:1", feature_size=12),
        pytest.raises(StoreError, match="is writing"),
    ):
        repair_store(store)


def test_a_store_of_before_is_read_extended_and_told_to_have_no_checksums(photos, tmp_path, monkeypatch):
    out = tmp_path / "features"
    with monkeypatch.context() as patch:
        patch.setattr(rows, "CHECKSUMS", {})
        patch.setattr(Table, "_record", lambda *_: None)
        extract(photos.only([photo.id for photo in photos.photos[:5]]), FakeDetector(), out)
    assert not (out / "_hashes").exists()
    assert "photo_checksum" not in lance.dataset(out).schema.names
    assert len(features(out)) == 5
    assert check_store(out) == []
    assert "have no checksums" in unchecked_store(out)
    assert extract(photos, FakeDetector(), out).done == 4
    assert len(features(out)) == PHOTOS
    assert (out / "_hashes").exists()  # from now on the files are checked
    file = data_files(out)[0]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreError, match="is cut off"):
        RegionStore.open(out)


def test_a_version_that_a_power_cut_tore_is_one_line_of_warning(store):
    newest = min((store / "_versions").glob("*.manifest"))
    newest.write_bytes(b"torn")
    for file in (store / "_hashes").glob(f"{hashes.recorded(store)[0]}.*"):
        file.unlink()
    code = f"from han_retrieval.cli.main import main; main(['info', {str(store)!r}, '--json'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        f"han: warning: {newest}: cannot be read, as a power cut can leave it; the version before it is used"
    ]
    assert json.loads(done.stdout)["photos"] == 5
