"""A text encoder with a tokenizer of its own, whose words have several ids, works wherever words are read."""

from __future__ import annotations

import json
import sys
import zlib
from dataclasses import replace
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawn_photos import ColourDetector, write_drawn_photos
from fastapi.testclient import TestClient
from torch import nn

import han_retrieval as han
from han_retrieval import plugins
from han_retrieval.cli.main import main
from han_retrieval.data import open_photo, read_dataset, read_entities
from han_retrieval.errors import ConfigError, ModelError, QueryError
from han_retrieval.evaluation import evaluate
from han_retrieval.evaluation.grounding import ground
from han_retrieval.matchers import HAN, HANConfig, load_matcher
from han_retrieval.matchers.saving import folder_hash
from han_retrieval.regions import RegionStore, extract
from han_retrieval.search import calibrate, rank_captions
from han_retrieval.search.distil import distil
from han_retrieval.serve import SearchService, create_app
from han_retrieval.text import EncodedSentence, tokenize
from han_retrieval.training import TrainingConfig, train
from han_retrieval.training.pretraining import pretrain_text

IDS = 50


class Pieces:
    """Words in pieces of two letters, between a first and a last id; words with a digit are not known."""

    def __init__(self, split=tokenize):
        self.split = split

    def encode(self, sentence):
        ids, spans = [1], []
        words = self.split(sentence)
        for word in words:
            pieces = [word[i : i + 2] for i in range(0, len(word), 2)]
            spans.append((len(ids), len(ids) + len(pieces)))
            ids += [4 + zlib.crc32(piece.encode()) % (IDS - 4) for piece in pieces]
        known = tuple(not any(map(str.isdigit, word)) for word in words)
        return EncodedSentence([*ids, 2], tuple(words), known, tuple(spans))


class PieceEncoder(nn.Module):
    """An embedding of pieces, the same tensor under two names, as tied weights are."""

    def __init__(self, joint_size, tokenizer):
        super().__init__()
        self.embedding = nn.Embedding(IDS, joint_size, padding_idx=0)
        self.output = nn.Linear(joint_size, IDS, bias=False)
        self.output.weight = self.embedding.weight
        self.tokenizer = tokenizer

    def forward(self, words, word_mask):
        return torch.where(word_mask.unsqueeze(-1), self.embedding(words), 0)


def make(argument, config):
    return PieceEncoder(config.joint_size, Pieces(str.split) if argument == "spaces" else Pieces())


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    colours = SimpleNamespace(make=make, colours=lambda argument, *, regions: ColourDetector(regions=regions))
    monkeypatch.setitem(sys.modules, "pieces_package", colours)
    found = plugins.entry_points
    others = {
        "han_retrieval.text_encoders": EntryPoint("pieces", "pieces_package:make", "han_retrieval.text_encoders"),
        "han_retrieval.detectors": EntryPoint("colours", "pieces_package:colours", "han_retrieval.detectors"),
    }
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: [*found(group=group), *([others[group]] if group in others else [])]
    )
    plugins.installed.cache_clear()
    yield
    plugins.installed.cache_clear()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    write_drawn_photos(folder, train=24, dev=24)
    return folder


@pytest.fixture(scope="module")
def store(photos):
    extract(read_dataset(photos), ColourDetector(), photos.parent / "features")
    return RegionStore.open(photos.parent / "features")


def config(encoder="pieces", **changes):
    fields = {"epochs": 2, "batch_size": 8, "min_count": 1, "model": HANConfig(joint_size=16, text_encoder=encoder)}
    return TrainingConfig.model_validate({**fields, **changes})


@pytest.fixture(scope="module")
def trained(photos, store, tmp_path_factory):
    """The trained model's folder; made in the first test, where the plug-in is registered."""
    return tmp_path_factory.mktemp("trained") / "model"


@pytest.fixture
def model(trained, photos, store):
    if not trained.exists():
        annotations = read_entities(photos / "entities.jsonl")
        train(
            config(alignment_weight=0.5), read_dataset(photos), store, trained, annotations=annotations, progress=False
        )
    return trained


def test_it_is_trained_with_phrases_and_grounds_them(model, photos, store):
    matcher = load_matcher(model)
    dev = read_dataset(photos).split("dev")
    found = ground(
        matcher, read_entities(photos / "entities.jsonl"), store, ids=[photo.id for photo in dev.photos], progress=False
    )
    assert found.counts["phrases"] > 20
    assert evaluate(matcher, dev, store, progress=False).rsum > 0


def test_evidence_has_a_row_a_word(model, photos):
    retriever = han.load(model)
    (photo,) = retriever.encode_images([photos / "dev" / "000.png"])
    evidence = retriever.explain(photo, "a yellow ball")
    assert evidence.words == ("a", "yellow", "ball")
    assert evidence.alignment.shape == (3, len(photo.regions.features))
    assert np.allclose(evidence.alignment.sum(1), 1, atol=1e-5)
    (text,) = retriever.encode_texts(["a yellow ball"])
    assert evidence.score == pytest.approx(float(retriever.similarity([photo], [text])), abs=1e-5)
    with pytest.raises(QueryError, match="the model knows none of the words in 'r2d2'"):
        retriever.encode_texts(["r2d2"])


