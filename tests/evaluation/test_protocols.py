import numpy as np
import pytest
import torch
from stand_in import SIZE, MaxMatcher, MemoryStore, photos, random_task, regions

from han_retrieval.errors import DataError, HANError
from han_retrieval.evaluation import evaluate
from han_retrieval.text import tokenize
from han_retrieval.text.tokenizer import MOST_WORDS


def run(model, dataset, store, **options):
    return evaluate(model, dataset, store, progress=False, **options)


def one_pair(model, store, photo_id, sentence):
    """A pair's score with no batch mates and no padding."""
    alone = store.batch([photo_id])
    with torch.no_grad():
        model.train(False)
        words, mask = model.words([sentence])
        images, texts = model.encode_images(alone.features, alone.mask), model.encode_texts(words, mask)
        return float(model.score(images, alone.mask, texts, mask))


@pytest.mark.parametrize("batch", [1, 3, 512])
def test_each_cell_is_the_score_of_its_pair_whatever_the_batch(batch):
    dataset, store = random_task(14)
    found = run(MaxMatcher(), dataset, store, batch=batch)
    sentences = [
        (photo.id, place, sentence) for photo in dataset.photos for place, sentence in enumerate(photo.captions)
    ]
    assert found.relevance.caption_ids == tuple(f"{name}#{place}" for name, place, _ in sentences)
    assert [found.relevance.image_ids[row] for row in found.relevance.caption_image] == [n for n, _, _ in sentences]
    expected = [[one_pair(MaxMatcher(), store, photo.id, text) for *_, text in sentences] for photo in dataset.photos]
    assert found.scores == pytest.approx(np.array(expected), abs=1e-6)


