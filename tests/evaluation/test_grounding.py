from types import SimpleNamespace

import numpy as np
import pytest
import torch
from stand_in import SIZE, MaxMatcher, MemoryStore, regions

from han_retrieval.data import EntitiesPhoto, EntitiesSentence, Phrase
from han_retrieval.errors import HANError
from han_retrieval.evaluation import ground
from han_retrieval.text import tokenize

LEFT, RIGHT, WHOLE = [0, 0, 40, 100], [60, 0, 100, 100], [0, 0, 100, 100]


def phrase(start, end, *boxes, types=("other",)):
    return Phrase(start, end, "1", types, np.array(boxes, dtype=np.float32).reshape(-1, 4))


def annotation(*sentences, name="a", width=100, height=100):
    """Sentences are (tokens as one string, phrases)."""
    said = tuple(EntitiesSentence(tuple(tokens.split(" ")), tuple(phrases)) for tokens, phrases in sentences)
    return {name: EntitiesPhoto(name, width, height, said)}


class Pointer(MaxMatcher):
    """Aligns each word with the region that ``choice`` names; unnamed words look at all alike."""

    def __init__(self, choice, **options):
        super().__init__(**options)
        self.choice = choice

    def words(self, sentences):
        self.said = tokenize(sentences[0])
        if self.config.bos_eos:
            self.said = ["<start>", *self.said, "<end>"]
        return super().words(sentences)

    def explain(self, regions, words):
        assert len(words) == len(self.said)
        alignment = torch.full((len(words), len(regions)), 1 / len(regions))
        for row, word in enumerate(self.said):
            if word in self.choice:
                alignment[row] = torch.eye(len(regions))[self.choice[word]]
        return SimpleNamespace(alignment=alignment)


def store_of(*boxes, name="a", **size):
    return MemoryStore({name: regions(np.ones((len(boxes), SIZE)), boxes, **size)})


def run(model, truth, store, *, ids=("a",)):
    return ground(model, truth, store, ids=ids, progress=False)


def test_the_four_guesses_by_hand():
    truth = annotation(("A dog by a man", [phrase(0, 2, LEFT), phrase(3, 5, RIGHT)]))
    found = run(Pointer({"dog": 0, "man": 0}), truth, store_of(LEFT, RIGHT, WHOLE, [0, 0, 40, 49]))
    # The dog's box holds the centres of LEFT and of its upper half, the man's that of RIGHT; the photo's is in neither.
    assert found.overall["pointing"] == {"model": 50, "random": 100 * (2 / 4 + 1 / 4) / 2, "centre": 0, "best": 100}
    # Half of LEFT overlaps it at 0.49, the photo at 0.4.
    assert found.overall["iou"] == {"model": 50, "random": 25, "centre": 0, "best": 100}
    assert found.overall["pointing_union"] == found.overall["pointing"]
    assert found.counts["phrases"] == 2


def test_any_of_several_boxes_and_their_union_are_told_apart():
    truth = annotation(("two dogs", [phrase(0, 2, LEFT, RIGHT)]))
    for region, pointing, iou, pointing_union, iou_union in (
        (0, 100, 100, 100, 0),  # one of the dogs
        (1, 0, 0, 100, 100),  # both and what is between: its centre is on none
        (2, 0, 0, 100, 0),  # the ground between them
    ):
        found = run(Pointer({"dogs": region}), truth, store_of(LEFT, WHOLE, [45, 45, 55, 55])).overall
        assert found["pointing"]["model"] == pointing
        assert found["iou"]["model"] == iou
        assert found["pointing_union"]["model"] == pointing_union
        assert found["iou_union"]["model"] == iou_union
    assert found["pointing"]["centre"] == 0
    assert found["pointing_union"]["centre"] == 100
    assert found["iou_union"]["centre"] == 100
    found = run(Pointer({}), truth, store_of(LEFT)).overall  # the best is the best of the regions, not of the guesses
    assert (found["iou_union"]["centre"], found["iou_union"]["best"]) == (100, 0)