def test_it_is_calibrated_distilled_searched_and_served(model, photos, store, tmp_path, capsys):
    matcher = load_matcher(model)
    found = evaluate(matcher, read_dataset(photos).split("dev"), store, progress=False)
    noise = np.random.default_rng(0).normal(scale=0.3, size=found.scores.shape).astype(np.float32)
    right = np.arange(len(noise))[:, None] == found.relevance.caption_image  # as of a model that was trained longer
    calibrate(right + noise, found.relevance, model=folder_hash(model), split="dev").write(model)
    distil(matcher, read_dataset(photos).split("train"), store)
    with han.Index.create(tmp_path / "index", han.load(model)) as index:
        assert index.add(photos / "dev").added == 24
        assert index.add(photos / "train").added == 24
        assert len(index.search("a red ball", k=5)) == 5
    photo = photos / "dev" / "000.png"
    ranked = rank_captions(matcher, ["a red ball", "r2d2"], ColourDetector().detect([open_photo(photo)])[0])
    assert [each.caption for each in ranked] == ["a red ball"]
    service = SearchService(tmp_path / "index")
    service.warm_up()
    with TestClient(create_app(service), base_url="http://localhost") as client:
        answer = client.get("/api/search", params={"q": "a red r2d2"}).json()
        assert answer["unknown"] == ["r2d2"]
    main(["explain", str(photo), "a red ball", "--model", str(model)])
    assert "red" in capsys.readouterr().out
    main(["info", str(tmp_path / "index"), "--recall"])


def test_what_needs_the_vocabulary_s_embeddings_is_refused_at_once(photos, store, tmp_path):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("red 1 2 3\nball 2 3 4\nzebra 1 0 0\n")
    dataset = read_dataset(photos)
    for changes in ({"word_vectors": str(vectors)}, {"word_vectors": str(vectors), "vocabulary_expansion": 2}):
        with pytest.raises(ConfigError, match="tokenizer"):
            train(config(**changes), dataset, store, tmp_path / "model", progress=False)
    captions = [photo.captions for photo in dataset.photos]
    pretrain_text(config(), captions, tmp_path / "text", progress=False)
    started = config(pretrained_text=str(tmp_path / "text"), word_vectors=str(vectors), vocabulary_expansion=2)
    with pytest.raises(ConfigError, match="tokenizer"):
        train(started, dataset, store, tmp_path / "model", progress=False)
    train(config(pretrained_text=str(tmp_path / "text")), dataset, store, tmp_path / "model", progress=False)
    with pytest.raises(ModelError, match="other sizes or parts"):
        train(
            config("bigru", pretrained_text=str(tmp_path / "text")), dataset, store, tmp_path / "other", progress=False
        )


def test_phrases_need_the_words_that_annotations_have(photos, store, tmp_path):
    rows = [json.loads(line) for line in (photos / "entities.jsonl").read_text().splitlines()]
    for row in rows:
        for sentence in row["sentences"]:
            sentence["tokens"] = [token.replace("ball", "ball's") for token in sentence["tokens"]]
    (tmp_path / "entities.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    annotations, dataset = read_entities(tmp_path / "entities.jsonl"), read_dataset(photos)
    captions = tuple(
        replace(photo, captions=tuple(caption.replace("ball", "ball's") for caption in photo.captions))
        for photo in dataset.photos
    )
    dataset = replace(dataset, photos=captions)
    options = {"annotations": annotations, "progress": False}
    with pytest.raises(ModelError, match=r"finds the words .*ball's.* annotated by .*ball \| 's"):
        train(config("pieces:spaces", alignment_weight=0.5), dataset, store, tmp_path / "model", **options)
    train(config("pieces:spaces", epochs=1), dataset, store, tmp_path / "model", progress=False)
    model = load_matcher(tmp_path / "model")
    model.text_encoder.tokenizer = Pieces(lambda sentence: sentence.replace("'", " ").split())
    with pytest.raises(ModelError, match=r"must take the words of han_retrieval\.text\.tokenize"):
        ground(model, annotations, store, ids=list(annotations), progress=False)


def test_a_word_without_ids_is_a_fault_of_the_tokenizer():
    model = HAN(HANConfig(region_size=4, vocabulary_size=9, joint_size=8, text_encoder="pieces"))
    model.text_encoder.tokenizer = SimpleNamespace(encode=lambda _: EncodedSentence([1, 2], ("x",), (True,), ((1, 1),)))
    with pytest.raises(ModelError, match="the tokenizer of pieces gives a word of 'x' no ids"):
        model.words(["x"])


def test_tied_weights_are_saved(tmp_path):
    model = HAN(HANConfig(region_size=4, vocabulary_size=9, joint_size=8, text_encoder="pieces"))
    model.save_pretrained(tmp_path / "model")
    again = load_matcher(tmp_path / "model")
    assert torch.equal(again.text_encoder.output.weight, model.text_encoder.embedding.weight)
    assert again.words(["red ball"])[0].shape == (1, 6)
