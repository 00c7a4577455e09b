"""Sentences of text files and of datasets."""

from __future__ import annotations

import pytest

from han_retrieval.data import read_sentences
from han_retrieval.errors import HANError


def test_a_line_is_a_sentence_and_a_dataset_gives_its_captions(tmp_path):
    (tmp_path / "queries.txt").write_text("a dog\n\n  two dogs \na dog\n")
    assert read_sentences(tmp_path / "queries.txt") == ["a dog", "two dogs"]
    (tmp_path / "dev_caps.txt").write_text("one\ntwo\n")
    (tmp_path / "table.jsonl").write_text('{"file_name": "a.jpg", "captions": ["x y", "z", "x y"]}\n')
    assert read_sentences(tmp_path / "table.jsonl") == ["x y", "z"]


def test_what_is_wrong_is_said(tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(HANError, match="no sentence in it"):
        read_sentences(tmp_path / "empty.txt")
    with pytest.raises(HANError, match="no such file"):
        read_sentences(tmp_path / "none.txt")
    (tmp_path / "notes.md").write_text("a dog\n")
    with pytest.raises(HANError, match="not a dataset in a known format"):
        read_sentences(tmp_path / "notes.md")
