from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from han_retrieval.data import EntitiesPhotos, read_entities
from han_retrieval.errors import HANError

XML = """<annotation>
  <filename>1.jpg</filename>
  <size><width>500</width><height>375</height><depth>3</depth></size>
  <object><name>11</name><name>12</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>
  <object><name>11</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>500</xmax><ymax>375</ymax></bndbox></object>
  <object><name>13</name><scene>1</scene><nobndbox>0</nobndbox></object>
</annotation>"""
SENTENCES = """[/EN#11/people/other Two dogs] look [sic] at [/EN#0/notvisual each other] in [/EN#13/scene a park] .
[/EN#12/animals A dog] runs .
"""
RECORD: dict[str, Any] = {
    "file": "1.jpg",
    "width": 500,
    "height": 375,
    "boxes": [{"box": [0, 1, 30, 40], "chains": ["11", "12"]}, {"box": [4, 5, 500, 375], "chains": ["11"]}],
    "unboxed": [{"chains": ["13"], "scene": True}],
    "sentences": [
        {
            "tokens": ["Two", "dogs", "look", "[sic]", "at", "each", "other", "in", "a", "park", "."],
            "phrases": [
                {"start": 0, "end": 2, "chain": "11", "types": ["people", "other"]},
                {"start": 5, "end": 7, "chain": "0", "types": ["notvisual"]},
                {"start": 8, "end": 10, "chain": "13", "types": ["scene"]},
            ],
        },
        {"tokens": ["A", "dog", "runs", "."], "phrases": [{"start": 0, "end": 2, "chain": "12", "types": ["animals"]}]},
    ],
}


