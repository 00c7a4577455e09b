"""An index of which a file was damaged gives the same answers, or says what is damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from damaged_tables import wrong_uses
from tiny_index import SENTENCE, make_model, make_photo, make_photos, update

from han_retrieval.matchers import load_aligning_matcher
from han_retrieval.search import Index, search
from han_retrieval.search.rows import to_files
from han_retrieval.storage.table import Table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An index with two data files, a deletion file and a list of broken files; a copy of it can be updated."""
    folder = tmp_path_factory.mktemp("index")
    photos, model = make_photos(folder / "photos", 9), make_model(folder / "model")
    update(photos, folder / "index", model)
    (photos / "000.png").unlink()
    shutil.copy(photos / "003.png", photos / "copy.png")
    make_photo(photos / "new.jpg", 30)
    (photos / "broken.png").write_text("no photo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Table, "compact", lambda table: None)  # which would leave one file
        update(photos, folder / "index", model)
    assert list((folder / "index" / "photos-1" / "_deletions").iterdir())
    return folder


def read(path: Path, folder: Path, model) -> tuple:
    """All that can be read of an index."""
    with Index.open(path) as index:
        rows = range(len(index))
        tokens, mask = index.stored_tokens(rows)
        regions = index.regions(rows)
        hits = search(index, model, SENTENCE, k=5, where="width > 0 and path < '9'")
        return (
            to_files(index.photos),
            index.photos.drop_columns(["id"]).to_pylist(),
            index.pooled.tobytes(),
            tokens.values.numpy().tobytes(),
            tokens.scale.numpy().tobytes(),
            mask.numpy().tobytes(),
            [(each.boxes.tobytes(), each.labels) for each in regions],
            index.region_names(),
            index.made_by,
            index.settings,
            [(hit.path, hit.score) for hit in hits],
        )


def without_states(found: tuple) -> set:
    """What an index holds, in any order."""
    return {(photo_id, tuple((f.root, f.path) for f in files)) for photo_id, files in found[0].items()}


def updated(path: Path, folder: Path, model) -> tuple:
    """What an index holds when it was brought up to date."""
    update(folder / "photos", path, folder / "model")
    found = read(path, folder, model)
    return without_states(found), found[-3:-1], sorted(found[-1])


@pytest.mark.parametrize("use", [read, updated])
def test_damage_of_some_files_is_never_used(folder, tmp_path, use):
    model = load_aligning_matcher(folder / "model")
    tried, refused, wrong = wrong_uses(
        folder / "index", lambda path: use(path, folder, model), tmp_path, count=2, step=13
    )
    assert not wrong
    assert tried > 8
    assert refused


@pytest.mark.slow
@pytest.mark.parametrize("use", [read, updated])
def test_damage_of_each_file_is_never_used(folder, tmp_path, use):
    model = load_aligning_matcher(folder / "model")
    _, refused, wrong = wrong_uses(folder / "index", lambda path: use(path, folder, model), tmp_path, count=3)
    assert not wrong
    assert refused > 50
