"""The towers' own vectors as a matcher, which is evaluated and saved without training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matchers_of_all_kinds import SENTENCES, small_matcher
from training_data import make_data, small_config
from two_towers import POOLED, register_towers

from han_retrieval.errors import HANError
from han_retrieval.evaluation import evaluate
from han_retrieval.matchers import load_matcher
from han_retrieval.regions import RegionRow, Regions, RegionStore
from han_retrieval.regions.rows import batch_of
from han_retrieval.retriever import Retriever
from han_retrieval.training import train


def regions(pooled: int, *, seed: int = 0) -> Regions:
    noise = np.random.default_rng(seed)
    vector = noise.standard_normal(pooled).astype(np.float16) if pooled else None
    return Regions(noise.standard_normal((3, 6)).astype(np.float16), pooled=vector)


def with_pooled(store: RegionStore, out, size: int) -> RegionStore:
    made = RegionStore.create(out, fingerprint=store.fingerprint, feature_size=store.feature_size)
    vectors = np.random.default_rng(0).standard_normal((len(store), size)).astype(np.float16)
    rows = zip(store.ids, store.read(store.ids), vectors, strict=True)
    made.append(RegionRow(name, None, replace(each, pooled=vector)) for name, each, vector in rows)
    made.close()
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@torch.inference_mode()
def test_the_score_is_the_cosine_of_the_towers_vectors():
    model = small_matcher("pooled")
    photos = [regions(POOLED, seed=seed) for seed in range(3)]
    words, mask = model.words(SENTENCES)
    scores = model.similarity(*model.image_inputs(batch_of(photos)), words, mask)
    vectors = torch.tensor(np.stack([photo.pooled for photo in photos])).float()
    wanted = torch.nn.functional.cosine_similarity(vectors.unsqueeze(1), model.text_encoder.pooled(words, mask), dim=-1)
    torch.testing.assert_close(scores, wanted)

    retriever = Retriever(model)
    found = retriever.similarity(retriever.encode_images(photos), retriever.encode_texts(SENTENCES))
    torch.testing.assert_close(found, wanted)


def test_nothing_is_trained_but_it_is_evaluated_and_saved(data, tmp_path, capsys):
    dataset, store = data[0], with_pooled(data[1], tmp_path / "features", POOLED)
    config = small_config(epochs=2, model={"matcher": "pooled", "text_encoder": register_towers()})
    result = train(config, dataset, store, tmp_path / "model")
    assert "a pooled model of these options has no parameters: nothing was trained; dev rSum" in capsys.readouterr().err
    assert (result.steps, result.best_epoch) == (0, 0)
    model = load_matcher(tmp_path / "model")
    assert evaluate(model, dataset.split("dev"), store, progress=False).rsum == pytest.approx(result.rsum)
    assert "without training" in (tmp_path / "model/README.md").read_text()
    train(config, dataset, store, tmp_path / "model", resume=True, progress=False)


def test_a_tower_and_a_language_model_of_text_alone_are_refused_whatever_their_sizes():
    tower = "bottom-up-1-36-0123abcd+timm:vit_small_patch16_224-1-0123abcd-224x224.16.bicubic.ab12"
    with pytest.raises(HANError, match=r"timm:vit_small_patch16_224 and .* minilm are of two models, whose vectors"):
        small_matcher("pooled", text_encoder="minilm", detector_fingerprint=tower)
    with pytest.raises(HANError, match="leave shared_space out"):
        small_matcher("maxsim", shared_space=True, text_encoder="minilm", detector_fingerprint=tower)
    for detector in (None, "fake:1", tower.replace("timm:", "mine:")):  # not of this package: who knows
        small_matcher("pooled", text_encoder="minilm", detector_fingerprint=detector)
    small_matcher("pooled", text_encoder=register_towers(), detector_fingerprint=tower)


def test_what_is_missing_or_of_another_model_is_one_line(data, tmp_path):
    config = small_config(epochs=2, model={"matcher": "pooled", "text_encoder": register_towers()})
    with pytest.raises(HANError, match=r"no vector of the whole photo.*image tower"):
        train(config, *data, tmp_path / "without", progress=False)
    with pytest.raises(HANError, match=f"vectors have {POOLED + 1} numbers and those of towers {POOLED}: .*two models"):
        train(
            config, data[0], with_pooled(data[1], tmp_path / "features", POOLED + 1), tmp_path / "other", progress=False
        )
    with pytest.raises(HANError, match="text encoder bigru has no vector of a whole sentence"):
        small_matcher("pooled", text_encoder="bigru")
    with pytest.raises(HANError, match=r"trains nothing of it: leave model\.text_backbone out"):
        small_matcher("pooled", text_encoder="minilm", text_backbone="trained")
    model = small_matcher("pooled")
    with pytest.raises(HANError, match="no vector of the whole photo"):
        Retriever(model).encode_images([regions(0)])
    with pytest.raises(ValueError, match="a vector a photo"):
        model.encode_images(torch.zeros(2, 3, 5), torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(HANError, match="aligns no words with regions"):
        model.explain(torch.zeros(3, 6), torch.ones(2, dtype=torch.int64))
