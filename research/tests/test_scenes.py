from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from han_retrieval.data import open_photo, read_dataset, read_entities
from han_retrieval.errors import HANError
from han_retrieval.text import tokenize
from research.scenes import Scene, captions, compose, render, write_scenes
from research.scenes.things import COLOURS, KINDS, draw_thing

SEEDS = st.integers(0, 2**31)


def scene_of(seed: int) -> Scene:
    return compose(np.random.default_rng(seed))


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, train=20, dev=8, seed=3)
    return folder


def test_the_same_seed_gives_the_same_bytes_and_a_larger_dataset_begins_with_the_smaller(
    written: Path, tmp_path: Path
) -> None:
    write_scenes(tmp_path, train=20, dev=8, seed=3, workers=3)
    assert files(tmp_path) == files(written)
    write_scenes(tmp_path, train=4, dev=2, seed=3)  # replaces what was there
    fewer = files(tmp_path)
    assert len(fewer) == 4 + 2 + 2
    assert all(files(written)[name] == content for name, content in fewer.items() if name.endswith(".jpg"))
    write_scenes(tmp_path, train=4, dev=2, seed=4)
    other = files(tmp_path)
    assert all(other[name] != content for name, content in fewer.items())


def test_the_ordinary_readers_read_them_and_agree(written: Path) -> None:
    dataset = read_dataset(written)
    annotations = read_entities(written / "entities.jsonl")
    assert dataset.splits == {"train": 20, "dev": 8}
    assert not dataset.skipped
    assert [photo.id for photo in dataset.photos] == list(annotations)
    for photo in dataset.photos:
        annotated = annotations[photo.id]
        assert photo.path is not None
        assert open_photo(photo.path).size == (annotated.width, annotated.height)
        assert 3 <= len(photo.captions) <= 5
        for caption, sentence in zip(photo.captions, annotated.sentences, strict=True):
            assert tokenize(caption) == tokenize(" ".join(sentence.tokens))
            assert sentence.phrases
            for phrase in sentence.phrases:
                assert (phrase.types == ("scene",)) == (len(phrase.boxes) == 0)
                for x0, y0, x1, y1 in phrase.boxes:
                    assert 0 <= x0 < x1 <= annotated.width
                    assert 0 <= y0 < y1 <= annotated.height


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HANError, match="file"):
        write_scenes(tmp_path / "file", train=1, dev=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_thing_fills_its_picture(kind: str) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        picture = draw_thing(
            kind, "red", (70, 50), rng=rng, light=-1, tint=np.ones(3), night=False, flying=bool(seed % 2)
        )
        assert picture.size == (70, 50)
        assert picture.getchannel("A").getbbox() == (0, 0, 70, 50)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_thing_has_the_colour_that_is_said(colour: str) -> None:
    names, palette = list(COLOURS), np.array(list(COLOURS.values()))
    for kind in ("cube", "star", "cone"):
        rng = np.random.default_rng(1)
        picture = draw_thing(kind, colour, (60, 60), rng=rng, light=1, tint=np.ones(3), night=False, flying=False)
        pixels = np.asarray(picture).reshape(-1, 4)
        usual = np.median(pixels[pixels[:, 3] == 255, :3], axis=0)
        assert names[np.linalg.norm(palette - usual, axis=1).argmin()] == colour


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_relations_hold_in_the_boxes(seed: int) -> None:
    scene = scene_of(seed)
    for one, relation, other in scene.relations:
        a, b = scene.things[one].extent, scene.things[other].extent
        match relation:
            case "left":
                assert a[0] + a[2] < b[0] + b[2]
            case "right":
                assert a[0] + a[2] > b[0] + b[2]
            case "above":
                assert a[1] + a[3] < b[1] + b[3]
                assert a[3] <= b[1] + 0.03 * scene.height
            case "next":
                assert max(a[0] - b[2], b[0] - a[2]) < 0.14 * scene.width
            case "on":
                assert b[1] <= a[3] < b[3]
                assert b[0] < (a[0] + a[2]) / 2 < b[2]
            case "in":
                assert scene.things[one].seen[0][3] < a[3] < b[3]
                assert b[0] < (a[0] + a[2]) / 2 < b[2]
            case "front":
                assert a[3] > b[3]
                assert min(a[2], b[2]) > max(a[0], b[0])
            case _:
                pytest.fail(relation)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_captions_say_what_is_there(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = compose(rng)
    said = captions(scene, rng)
    assert 3 <= len(said) <= 5
    assert len({caption.text() for caption in said}) == len(said)
    assert set().union(*(caption.things for caption in said)) == set(range(len(scene.things)))
    numbers = {"a": 1, "an": 1, "two": 2, "pair": 2, "three": 3}
    for caption in said:
        spans = [(start, end) for start, end, _ in caption.phrases]
        assert spans == sorted(spans)
        for start, end, index in caption.phrases:
            words = caption.tokens[start:end]
            if index < 0:
                continue
            thing = scene.things[index]
            assert set(words) & set(COLOURS) <= {thing.colour}
            assert words[-1] in {noun + ending for noun in KINDS[thing.kind].nouns for ending in ("", "s")}
            assert {numbers[word] for word in words[:2] if word in numbers} >= {len(thing.boxes)}
            alike = [other for other in scene.things if other.kind == thing.kind]
            assert thing.colour in words or len(alike) == 1
            if words[0] in ("a", "an") and len(thing.boxes) == 1:
                assert (words[0] == "an") == (words[1][0] in "aeiou")


def test_something_is_drawn_in_each_box() -> None:
    for seed in range(25):
        scene = scene_of(seed)
        empty = Scene(**{name: getattr(scene, name) for name in Scene.__slots__} | {"things": (), "relations": ()})
        full, bare = (np.asarray(render(s, np.random.default_rng(9)), np.float32) for s in (scene, empty))
        changed = np.abs(full - bare).max(-1) > 25
        assert not full.shape[0] - scene.height
        for thing in scene.things:
            for x0, y0, x1, y1 in thing.seen:
                assert changed[y0:y1, x0:x1].mean() > 0.2, (seed, thing)


def test_captions_of_different_photos_are_seldom_the_same() -> None:
    counts: Counter[str] = Counter()
    for seed in range(300):
        rng = np.random.default_rng([1, seed])
        counts.update({" ".join(tokenize(caption.text())) for caption in captions(compose(rng), rng)})
    assert sum(count for count in counts.values() if count > 1) < 0.05 * counts.total()


def test_every_kind_colour_and_relation_occurs() -> None:
    scenes = [scene_of(seed) for seed in range(400)]
    assert {thing.kind for scene in scenes for thing in scene.things} == set(KINDS)
    assert {thing.colour for scene in scenes for thing in scene.things} == set(COLOURS)
    relations = {relation for scene in scenes for _, relation, _ in scene.relations}
    assert relations == {"left", "right", "next", "above", "on", "in", "front"}
    assert {len(scene.things) for scene in scenes} == {1, 2, 3, 4}


def test_pictures_are_of_the_scene_s_size() -> None:
    scene = scene_of(0)
    picture = render(scene, np.random.default_rng(0))
    assert isinstance(picture, Image.Image)
    assert (picture.mode, picture.size) == ("RGB", (scene.width, scene.height))