def original(folder: Path, *, xml: str = XML, sentences: str = SENTENCES) -> Path:
    for name, text in (("Annotations/1.xml", xml), ("Sentences/1.txt", sentences)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def plain(photos: EntitiesPhotos) -> list[Any]:
    return [
        (key, photo.id, photo.width, photo.height, sentence.tokens, p.start, p.end, p.chain, p.types, p.boxes.tolist())
        for key, photo in photos.items()
        for sentence in photo.sentences
        for p in sentence.phrases
    ]


def test_both_layouts_say_the_same(tmp_path: Path) -> None:
    from_lines = read_entities(lines(tmp_path / "entities.jsonl", RECORD))
    assert plain(from_lines) == plain(read_entities(original(tmp_path)))
    first, second = from_lines["1.jpg"].sentences
    assert first.tokens[first.phrases[0].start : first.phrases[0].end] == ("Two", "dogs")
    assert first.phrases[0].boxes.tolist() == [[0, 1, 30, 40], [4, 5, 500, 375]]
    assert second.phrases[0].boxes.tolist() == [[0, 1, 30, 40]]
    assert first.phrases[1].types == ("notvisual",)
    for phrase in first.phrases:
        assert phrase.boxes.dtype == np.float32
    assert first.phrases[1].boxes.shape == first.phrases[2].boxes.shape == (0, 4)


def test_photos_stand_in_the_order_of_the_file(tmp_path: Path) -> None:
    records = [{**RECORD, "file": name} for name in ("b.jpg", "a.jpg")]
    assert list(read_entities(lines(tmp_path / "entities.jsonl", *records))) == ["b.jpg", "a.jpg"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"file": None}, "line 2: the field 'file' must be text, found None"),
        ({"width": "500"}, "line 2: the field 'width' must be a whole number"),
        ({"boxes": [{"box": [0, 1, 2], "chains": []}]}, r"line 2: a box must be four numbers, .* found \[0, 1, 2\]"),
        ({"boxes": [{"box": [0, 1, 2, "3"], "chains": []}]}, "line 2: a box must be four numbers"),
        ({"boxes": [{"box": [0, 1, float("nan"), 3], "chains": []}]}, "line 2: a box must be four numbers, x0 < x1"),
        ({"boxes": [{"box": [5, 1, 2, 3], "chains": []}]}, r"line 2: a box must be .* found \[5, 1, 2, 3\]"),
        ({"boxes": [{"box": [0, 1, 10**400, 3], "chains": []}]}, "line 2: a box must be four numbers"),
        ({"boxes": [{"chains": []}]}, "line 2: the field 'box' is missing"),
        ({"boxes": [{"box": [0, 1, 2, 3], "chains": [1]}]}, "line 2: the field 'chains' must be .* texts.*; found 1"),
        ({"boxes": [{"box": [0, 1, 2, 3], "chains": [["1"]]}]}, r"line 2: the field 'chains' .*; found \['1'\]"),
        ({"width": 0}, r"line 2: 'width' and 'height' must be from 1 to 999999, found \[0, 375\]"),
        ({"height": 10**400}, r"line 2: 'width' and 'height' must be from 1 to 999999"),
        ({"sentences": [{"tokens": ["A", 2], "phrases": []}]}, "line 2: the field 'tokens' must .*; found 2"),
        ({"sentences": [{"tokens": ["A", ""], "phrases": []}]}, "line 2: the field 'tokens' must .*; found ''"),
        (
            {"sentences": [{"tokens": ["A"], "phrases": [{"start": 0, "end": 1, "chain": "1", "types": [1]}]}]},
            "line 2: the field 'types' must be a list of texts, none empty; found 1",
        ),
        ({"sentences": [{"tokens": []}]}, "line 2: the field 'phrases' is missing"),
        (
            {"sentences": [{"tokens": ["A"], "phrases": [{"start": 0, "end": 2, "chain": "1", "types": []}]}]},
            r"line 2: the phrase \[0, 2\) is not within its sentence of 1 tokens",
        ),
        ({"file": "1.jpg"}, "line 2: photo '1.jpg' is in an earlier line too"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(HANError, match=rf"entities\.jsonl, {reason}"):
        read_entities(lines(tmp_path / "entities.jsonl", RECORD, {**RECORD, "file": "2.jpg", **change}))


@pytest.mark.parametrize(
    ("xml", "sentences", "reason"),
    [
        (XML[:-20], SENTENCES, r"1\.xml: not an Entities annotation"),
        (XML.replace("<width>500</width>", ""), SENTENCES, r"1\.xml: .*<size/width> is missing"),
        (XML.replace("<xmax>30", "<xmax>wide"), SENTENCES, r"1\.xml: .*'wide'"),
        (XML.replace("<width>500", "<width>0"), SENTENCES, r"1\.xml: .*<width> and <height> must be from 1"),
        (XML.replace("<xmax>30", "<xmax>0"), SENTENCES, r"1\.xml: .*xmin <= xmax and .*, found \[1, 2, 0, 40\]"),
        (XML.replace("<xmax>30", "<xmax>3" + "0" * 400), SENTENCES, r"1\.xml: .*xmin <= xmax"),
        (XML, "[/EN#11/people ] look", r"1\.txt, line 1: the phrase at '\[/EN#11/people' has no words"),
        (XML, "[/EN#11/people Two dogs", r"1\.txt, line 1: the phrase at '\[/EN#11/people' has no closing bracket"),
        (XML, "\n[/EN#1/a Two [/EN#2/b dogs]", r"1\.txt, line 2: a phrase begins at '\[/EN#2/b' before"),
    ],
)
def test_a_broken_file_of_the_original_is_named(tmp_path: Path, xml: str, sentences: str, reason: str) -> None:
    with pytest.raises(HANError, match=reason):
        read_entities(original(tmp_path, xml=xml, sentences=sentences))


def test_a_document_type_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>' + XML.replace("1.jpg", "&c;")
    with pytest.raises(HANError, match="DOCTYPE"):
        read_entities(original(tmp_path, xml=bomb))


def test_an_annotation_has_a_largest_size(tmp_path: Path) -> None:
    with pytest.raises(HANError, match=r"1\.xml: larger than 4,194,304 bytes"):
        read_entities(original(tmp_path, xml="<a>" * 2_000_000))


def test_a_missing_annotation_is_named(tmp_path: Path) -> None:
    (original(tmp_path) / "Annotations" / "1.xml").unlink()
    with pytest.raises(HANError, match=r"1\.xml: cannot be read"):
        read_entities(tmp_path)


def test_what_is_neither_layout_is_told_what_is(tmp_path: Path) -> None:
    with pytest.raises(HANError, match="Sentences"):
        read_entities(tmp_path)
    with pytest.raises(HANError, match="cannot be read"):
        read_entities(tmp_path / "nowhere.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(HANError, match="is empty"):
        read_entities(tmp_path / "empty.jsonl")
