"""Matchers on language models, frozen or trained along: training, resuming, saving, loading, photos to evidence."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from drawn_photos import ColourDetector, write_drawn_photos
from safetensors.torch import load_file
from tiny_language_models import tiny_language_model
from training_data import EVERY_STEP, interrupted_at, same_run, small_config

import han_retrieval as han
from han_retrieval.cli.main import main
from han_retrieval.data import read_dataset, read_entities
from han_retrieval.errors import ConfigError, HANError, ModelError
from han_retrieval.evaluation import evaluate
from han_retrieval.matchers import HANConfig, load_matcher, make_matcher
from han_retrieval.regions import RegionStore, extract
from han_retrieval.text import Vocabulary, frozen, pad_rows
from han_retrieval.training import texts, train
from han_retrieval.training.pretraining import pretrain_text


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "frozen-tokens"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_language_model(tmp_path_factory.mktemp("language-model") / "tiny")


def config(folder, **changes):
    options = {key: changes.pop(key) for key in list(changes) if key.startswith("text_") and key != "text_lr_factor"}
    return small_config(model=HANConfig(joint_size=16, text_encoder=f"hf:{folder}", **options), **changes)


def test_a_saved_model_holds_what_was_trained(folder, data, tmp_path):
    train(config(folder, text_head="linear"), *data, tmp_path / "model", progress=False)
    state = load_file(tmp_path / "model/model.safetensors")
    text = {name for name in state if name.startswith("text_encoder")}
    assert text == {"text_encoder.head.weight", "text_encoder.head.bias", "text_encoder.mix"}
    saved = json.loads((tmp_path / "model/config.json").read_text())
    assert saved["text_encoder_fingerprint"].startswith(f"hf:{folder.resolve()}-1-")
    dataset, store = data
    before = evaluate(load_matcher(tmp_path / "model"), dataset.split("dev"), store, progress=False)
    again = load_matcher(tmp_path / "model")
    again.save_pretrained(tmp_path / "again")
    assert evaluate(load_matcher(tmp_path / "again"), dataset.split("dev"), store, progress=False).rsum == before.rsum


@pytest.mark.parametrize("options", [{}, {"text_backbone": "trained"}, {"text_backbone": "layers"}])
def test_a_stopped_run_resumes_exactly(folder, data, tmp_path, options):
    wanted = config(folder, checkpoint_minutes=EVERY_STEP, **options)
    train(wanted, *data, tmp_path / "unbroken", progress=False)
    with interrupted_at(7):
        train(wanted, *data, tmp_path / "stopped", progress=False)
    train(wanted, *data, tmp_path / "stopped", resume=True, progress=False)
    assert same_run(tmp_path / "stopped", tmp_path / "unbroken")


def test_texts_of_like_length_go_through_a_trained_language_model_together(folder, monkeypatch):
    captions = ["a red ball", "snow", "a man's hat isn't in the deep snow of the two red dogs", "dogs"] * 3
    vocabulary = Vocabulary.from_sentences(captions)
    options = {"joint_size": 16, "text_encoder": f"hf:{folder}", "text_backbone": "trained"}
    model = make_matcher(HANConfig(**options), vocabulary=vocabulary, region_size=8, detector_fingerprint="")
    model.train()
    words, mask = pad_rows([torch.tensor(model.tokenizer.encode(caption).ids) for caption in captions])
    places, read = torch.arange(len(words)) + 7, []
    hook = model.text_encoder.backbone.model.register_forward_pre_hook(
        lambda _module, _args, given: read.append(given["attention_mask"]), with_kwargs=True
    )

    def tokens_and_gradients(at_once, seed=3):
        monkeypatch.setattr(texts, "_AT_ONCE", at_once)
        model.zero_grad()
        tokens = texts.encode_texts(model, words, mask, places=places, seed=seed)
        (tokens * torch.linspace(0, 1, 16)).sum().backward()
        return [tokens, *(each.grad.clone() for each in model.text_encoder.parameters() if each.grad is not None)]

    whole, grouped = tokens_and_gradients(len(words)), tokens_and_gradients(3)
    hook.remove()
    assert len(whole) == len(grouped) > 20
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(whole, grouped, strict=True))
    assert not torch.allclose(tokens_and_gradients(3, seed=4)[0], grouped[0], atol=0.01)  # something is dropped
    assert len(read) == 5
    assert sum(int((each == 0).sum()) for each in read[1:]) == 0 < int((read[0] == 0).sum())  # padding


def test_a_trained_language_model_moves_at_its_own_rate(folder, data, tmp_path):
    moved = {}
    for factor in (0.01, 1.0):
        out = tmp_path / f"model-{factor}"
        train(config(folder, text_backbone="trained", text_lr_factor=factor), *data, out, progress=False)
        state = load_file(out / "model.safetensors")
        before = load_file(folder / "model.safetensors")
        name = "encoder.layer.0.output.dense.weight"
        moved[factor] = (state[f"text_encoder.trained_backbone.model.{name}"] - before[name]).abs().mean()
    assert 0 < 10 * moved[0.01] < moved[1.0]


def test_layers_are_trained_and_embeddings_stay(folder, data, tmp_path):
    train(config(folder, text_backbone="layers"), *data, tmp_path / "model", progress=False)
    state, before = load_file(tmp_path / "model/model.safetensors"), load_file(folder / "model.safetensors")
    prefix = "text_encoder.trained_backbone.model."
    saved = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
    assert not [name for name in saved if name.endswith("embeddings.weight")]
    name = "encoder.layer.0.output.dense.weight"
    assert (saved[name] - before[name]).abs().max() > 0
    dataset, store = data
    model = load_matcher(tmp_path / "model")
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(model.text_encoder.backbone.model.get_buffer(name), before[name])
    rsum = evaluate(model, dataset.split("dev"), store, progress=False).rsum
    model.save_pretrained(tmp_path / "again")
    assert evaluate(load_matcher(tmp_path / "again"), dataset.split("dev"), store, progress=False).rsum == rsum


def test_captions_are_encoded_once(folder, data, tmp_path, cache, monkeypatch):
    counted = []
    compute = frozen._computed
    monkeypatch.setattr(frozen, "_computed", lambda *given: (counted.append(1), compute(*given))[1])
    for name in ("one", "two"):
        train(config(folder, text_head="linear"), *data, tmp_path / name, progress=False)
    assert len(counted) == len(list(cache.iterdir())) == 1
    assert torch.equal(
        *(load_file(tmp_path / name / "model.safetensors")["text_encoder.head.weight"] for name in ("one", "two"))
    )
    file = next(cache.iterdir())
    content = bytearray(file.read_bytes())
    content[5] ^= 255
    file.write_bytes(content)
    train(config(folder), *data, tmp_path / "three", progress=False)
    assert len(counted) == 2
    train(config(folder, text_layers="last"), *data, tmp_path / "four", progress=False)
    assert len(counted) == 3


def test_a_language_model_that_changed_or_is_gone_is_told(folder, data, tmp_path):
    own = shutil.copytree(folder, tmp_path / "own")
    train(config(own), *data, tmp_path / "model", progress=False)
    shutil.rmtree(own)
    with pytest.raises(ModelError, match=r"own: no such folder"):
        load_matcher(tmp_path / "model")
    tiny_language_model(own, seed=1)
    with pytest.raises(ModelError, match=r"has changed since the model was trained"):
        load_matcher(tmp_path / "model")


def test_captions_alone_train_the_head(folder, data, tmp_path):
    dataset, _ = data
    captions = [photo.captions for photo in dataset.photos]
    pretrain_text(config(folder, text_head="linear"), captions, tmp_path / "text", progress=False)
    assert set(load_file(tmp_path / "text/text_encoder.safetensors")) == {"head.weight", "head.bias", "mix"}
    train(
        config(folder, text_head="linear", pretrained_text=str(tmp_path / "text")),
        *data,
        tmp_path / "model",
        progress=False,
    )
    with pytest.raises(ModelError, match="other sizes or parts"):
        train(
            config(folder, text_head="gru", pretrained_text=str(tmp_path / "text")),
            *data,
            tmp_path / "other",
            progress=False,
        )


def test_word_vectors_are_refused(folder, data, tmp_path):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("red 1 2 3\nball 2 3 4\n")
    for changes in ({"word_vectors": str(vectors)}, {"word_vectors": str(vectors), "vocabulary_expansion": 2}):
        with pytest.raises(ConfigError, match="a tokenizer of its own; leave it out"):
            train(config(folder, **changes), *data, tmp_path / "model", progress=False)


def test_from_photos_to_evidence(folder, tmp_path, capsys):
    photos = tmp_path / "photos"
    write_drawn_photos(photos, train=16, dev=8)
    extract(read_dataset(photos), ColourDetector(), tmp_path / "features")
    store = RegionStore.open(tmp_path / "features")
    wanted = config(folder, epochs=2, alignment_weight=0.5)
    annotations = read_entities(photos / "entities.jsonl")
    train(wanted, read_dataset(photos), store, tmp_path / "model", annotations=annotations, progress=False)
    retriever = han.load(tmp_path / "model", detector=None)
    retriever.detector = ColourDetector()
    (photo,) = retriever.encode_images([photos / "dev" / "000.png"])
    evidence = retriever.explain(photo, "a yellow ball, perhaps")
    assert evidence.words == ("a", "yellow", "ball", "perhaps")
    assert evidence.alignment.shape == (4, len(photo.regions.features))
    (text,) = retriever.encode_texts(["a yellow ball, perhaps"])
    assert evidence.score == pytest.approx(float(retriever.similarity([photo], [text])), abs=1e-5)
    with han.Index.create(tmp_path / "index", retriever) as index:
        assert index.add(photos / "dev").added == 8
        index.add(photos / "train")
        assert len(index.search("a red ball", k=5)) == 5
        with pytest.raises(HANError, match="knows none of the words"):
            index.search("狗")
    main(["search", str(tmp_path / "index"), "a red 狗"])
    assert "the model does not know '狗'" in capsys.readouterr().err
    main(["info", str(tmp_path / "index"), "--recall"])
    main(["info", str(tmp_path / "model")])
    assert "tiny-1-" in capsys.readouterr().out
    assert "the language model `hf:" in (tmp_path / "model/README.md").read_text()


def test_a_language_model_may_lie_in_the_model_s_own_folder(folder, data, tmp_path):
    own = shutil.copytree(folder, tmp_path / "own")
    train(config(own, epochs=1), *data, tmp_path / "model", progress=False)
    shutil.move(own, tmp_path / "model" / "own")
    assert load_matcher(tmp_path / "model").reads("a red ball")


def test_a_head_of_another_language_model_is_refused(folder, data, tmp_path):
    pretrain_text(
        config(folder, epochs=1), [photo.captions for photo in data[0].photos], tmp_path / "text", progress=False
    )
    other = tiny_language_model(tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match=r"was trained on the language model hf:.*tiny-1-.*, not on hf:.*other-1-"):
        train(config(other, pretrained_text=str(tmp_path / "text")), *data, tmp_path / "model", progress=False)
