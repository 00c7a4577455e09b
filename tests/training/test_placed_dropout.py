"""Dropout that depends on an item's place alone, and training in bfloat16."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from training_data import small_config

from han_retrieval.training import train
from han_retrieval.training.checkpoint import newest_checkpoint
from han_retrieval.training.dropout import PlacedDropout


def test_it_drops_the_share_and_keeps_the_mean():
    dropped = PlacedDropout(3)(torch.ones(40, 50, 60), 0.3, torch.arange(40))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.005)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.005)
    kept = dropped != 0
    for along in range(3):  # no two rows, columns or layers are alike
        flat = kept.transpose(0, along).flatten(1).float()
        alike = (flat @ flat.mT + (1 - flat) @ (1 - flat).mT) / flat.shape[1]
        assert float((alike - torch.eye(len(flat))).max()) < 0.7


def test_calls_steps_and_places_differ_and_the_rest_does_not_matter():
    values, places = torch.ones(6, 9, 4), torch.arange(6)
    dropout = PlacedDropout(1)
    first, second = dropout(values, 0.5, places), dropout(values, 0.5, places)
    assert not torch.equal(first, second)
    assert not torch.equal(first, PlacedDropout(2)(values, 0.5, places))
    assert torch.equal(PlacedDropout(1)(values[4:, :5], 0.5, places[4:]), first[4:, :5])  # other mates, less padding


def test_layers_of_torch_drop_by_place():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.4, batch_first=True)
    values, padding = torch.randn(7, 5, 8), torch.zeros(7, 5, dtype=torch.bool)
    padding[:, 3:] = True
    before = F.dropout, F.scaled_dot_product_attention

    def states(rows: slice, length: int) -> torch.Tensor:
        with PlacedDropout(5).within(torch.arange(7)[rows]):
            return layer(values[rows, :length], src_key_padding_mask=padding[rows, :length])[:, :3]

    whole = states(slice(0, 7), 5)
    assert torch.allclose(torch.cat([states(slice(0, 4), 5), states(slice(4, 7), 3)]), whole, atol=1e-6)
    assert not torch.allclose(whole, layer.eval()(values, src_key_padding_mask=padding)[:, :3], atol=0.1)
    assert (F.dropout, F.scaled_dot_product_attention) == before


def test_attention_without_what_is_dropped_is_torch_s_own():
    random = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(3, 2, 4, 8, generator=random) for _ in range(3))
    mask = torch.rand(3, 1, 4, 4, generator=random) < 0.7
    mask[..., 0] = True
    for options in ({"attn_mask": mask}, {"attn_mask": mask.float()}, {"is_causal": True}, {"scale": 0.3}):
        expected = F.scaled_dot_product_attention(query, key, value, **options)
        with PlacedDropout(5).within(torch.arange(3)):
            found = F.scaled_dot_product_attention(query, key, value, dropout_p=1e-9, **options)
        assert torch.allclose(found, expected, atol=1e-6)


def test_bfloat16_trains_nearly_the_same_and_keeps_weights_whole(data, tmp_path):
    found = {}
    for name, changes in {"start": {"learning_rate": 1e-12}, "whole": {}, "half": {"precision": "bfloat16"}}.items():
        train(small_config(epochs=1, **changes), *data, tmp_path / name, progress=False)
        found[name] = newest_checkpoint(tmp_path / name / "training")[1]
    start, one, other = (tensors["model.image_encoder.projection.weight"] for tensors in found.values())
    assert other.dtype == torch.float32
    assert not torch.equal(one, other)
    assert (one - other).norm() < 0.3 * (one - start).norm()
