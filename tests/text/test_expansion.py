from __future__ import annotations

from pathlib import Path

import numpy as np

from han_retrieval.text import Vocabulary, expand_vocabulary
from han_retrieval.text.expansion import _RIDGES, _ridge
from han_retrieval.text.vocabulary import SPECIAL_WORDS

SIZE = 6


def letters(number: int) -> str:
    return "w" + "".join(chr(ord("a") + int(digit)) for digit in str(number))


def source(tmp_path: Path, count: int) -> tuple[Path, np.ndarray]:
    """A file of ``count`` words of letters with random vectors, between others that are no words."""
    vectors = np.random.default_rng(0).normal(size=(count, SIZE)).round(4)
    lines = [f"{letters(i)} " + " ".join(map(str, row)) for i, row in enumerate(vectors)]
    lines[3:3] = ["1.67 " + "1 " * SIZE, "long-standing " + "1 " * SIZE]
    path = tmp_path / "vectors.txt"
    path.write_text("".join(line.strip() + "\n" for line in lines), encoding="utf-8")
    return path, vectors


def test_embeddings_that_are_a_linear_map_of_vectors_are_found_exactly(tmp_path: Path) -> None:
    path, vectors = source(tmp_path, 60)
    true_map = np.random.default_rng(1).normal(size=(SIZE, 9))
    vocabulary = Vocabulary((*SPECIAL_WORDS, "unheard", *(letters(i) for i in range(20, 60))))
    embedding = np.random.default_rng(2).normal(size=(len(vocabulary), 9)).astype(np.float32)
    embedding[5:] = vectors[20:] @ true_map + 0.5
    extended, weights = expand_vocabulary(vocabulary, embedding, source=path, count=52)
    assert extended.words == (*vocabulary.words, *(letters(i) for i in range(20)))
    np.testing.assert_array_equal(weights[: len(vocabulary)], embedding)
    np.testing.assert_allclose(weights[len(vocabulary) :], vectors[:20] @ true_map + 0.5, atol=0.02)


def test_only_the_most_frequent_words_are_looked_at(tmp_path: Path) -> None:
    path, _ = source(tmp_path, 60)
    vocabulary = Vocabulary((*SPECIAL_WORDS, letters(0), letters(59)))
    extended, weights = expand_vocabulary(vocabulary, np.ones((6, 2), np.float32), source=path, count=7)
    assert extended.words[6:] == tuple(letters(i) for i in (1, 2, 3, 4))
    assert weights.shape == (10, 2)


def test_no_word_with_a_vector_leaves_everything_as_it_is(tmp_path: Path) -> None:
    path, _ = source(tmp_path, 5)
    vocabulary = Vocabulary((*SPECIAL_WORDS, "unheard"))
    extended, weights = expand_vocabulary(vocabulary, np.ones((5, 2), np.float32), source=path, count=7)
    assert extended == vocabulary
    assert weights.shape == (5, 2)


def test_repeated_words_count_once_and_words_without_a_vector_not_at_all(tmp_path: Path) -> None:
    path, _ = source(tmp_path, 8)
    lines = path.read_text().splitlines()
    lines.insert(2, "at name@domain.com " + "1 " * SIZE)  # as in glove.840B
    path.write_text("\n".join([*lines, lines[0], lines[0]]) + "\n")
    vocabulary = Vocabulary((*SPECIAL_WORDS, letters(7)))
    extended, weights = expand_vocabulary(vocabulary, np.ones((5, 2), np.float32), source=path, count=100)
    assert extended.words[5:] == tuple(letters(i) for i in range(7))
    assert weights.shape == (12, 2)


def test_the_ridge_is_the_one_whose_left_out_error_is_least() -> None:
    random = np.random.default_rng(3)
    inputs = random.normal(size=(12, SIZE))
    targets = inputs @ random.normal(size=(SIZE, 4)) + 3 * random.normal(size=(12, 4))

    def solve(x: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
        return np.asarray(np.linalg.solve(x.T @ x + ridge * np.eye(SIZE), x.T @ y))

    def left_out(ridge: float) -> float:
        kept = [np.arange(12) != i for i in range(12)]
        return sum(np.square(targets[~k] - inputs[~k] @ solve(inputs[k], targets[k], ridge)).sum() for k in kept)

    best = min(_RIDGES, key=left_out)
    assert _RIDGES[0] < best  # noise as here asks for more than the least
    np.testing.assert_allclose(_ridge(inputs, targets), solve(inputs, targets, best), atol=1e-8)
