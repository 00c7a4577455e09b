"""Batches: every caption once an epoch, no photo twice in a batch, the same at every call."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from training_data import augmentation, make_data, small_config

from han_retrieval.data import CaptionedPhoto, CaptionedPhotos
from han_retrieval.errors import DataError
from han_retrieval.text import Vocabulary, WordTokenizer
from han_retrieval.training.batches import Batches, compact, drop


@pytest.fixture(scope="module")
def batches(tmp_path_factory) -> Batches:
    dataset, store = make_data(tmp_path_factory.mktemp("data"))
    vocabulary = Vocabulary.from_sentences(caption for photo in dataset.photos for caption in photo.captions)
    return Batches.of(
        dataset.split("train"), store, WordTokenizer(vocabulary), small_config(region_drop=0.34, word_drop=0.2)
    )


def test_every_caption_once_an_epoch(batches):
    for epoch in range(3):
        pairs = [pair for batch in batches._epoch(epoch) for pair in batch]
        assert Counter(pairs).most_common(1)[0][1] == 1
        assert len(pairs) == batches.caption_count == 60
        assert all(len({photo for photo, _ in batch}) == len(batch) > 1 for batch in batches._epoch(epoch))
    assert batches._epoch(0) != batches._epoch(1)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_captions_of_a_photo_share_a_batch(batches, count):
    """Every caption still comes once an epoch, a photo's in as few batches as can be."""
    shared = replace(batches, config=small_config(captions_per_photo=count))
    epoch = shared._epoch(0)
    pairs = [pair for batch in epoch for pair in batch]
    assert len(set(pairs)) == len(pairs) == shared.caption_count
    for batch in epoch:
        assert 1 < len(batch) <= 8
        assert max(Counter(photo for photo, _ in batch).values()) <= count
    times = Counter(photo for batch in epoch for photo in {photo for photo, _ in batch})
    assert all(times[photo] == -(-len(captions) // count) for photo, captions in enumerate(shared.captions))


@settings(deadline=None)
@given(
    of_photos=st.lists(st.integers(1, 7), min_size=2, max_size=40),
    count=st.integers(1, 4),
    spare=st.integers(0, 9),
    seed=st.integers(0, 99),
)
@example(of_photos=[2, 2, 2, 1, 1, 1], count=2, spare=0, seed=0)
def test_every_epoch_has_as_many_batches(of_photos, count, spare, seed):
    """Whatever the photos' numbers of captions, each epoch has every caption but those of a photo that is alone."""
    config = small_config(captions_per_photo=count, batch_size=2 * count + spare, seed=seed)
    made = Batches([], [[[1]] * captions for captions in of_photos], None, config)
    for epoch in range(5):
        batches = made._epoch(epoch)
        assert len(batches) == made.steps_per_epoch
        assert all(len(batch) <= config.batch_size and len({photo for photo, _ in batch}) > 1 for batch in batches)
        assert all(max(Counter(photo for photo, _ in batch).values()) <= count for batch in batches)
        pairs = [pair for batch in batches for pair in batch]
        assert len(set(pairs)) == len(pairs)
        rounds = -(-max(of_photos) // count)
        groups = sum(-(-captions // count) for captions in of_photos)
        assert groups - sum(len({photo for photo, _ in batch}) for batch in batches) <= rounds


def test_photos_of_each_number_of_captions_are_seen():
    """The one that is left over is not the same each time."""
    made = Batches(
        [], [[[1]] * captions for captions in [1, 2, 2, 2]], None, small_config(captions_per_photo=2, batch_size=4)
    )
    seen = Counter(
        photo for epoch in range(30) for batch in made._epoch(epoch) for photo in {photo for photo, _ in batch}
    )
    assert set(seen) == {0, 1, 2, 3}


def test_a_batch_needs_two_photos():
    with pytest.raises(ValueError, match="captions of two photos"):
        small_config(captions_per_photo=5)


@pytest.mark.parametrize("bos_eos", [False, True])
def test_captions_without_a_word_are_left_out(batches, bos_eos):
    config = small_config(model={"bos_eos": bos_eos})
    photos = (
        CaptionedPhoto("photo-0", None, ("a red ball", "!?", ""), "train"),
        CaptionedPhoto("photo-1", None, ("...",), "train"),
        CaptionedPhoto("photo-2", None, ("a dog",), "train"),
    )
    found = Batches.of(
        CaptionedPhotos("made-up", Path("made-up"), photos),
        batches.store,
        WordTokenizer(Vocabulary.from_sentences(["a red ball", "a dog"]), bos_eos),
        config,
    )
    assert found.photo_ids == ["photo-0", "photo-2"]
    assert [[len(ids) for ids in of_photo] for of_photo in found.captions] == [
        [3 + 2 * bos_eos],
        [2 + 2 * bos_eos],
    ]


def test_a_caption_of_too_many_words_is_named(batches):
    photos = (CaptionedPhoto("photo-0", None, ("a dog", "dog " * 501), "train"),)
    dataset = CaptionedPhotos("made-up", Path("made-up"), photos)
    with pytest.raises(DataError, match=r"photo 'photo-0', caption 'dog .*: 501 words; a sentence may have 500"):
        Batches.of(dataset, batches.store, WordTokenizer(Vocabulary.from_sentences(["a dog"])), small_config())


def test_a_step_is_the_same_whatever_came_before(batches):
    per_epoch = batches.steps_per_epoch
    whole = list(batches.steps(0, 2 * per_epoch))
    assert len(whole) == 2 * per_epoch
    for start in (1, per_epoch - 1, per_epoch, per_epoch + 2):
        for late, early in zip(batches.steps(start, 2 * per_epoch), whole[start:], strict=True):
            assert late.shown is early.shown is None  # no phrases are known here
            assert all(torch.equal(a, b) for a, b in zip(late, early, strict=True) if a is not None)


def test_a_caption_that_photos_share_matches_each_of_them(batches):
    sentences = {"photo-0": ("A dog.", "a cat"), "photo-1": ("a cat", "a bird"), "photo-2": ("a dog", "a fish")}
    photos = tuple(CaptionedPhoto(photo_id, None, each, "train") for photo_id, each in sentences.items())
    dataset = CaptionedPhotos("made-up", Path("made-up"), photos)
    tokenizer = WordTokenizer(Vocabulary.from_sentences(["a cat"]))  # to which the other animals are one unknown word
    found = Batches.of(dataset, batches.store, tokenizer, small_config())
    assert found.shared_count == 4
    read = {photo_id: [s.lower().strip(".") for s in each] for photo_id, each in sentences.items()}
    for epoch in range(4):
        steps = found.steps(epoch * found.steps_per_epoch, (epoch + 1) * found.steps_per_epoch)
        for pairs, batch in zip(found._epoch(epoch), steps, strict=True):
            columns = [read[f"photo-{photo}"][caption] for photo, caption in pairs]
            assert batch.matching.tolist() == [[s in read[f"photo-{row}"] for s in columns] for row, _ in pairs]
    apart = Batches.of(dataset, batches.store, tokenizer, small_config(equal_captions="negative"))
    assert next(apart.steps(0, 1)).matching is None


def test_similar_captions_match_by_the_words_that_they_share(batches):
    sentences = {
        "photo-0": ("many green trees are near a lake", "of the"),
        "photo-1": ("a lake is near many green trees and a road", "of the", "a pond"),
        "photo-2": ("two ponds with green trees", "a lake"),
        "photo-3": ("a pond and a road", "green trees , many"),
    }
    photos = tuple(CaptionedPhoto(photo_id, None, each, "train") for photo_id, each in sentences.items())
    dataset = CaptionedPhotos("made-up", Path("made-up"), photos)
    tokenizer = WordTokenizer(Vocabulary.from_sentences(["a lake"]))
    words = [
        [set(s.split()) - {"are", "near", "a", "of", "the", "is", "and", "with", ","} for s in each]
        for each in sentences.values()
    ]
    for share in (0.5, 0.75, 1.0):
        found = Batches.of(dataset, batches.store, tokenizer, small_config(similar_captions=share))
        seen = set()
        for pairs, batch in zip(found._epoch(0), found.steps(0, found.steps_per_epoch), strict=True):
            for row, (photo, _) in enumerate(pairs):
                for column, (other, caption) in enumerate(pairs):
                    own = words[other][caption]
                    alike = any(own & each and len(own & each) >= share * len(own | each) for each in words[photo])
                    shared = list(sentences.values())[other][caption] in list(sentences.values())[photo]
                    assert bool(batch.matching[row, column]) == (alike or shared)
                    seen.add(alike)
        assert seen == {True, False}


def test_what_is_dropped(batches):
    for batch in batches.steps(0, 3):
        assert batch.regions.shape[1:] == (2, 12)  # a third of three
        assert batch.region_mask.all()
        assert batch.word_mask.any(1).all()
        assert (batch.words[batch.word_mask] > 0).all()


def test_a_photo_s_regions_are_drawn_from_the_stores_that_have_it(batches, tmp_path):
    other = augmentation(batches.store, tmp_path / "other", photos=20)
    undropped = batches.config.model_copy(update={"region_drop": 0.0})
    seen: dict[str, set[bool]] = {}
    for batch in replace(batches, config=undropped, augmentations=[other]).steps(0, 6 * batches.steps_per_epoch):
        for place, regions, mask in zip(batch.image_ids.tolist(), batch.regions, batch.region_mask, strict=True):
            photo_id = batches.photo_ids[place]
            augmented = int(mask.sum()) == 1
            own = torch.ones(1, 12) if augmented else batches.store.batch([photo_id]).features[0]
            assert torch.equal(regions[mask], own)
            seen.setdefault(photo_id, set()).add(augmented)
    assert {photo_id: len(ways) == 2 for photo_id, ways in seen.items()} == {
        photo_id: photo_id in other for photo_id in batches.photo_ids
    }


@given(st.integers(0, 99), st.floats(0, 0.99))
def test_drop_takes_its_share(seed, share):
    random = torch.Generator().manual_seed(seed)
    mask = torch.rand(6, 9, generator=random) < 0.8
    mask[:, 0] = True
    kept = drop(mask, share, random)
    assert not (kept & ~mask).any()
    expected = (mask.sum(1) - (mask.sum(1) * share).long()).clamp(min=1)
    assert kept.sum(1).tolist() == expected.tolist()


def test_compact_keeps_order():
    values = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    mask = torch.tensor([[True, False, True, True], [False, True, False, False]])
    tokens, valid = compact(values, mask)
    assert tokens[0].tolist() == [1, 3, 4]
    assert tokens[1, 0] == 6
    assert valid.tolist() == [[True, True, True], [True, False, False]]
