"""What people write who train or study the model: this block of Python runs as it stands, and names stay."""

from __future__ import annotations

import math

import torch

from han_retrieval.losses import soft_max_triplet_loss

BLOCK = """
from han_retrieval import HAN, HANConfig
model = HAN(HANConfig(region_size=2048, vocabulary_size=10000, word_size=300, joint_size=1024, blocks=1,
                      attention_temperature=10.0, alignment_temperature=9.0))
scores = model(regions, region_mask, words, word_mask)               # (I, m, D), (I, m), (T, n) int64, (T, n) -> (I, T), with gradients
scores = model.similarity(regions, region_mask, words, word_mask, backend="reference")   # the plain forward, d-wide, a caption at a time over
                                                                     # all images, as the peers do it: the truth for tests, the baseline for speed
model.save_pretrained(folder); HAN.from_pretrained(folder)
"""  # noqa: E501


def test_the_block_runs_and_the_weights_have_these_names(tmp_path):
    names = {
        "regions": torch.randn(3, 5, 2048),
        "region_mask": torch.ones(3, 5, dtype=torch.bool),
        "words": torch.randint(4, 10000, (2, 6)),
        "word_mask": torch.ones(2, 6, dtype=torch.bool),
        "folder": tmp_path / "model",
    }
    exec(compile(BLOCK, "block", "exec"), names)
    assert names["scores"].shape == (3, 2)
    assert names["scores"].requires_grad
    linear = [f"blocks.0.{part}" for part in ("query", "key", "value", "output")] + ["image_encoder.projection"]
    expected = {f"{name}.{kind}" for name in linear for kind in ("weight", "bias")} | {"text_encoder.embedding.weight"}
    expected |= {f"text_encoder.gru.{name}" for name, _ in torch.nn.GRU(2, 2, bidirectional=True).named_parameters()}
    assert set(names["model"].state_dict()) == expected


def test_the_loss_takes_what_it_always_took():
    scores, ids = torch.randn(4, 4), torch.arange(4)
    given = soft_max_triplet_loss(scores, margin=0.2, power=math.inf, image_ids=ids, caption_image_ids=ids)
    assert torch.equal(given, soft_max_triplet_loss(scores, margin=0.2, power=math.inf))