@pytest.mark.parametrize("batch", [1, 512])
def test_equal_sentences_are_scored_once(batch):
    said = {"a": ["a dog", "a cat runs"], "b": ["a cat runs", "a dog"], "c": ["a dog", "a bird", "a dog"]}
    random = np.random.default_rng(0)
    store = MemoryStore({name: regions(random.standard_normal((2, SIZE))) for name in said})
    model = MaxMatcher()
    found = run(model, photos(said), store, batch=batch)
    assert sum(texts for _, texts, _ in model.calls) == 3 * -(-len(said) // batch)
    expected = [[one_pair(model, store, name, text) for each in said.values() for text in each] for name in said]
    assert found.scores == pytest.approx(np.array(expected), abs=1e-6)
    assert (found.scores[:, [0, 3, 4, 6]] == found.scores[:, :1]).all()
    assert (found.counts["captions"], found.counts["different_captions"], found.counts["pairs"]) == (7, 3, 21)


def test_captions_of_like_length_share_a_batch():
    dataset, store = random_task(20, captions=(5,))
    model = MaxMatcher()
    run(model, dataset, store, batch=10)
    widths = [words for _, _, words in model.calls]
    assert widths == sorted(widths)
    lengths = sorted(len(tokenize(text)) for text in {text for photo in dataset.photos for text in photo.captions})
    assert widths[::2] == [lengths[min(end, len(lengths) - 1)] for end in range(19, 100, 20)]


def test_a_model_that_tells_them_apart_gets_every_recall():
    table = MaxMatcher().encode_texts.__func__  # the captions' own words as regions
    said = {f"{i}": [word] * (1 + i % 3) for i, word in enumerate(["dog", "cat", "horse", "bird", "fish", "frog"])}
    model = MaxMatcher()
    model.train(False)
    store = MemoryStore({})
    for name, (word, *_) in said.items():
        ids, mask = model.words([word])
        store.regions[name] = regions(table(model, ids, mask)[0].numpy())
    found = run(model, photos(said), store)
    for way in ("image_to_text", "text_to_image"):
        assert found.metrics[way] == {
            "R@1": 100, "R@5": 100, "R@10": 100, "median_rank": 1, "mean_rank": 1, "mAP@R": 100, "R-Precision": 100,
            "nDCG@10": 100,
        }  # fmt: skip
    assert found.rsum == 600
    assert found.intervals["rsum"] == (600, 600)
    assert (found.split, found.protocol) == ("dev", "all 6 images")


def test_what_cannot_be_used_is_left_out_and_counted():
    said = {"a": ["a dog", "...", ""], "b": ["!"], "c": ["a cat"]}
    store = MemoryStore({name: regions(np.ones((1, SIZE))) for name in said})
    found = run(MaxMatcher(), photos(said), store)
    assert found.relevance.caption_ids == ("a#0", "c#0")
    assert found.counts == {
        "images": 3, "captions": 2, "different_captions": 2, "pairs": 6,
        "photos_without_regions": 0, "captions_without_words": 3, "images_without_captions": 1,
    }  # fmt: skip
    assert found.notes == ("3 captions without a word were left out",)
    found = run(MaxMatcher(unreadable=["a dog"]), photos(said), store)  # by a tokenizer of its own
    assert found.relevance.caption_ids == ("c#0",)
    assert found.counts["captions_without_words"] == 4


def test_captions_that_photos_share_bound_the_recall():
    said = {name: ["A dog.", f"a {name} dog"] for name in "abcdefgh"} | {"x": ["a dog", "a dog"], "y": ["a cat"]}
    store = MemoryStore({name: regions(np.ones((1, SIZE))) for name in said})
    found = run(MaxMatcher(), photos(said), store)
    # Of 19 captions, 10 stand under 9 photos and 9 under one: (9 + 10 / 9) / 19, (9 + 50 / 9) / 19 and all.
    bound, by_chance = found.notes
    assert bound == (
        "10 of 19 captions stand under several photos, of which only one counts: text to image R@1/5/10 can be "
        "expected to reach 53.2/76.6/100.0 at most"
    )
    assert found.ceiling == pytest.approx({"R@1": 100 * (9 + 10 / 9) / 19, "R@5": 100 * (9 + 50 / 9) / 19, "R@10": 100})
    assert by_chance.startswith("such captions tie, and ties count against the model; broken at random, they would ma")
    found = run(MaxMatcher(), photos(said), store, equal_captions="relevant")
    assert found.notes == (
        "10 of 19 captions stand under several photos; each counts for all of these, unlike in published figures",
    )
    assert found.ceiling == {"R@1": 100, "R@5": 100, "R@10": 100}
    assert found.relevance.caption_images is not None
    assert sorted(map(len, found.relevance.caption_images)) == [1] * 9 + [9] * 10


def test_photos_without_regions():
    dataset, store = random_task(200, captions=(1,))
    gone = dataset.photos[7].id
    del store.regions[gone]
    found = run(MaxMatcher(), dataset, store)
    assert found.counts["photos_without_regions"] == 1
    assert gone not in found.relevance.image_ids
    assert found.notes[0] == "1 of 200 photos are not in the features and were left out"
    for photo in dataset.photos[10:13]:
        del store.regions[photo.id]
    with pytest.raises(HANError, match=f"4 of 200 photos of photos have no regions .*{gone!r}.*--allow-missing"):
        run(MaxMatcher(), dataset, store)
    assert run(MaxMatcher(), dataset, store, allow_missing=True).counts["images"] == 196
    store.regions.clear()
    with pytest.raises(HANError, match="200 of 200 photos"):
        run(MaxMatcher(), dataset, store, allow_missing=True)


def test_features_of_another_detector_are_refused():
    dataset, store = random_task(4, captions=(1,))
    with pytest.raises(HANError, match=r"'boxes-1'.*'boxes-2'"):
        run(MaxMatcher(fingerprint="boxes-2"), dataset, store)
    assert "does not say which detector" in run(MaxMatcher(fingerprint=None), dataset, store).notes[0]
    store.feature_size = 3
    with pytest.raises(HANError, match=f"3 numbers a region, the model takes {SIZE}"):
        run(MaxMatcher(fingerprint=None), dataset, store)


def test_folds_that_do_not_divide_are_refused_before_anything_is_scored():
    dataset, store = random_task(10, captions=(1,))
    model = MaxMatcher()
    with pytest.raises(HANError, match="10 images do not make 3 equal folds"):
        run(model, dataset, store, folds=3)
    assert not model.calls
    found = run(model, dataset, store, folds=5)
    assert (found.protocol, found.ceiling) == ("mean over 5 folds of 2", None)


def test_a_damaged_score_is_refused_by_name():
    dataset, store = random_task(6, captions=(2,))
    spoiled = dataset.photos[4].id
    store.regions[spoiled].features[:] = np.nan
    model = MaxMatcher()
    with pytest.raises(HANError, match=f"image {spoiled!r} and caption .* nan: .* never ranked"):
        run(model, dataset, store, batch=2)
    assert model.training  # the mode it had comes back


def test_a_photo_with_no_region_is_named():
    dataset, store = random_task(3, captions=(1,))
    store.regions[dataset.photos[1].id] = regions(np.zeros((0, SIZE)))
    with pytest.raises(HANError, match=f"{dataset.photos[1].id!r} has no region"):
        run(MaxMatcher(), dataset, store)


def test_a_caption_of_too_many_words_is_named_before_anything_is_scored():
    store = MemoryStore({"a": regions(np.ones((1, SIZE)))})
    assert run(MaxMatcher(), photos({"a": ["x " * MOST_WORDS]}), store).counts["captions"] == 1
    with pytest.raises(DataError, match=f"photo 'a', caption 1: 501 words; a sentence may have {MOST_WORDS}"):
        run(MaxMatcher(), photos({"a": ["x", "x " * (MOST_WORDS + 1)]}), store)


def test_no_caption_at_all():
    store = MemoryStore({"a": regions(np.ones((1, SIZE)))})
    with pytest.raises(HANError, match="no caption"):
        run(MaxMatcher(), photos({"a": ["?"]}), store)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    dataset, store = random_task(3, captions=(1,))
    model = MaxMatcher().train(training)
    run(model, dataset, store)
    assert model.training is training
