"""Tokens of a frozen language model: kept once, whole, within bounds; what cannot be kept is told."""

from __future__ import annotations

import pytest
import torch

from han_retrieval.text import frozen
from han_retrieval.text.frozen import FrozenTokens

SENTENCES = [[[5, 6, -1], [7, -1, -1]], [[8, -1, -1]], [[5, 6, -1], [7, -1, -1]]]


class Encoder:
    """A word's token is the sum of its ids; how often it was asked is counted."""

    frozen_size = 2
    fingerprint = "sums-1-0"
    asked = 0

    def frozen_tokens(self, words, word_mask):
        self.asked += 1
        sums = (words.clamp(min=0).sum(-1) * word_mask).float()
        return torch.stack([sums, -sums], dim=-1)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "cache_folder", lambda: tmp_path)
    return tmp_path / "frozen-tokens"


def tokens_of(encoder, sentences=SENTENCES):
    return FrozenTokens.of(encoder, sentences, device=torch.device("cpu"), progress=False)


def test_a_sentence_s_tokens_are_found_and_gaps_in_the_mask_stay_zero(cache):
    tokens = tokens_of(Encoder())
    assert tokens[SENTENCES[0]].tolist() == [[11, -11], [7, -7]]
    words = torch.tensor([[[5, 6, -1], [1, 1, 1], [7, -1, -1]], [[9, -1, -1], [0, 0, 0], [0, 0, 0]]])
    mask = torch.tensor([[True, False, True], [True, False, False]])
    filled = torch.zeros(2, 3, 2)
    assert tokens.fill(filled, words, mask).tolist() == [1]
    assert filled[0].tolist() == [[11, -11], [0, 0], [7, -7]]
    assert not filled[1].any()


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: bytes([b[0] ^ 1]) + b[1:], lambda _: b""]
)
def test_a_damaged_file_is_computed_anew(cache, damage):
    encoder = Encoder()
    tokens_of(encoder)
    tokens_of(encoder)
    assert encoder.asked == 1
    (file,) = cache.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert tokens_of(encoder)[SENTENCES[1]].tolist() == [[8, -8]]
    assert encoder.asked == 2


def test_another_encoder_or_other_sentences_have_a_file_of_their_own(cache):
    encoder, other, edited = Encoder(), Encoder(), Encoder()
    other.fingerprint = "sums-1-1"
    edited.settings = "0"
    for each in (encoder, other, edited):
        tokens_of(each)
    tokens_of(encoder, SENTENCES[:1])
    assert len(list(cache.iterdir())) == 4


def test_the_oldest_files_go_first(cache, monkeypatch):
    monkeypatch.setattr(frozen, "MOST_BYTES", 70)  # a file here has 4 rows of 4 bytes, and 16 more
    for place in range(4):
        tokens_of(Encoder(), [*SENTENCES, [[20 + place, -1, -1]]])
    assert len(list(cache.iterdir())) == 2


def test_what_cannot_be_kept_is_told(cache, capsys, monkeypatch):
    cache.write_bytes(b"")
    assert tokens_of(Encoder()) is None
    assert "frozen-tokens: the captions' tokens cannot be kept there (" in capsys.readouterr().err
    cache.unlink()
    monkeypatch.setattr(frozen, "MOST_BYTES", 2)
    assert tokens_of(Encoder()) is None
    assert "each step computes its own" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(frozen, "cache_folder", lambda: cache.parent)
    assert tokens_of(Encoder(), [[[70_000, -1, -1]]]) is None
    assert "numbers beyond float16" in capsys.readouterr().err
    assert not list(cache.iterdir())


def test_no_sentence(cache):
    assert (
        tokens_of(Encoder(), [])
        .fill(torch.zeros(0, 0, 2), torch.zeros(0, 0, 3), torch.zeros(0, 0, dtype=bool))
        .tolist()
        == []
    )