def test_tokens_become_words_one_by_one():
    # "man's" is two words, "." none; "(" opens a phrase that has no word.
    truth = annotation(
        ("The man's hat . ( red", [phrase(0, 2, LEFT), phrase(2, 3, RIGHT), phrase(4, 5, LEFT), phrase(4, 6, WHOLE)])
    )
    model = Pointer({"the": 0, "man": 0, "hat": 1, "red": 2})
    found = run(model, truth, store_of(LEFT, RIGHT, WHOLE))
    assert model.said == ["the", "man", "'s", "hat", "red"]
    assert found.overall["iou"]["model"] == 100
    assert found.counts["phrases"] == 3
    assert found.counts["phrases without a word"] == 1


def test_start_and_end_are_no_part_of_a_phrase():
    truth = annotation(("dog man", [phrase(0, 1, LEFT), phrase(1, 2, RIGHT)]))
    model = Pointer({"<start>": 2, "dog": 0, "man": 1, "<end>": 2}, bos_eos=True)
    assert run(model, truth, store_of(LEFT, RIGHT, WHOLE)).overall["iou"]["model"] == 100


def test_a_phrase_is_where_its_words_look_on_average():
    truth = annotation(("big brown dog", [phrase(0, 3, RIGHT)]))
    assert run(Pointer({"big": 0, "brown": 1, "dog": 1}), truth, store_of(LEFT, RIGHT)).overall["iou"]["model"] == 100
    assert run(Pointer({"big": 0, "brown": 0, "dog": 1}), truth, store_of(LEFT, RIGHT)).overall["iou"]["model"] == 0


def test_the_truth_is_brought_to_the_size_of_the_store():
    truth = annotation(("dog", [phrase(0, 1, [0, 0, 20, 25])]), width=50, height=25)
    found = run(Pointer({"dog": 0}), truth, store_of(LEFT, RIGHT, width=100, height=100))
    assert found.overall["iou"]["model"] == 100
    found = run(Pointer({"dog": 0}), truth, store_of(LEFT, RIGHT))  # an unknown size is taken for the truth's
    assert found.overall["iou"]["model"] == 0
    assert found.overall["pointing"]["centre"] == 0


def test_types_and_counts():
    phrases = [
        phrase(0, 1, LEFT, types=("animals",)),
        phrase(1, 2, LEFT, types=("people", "other")),
        phrase(2, 3, RIGHT, types=("people",)),
        phrase(3, 4, types=("scene",)),
    ]
    truth = annotation(("dog man sky rain", phrases))
    truth |= annotation(("x y", [phrase(0, 1, LEFT)]), name="b")
    truth |= annotation(("x", [phrase(0, 1, LEFT)] * 3), name="c")
    found = run(Pointer({"dog": 0, "man": 0, "sky": 0}), truth, store_of(LEFT, RIGHT), ids=("a", "c", "d", "e"))
    assert {name: hits["pointing"]["model"] for name, hits in found.by_type.items()} == {
        "animals": 100, "other": 100, "people": 50,
    }  # fmt: skip
    assert found.overall["pointing"]["model"] == pytest.approx(200 / 3)
    assert found.counts == {
        "phrases": 3, "phrases: animals": 1, "phrases: other": 1, "phrases: people": 2,
        "photos without annotation": 2, "phrases without a box": 1,
        "phrases of photos not in the split": 1, "phrases of photos not in the features": 3,
    }  # fmt: skip


def test_faults():
    truth = annotation(("dog", [phrase(0, 1, LEFT)]))
    with pytest.raises(HANError, match="'a' have no boxes"):
        run(Pointer({}), truth, MemoryStore({"a": regions(np.ones((2, SIZE)))}))
    with pytest.raises(HANError, match="no boxed phrase"):
        run(Pointer({}), truth, store_of(LEFT), ids=("b",))
    with pytest.raises(HANError, match="boxes-2"):
        run(Pointer({}, fingerprint="boxes-2"), truth, store_of(LEFT))
