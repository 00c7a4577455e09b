"""A retriever gives the scores and the evidence that its model gives, from any kind of photo."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import han_retrieval as han
from han_retrieval.errors import DataError, ModelError, QueryError, StoreError
from han_retrieval.evidence import evidence_from_regions
from han_retrieval.matchers import HAN, VSE, HANConfig, VSEConfig
from han_retrieval.regions import Regions
from han_retrieval.retriever import Retriever
from han_retrieval.text import Vocabulary

SIZE = 12
SENTENCES = ["a red ball", "two dogs in the snow", "snow"]


class Halves:
    """A detector of two to three boxes, its features the mean colours in them."""

    fingerprint, feature_size = "halves-1-3", SIZE

    def detect(self, photos):
        return [self._regions(photo) for photo in photos]

    def _regions(self, photo):
        w, h = photo.size
        boxes = [(0, 0, w, h), (0, 0, w / 2, h)] + [(w / 2, 0, w, h)] * (w > h)
        colours = [np.resize(np.asarray(photo.crop(tuple(map(int, box)))).mean((0, 1)) / 255, SIZE) for box in boxes]
        return Regions(np.array(colours, np.float16), np.array(boxes, np.float32), w, h)


def retriever(kind=HAN, config=HANConfig, **options):
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_sentences(SENTENCES)
    sizes = {"region_size": SIZE, "vocabulary_size": len(vocabulary), "word_size": 5, "joint_size": 8}
    return Retriever(kind(config(**sizes, **options), vocabulary=vocabulary).eval(), name="small", detector=Halves())


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    made = [Image.fromarray(rng.integers(0, 255, size, np.uint8)) for size in ((30, 20, 3), (20, 40, 3), (24, 24, 3))]
    made[0].save(tmp_path / "a.png")
    return [tmp_path / "a.png", made[1], made[2]]


def test_scores_are_the_model_s_whatever_the_photos_come_as(pictures):
    small = retriever()
    photos, texts = small.encode_images(pictures), small.encode_texts(SENTENCES)
    scores = small.similarity(photos, texts)
    assert scores.shape == (3, 3)
    for i, photo in enumerate(photos):
        for t, text in enumerate(texts):
            features = torch.from_numpy(photo.regions.features.astype(np.float32))[None]
            pair = features, torch.ones(features.shape[:2], dtype=torch.bool), *small.model.words([text.sentence])
            assert float(scores[i, t]) == pytest.approx(float(small.model(*pair).detach()), abs=1e-6)
    again = small.encode_images([str(pictures[0]), photos[1].regions, photos[2].regions.features.astype(np.float32)])
    torch.testing.assert_close(small.similarity(again, texts), scores)
    assert small.similarity(photos, []).shape == (3, 0)
    assert small.encode_images([]) == small.encode_texts([]) == []


def test_of_large_photos_few_are_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("han_retrieval.data.PIXELS_AT_ONCE", 1000)
    small, together = retriever(), []
    monkeypatch.setattr(small, "detector", Halves())
    detect = small.detector.detect
    monkeypatch.setattr(small.detector, "detect", lambda photos: together.append(len(photos)) or detect(photos))
    paths = []
    for number, side in enumerate([20, 20, 40, 30, 10, 10, *[5] * 12]):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (side, side), (number, 0, 0)).save(paths[-1])
    photos = small.encode_images(paths)
    assert [photo.source for photo in photos] == paths
    assert together == [2, 1, 2, 8, 5]


def test_photos_that_are_on_their_side_are_turned(tmp_path):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 40, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.png", exif=exif)
    by_path, as_image = retriever().encode_images([tmp_path / "turned.png", Image.open(tmp_path / "turned.png")])
    assert (by_path.regions.width, by_path.regions.height) == (20, 40)
    assert torch.equal(by_path.tokens, as_image.tokens)


def test_evidence_draws_the_photo_that_was_given(pictures, tmp_path):
    small = retriever()
    photos, texts = small.encode_images(pictures), small.encode_texts(SENTENCES)
    for photo in photos[:2]:  # a path and an image
        evidence = small.explain(photo, texts[1])
        assert evidence.score == pytest.approx(float(small.similarity([photo], [texts[1]])), abs=1e-6)
        evidence.draw(tmp_path / "evidence.png")
        assert Image.open(tmp_path / "evidence.png").width == 720
    assert small.explain(photos[0], "a dogs").words == ("a", "dogs")
    with pytest.raises(StoreError, match="no boxes"):
        small.explain(small.encode_images([photos[0].regions.features])[0], texts[0])


def test_a_pooled_matcher_scores_and_has_no_evidence(pictures):
    small = retriever(VSE, VSEConfig)
    photos, texts = small.encode_images(pictures), small.encode_texts(SENTENCES)
    assert small.similarity(photos, texts).shape == (3, 3)
    with pytest.raises(ModelError, match="aligns no words"):
        small.explain(photos[0], texts[0])


def test_what_cannot_be_encoded_is_named(pictures, tmp_path):
    small = retriever()
    with pytest.raises(DataError, match=r"gone\.jpg: no such photo"):
        small.encode_images([tmp_path / "gone.jpg"])
    with pytest.raises(DataError, match=r"photo 1: its features are \(3, 7\); the model takes \(regions, 12\)"):
        small.encode_images([pictures[1], np.zeros((3, 7))])
    with pytest.raises(DataError, match="photo 0: its features are not finite as float16"):
        small.encode_images([np.full((3, SIZE), 1e6)])
    nothing = Regions(np.zeros((0, SIZE), np.float16), np.zeros((0, 4), np.float32), 8, 8)
    with pytest.raises(QueryError, match="found no region in the photo"):
        evidence_from_regions(small.model, nothing, "a ball")
    damaged = Regions(np.full((1, SIZE), np.nan, np.float16), np.zeros((1, 4), np.float32), 8, 8)
    with pytest.raises(ModelError, match="the score of 'a ball' is nan"):
        evidence_from_regions(small.model, damaged, "a ball")
    with pytest.raises(TypeError, match="sentence 1 is a NoneType; give text"):
        small.encode_texts(["a ball", None])
    with pytest.raises(TypeError, match="a list of sentences, not a ndarray"):
        small.encode_texts(np.array(["a ball"]))
    with pytest.raises(DataError, match="photo 0: its features are complex64, not numbers"):
        small.encode_images([np.zeros((1, SIZE), np.complex64)])
    with pytest.raises(TypeError, match=r"put this one into a list: \[Regions\]"):
        small.encode_images(nothing)
    with pytest.raises(QueryError, match="knows none of the words in 'zebra'"):
        small.encode_texts(["a ball", "zebra"])
    with pytest.raises(TypeError, match="takes a list"):
        small.encode_texts("a ball")
    with pytest.raises(TypeError, match="takes a list"):
        small.encode_texts(sentence for sentence in SENTENCES)  # which would be read but once
    with pytest.raises(TypeError, match="takes a list"):
        small.encode_images("a.jpg")
    with pytest.raises(TypeError, match="photo 0 is a int"):
        small.encode_images([3])


def test_load_takes_a_folder_and_a_detector(tmp_path, monkeypatch):
    small = retriever(detector_fingerprint="halves-1-3")
    small.model.save_pretrained(tmp_path / "model")
    loaded = han.load(tmp_path / "model", detector=Halves())
    assert loaded.name == str(tmp_path / "model")
    assert torch.equal(loaded.encode_texts(["snow"])[0].tokens, small.encode_texts(["snow"])[0].tokens)
    with pytest.raises(ModelError, match="no such model folder"):
        han.load(tmp_path / "none")
    with pytest.raises(han.HANError, match="halves-1-3"):
        han.load(tmp_path / "model").detector  # noqa: B018
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert han.load("~/model").model.config == small.model.config
    other = Halves()
    other.fingerprint = "halves-2-3"
    with pytest.raises(ModelError, match="trained with the detector 'halves-1-3', not with 'halves-2-3'"):
        han.load(tmp_path / "model", detector=other)
    retriever().model.save_pretrained(tmp_path / "silent")
    with pytest.raises(ModelError, match="does not say which detector"):
        han.load(tmp_path / "silent").detector  # noqa: B018


def test_a_detector_of_other_features_is_refused_before_it_runs():
    longer = Halves()
    longer.feature_size += 1
    with pytest.raises(ModelError, match=f"numbers a region, and 'halves-1-3' gives {longer.feature_size}"):
        Retriever(retriever().model, detector=longer)


def test_the_package_names_what_people_use():
    assert {"load", "Retriever", "Index", "HAN", "HANConfig", "HANError"} <= set(dir(han))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        han.nothing  # noqa: B018


def test_of_many_or_long_sentences_few_are_encoded_together(monkeypatch):
    small, shapes = retriever(), []
    sentences = ["snow", "a red ball " * 30, *SENTENCES * 40, "two dogs " * 20]
    alone = [small.encode_texts([sentence])[0] for sentence in sentences]
    encode = HAN.encode_texts
    monkeypatch.setattr(
        HAN, "encode_texts", lambda self, w, mask: shapes.append(tuple(w.shape)) or encode(self, w, mask)
    )
    monkeypatch.setattr("han_retrieval.retriever._WORDS_AT_ONCE", 150)
    together = small.encode_texts(sentences)
    assert all(count <= 64 and (count == 1 or count * longest <= 150) for count, longest, *_ in shapes)
    assert len(shapes) < 10
    assert [text.sentence for text in together] == sentences
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one.tokens, other.tokens, atol=1e-6)
