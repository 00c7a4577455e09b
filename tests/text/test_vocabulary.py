from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from han_retrieval.errors import HANError
from han_retrieval.text import END, PAD, START, UNK, EncodedSentence, Vocabulary, WordTokenizer, tokenize

CAPTIONS = ["A dog runs .", "The dog sleeps", "a Cat runs", "a dog"]
SPECIAL = ["<pad>", "<start>", "<end>", "<unk>"]


def test_words_stand_by_count_then_alphabet() -> None:
    vocabulary = Vocabulary.from_sentences(CAPTIONS, min_count=1)
    assert list(vocabulary.words) == [*SPECIAL, "a", "dog", "runs", "cat", "sleeps", "the"]
    assert [PAD, START, END, UNK] == [0, 1, 2, 3]


def test_rare_words_are_left_out() -> None:
    assert list(Vocabulary.from_sentences(CAPTIONS, min_count=2).words) == [*SPECIAL, "a", "dog", "runs"]
    assert len(Vocabulary.from_sentences(CAPTIONS, min_count=9)) == 4


@settings(deadline=None)
@given(st.permutations(CAPTIONS))
def test_the_order_of_the_sentences_does_not_matter(captions: list[str]) -> None:
    assert Vocabulary.from_sentences(captions, min_count=1) == Vocabulary.from_sentences(CAPTIONS, min_count=1)


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), max_size=5))
def test_every_word_of_its_sentences_is_known(sentences: list[str]) -> None:
    vocabulary = Vocabulary.from_sentences(sentences, min_count=1)
    for sentence in sentences:
        ids = WordTokenizer(vocabulary).encode(sentence).ids
        assert [vocabulary.words[i] for i in ids] == tokenize(sentence)
        assert UNK not in ids


def test_unknown_words_are_unk() -> None:
    vocabulary = Vocabulary.from_sentences(CAPTIONS, min_count=1)
    assert WordTokenizer(vocabulary).encode("a zebra and a dog").ids == [4, UNK, UNK, 4, 5]
    assert "dog" in vocabulary
    assert "zebra" not in vocabulary


def test_start_and_end_surround_the_words() -> None:
    vocabulary = Vocabulary.from_sentences(CAPTIONS, min_count=1)
    around = WordTokenizer(vocabulary, bos_eos=True)
    assert around.encode("a dog zebra")[:4] == (
        [START, 4, 5, UNK, END], ("a", "dog", "zebra"), (True, True, False), ((1, 2), (2, 3), (3, 4)),
    )  # fmt: skip
    assert around.encode("").ids == [START, END]
    assert WordTokenizer(vocabulary).encode("")[:4] == ([], (), (), ())


def test_rows_of_ids_become_rows_of_words() -> None:
    encoded = EncodedSentence([1, 7, 8, 9, 2], ("sun", "flower"), (True, True), ((1, 2), (2, 4)))
    rows = torch.arange(10.0).view(5, 2)
    assert encoded.per_word(rows).tolist() == [[2, 3], [5, 6]]
    assert EncodedSentence([1, 2], (), (), ()).per_word(rows[:2]).shape == (0, 2)


def test_a_sentence_cannot_name_the_special_words() -> None:
    vocabulary = Vocabulary.from_sentences(CAPTIONS, min_count=1)
    assert not {PAD, START, END} & set(WordTokenizer(vocabulary).encode("<pad> <start> <end>").ids)


def test_saved_is_loaded(tmp_path: Path) -> None:
    vocabulary = Vocabulary.from_sentences([*CAPTIONS, "Straße हिन्दी"], min_count=1)
    vocabulary.save(tmp_path / "vocabulary.json")
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary
    assert [path.name for path in tmp_path.iterdir()] == ["vocabulary.json"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vocabulary.json"
    old = Vocabulary.from_sentences(CAPTIONS, min_count=2)
    old.save(path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(HANError, match="No space left"):
        Vocabulary.from_sentences(CAPTIONS, min_count=1).save(path)
    assert Vocabulary.load(path) == old
    assert [path.name for path in tmp_path.iterdir()] == ["vocabulary.json"]


def test_scans_file_keeps_its_ids(tmp_path: Path) -> None:
    ids = {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "zebra": 5, ".": 4, "a": 6}
    content = {"word2idx": ids, "idx2word": {str(i): word for word, i in ids.items()}, "idx": len(ids)}
    (tmp_path / "f30k_precomp_vocab.json").write_text(json.dumps(content))
    vocabulary = Vocabulary.load(tmp_path / "f30k_precomp_vocab.json")
    assert WordTokenizer(vocabulary).encode("A zebra flies .").ids == [6, 5, UNK]
    assert {word: i for i, word in enumerate(vocabulary.words)} == ids


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "line 1: broken JSON"),
        ("\xff", "line 1: not UTF-8"),
        ("[]", "'words', or 'word2idx'"),
        ("{}", "'words', or 'word2idx'"),
        (json.dumps({"version": 9, "words": SPECIAL}), "version 9"),
        (json.dumps({"words": SPECIAL}), "version None"),
        (json.dumps({"version": 1, "words": "dog"}), "list of words"),
        (json.dumps({"version": 1, "words": [*SPECIAL, ""]}), "list of words"),
        (json.dumps({"version": 1, "words": ["dog"]}), "starts with"),
        (json.dumps({"version": 1, "words": [*SPECIAL, "dog", "dog"]}), "'dog' 2 times"),
        (json.dumps({"word2idx": ["a"]}), "word2idx"),
        (json.dumps({"word2idx": {"<pad>": 0, "a": 7}}), "0 to 1"),
        (json.dumps({"word2idx": {"<pad>": "0"}}), "its number"),
        (json.dumps({"word2idx": {"a": 0, "b": 1}}), "starts with"),
    ],
)
def test_a_malformed_file_is_named_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(HANError, match=reason) as error:
        Vocabulary.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HANError, match=r"nowhere\.json: .*No such file"):
        Vocabulary.load(tmp_path / "nowhere.json")
