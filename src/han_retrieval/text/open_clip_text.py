"""Text towers of open_clip: ``open_clip:NAME/PRETRAINED``, ``open_clip:FOLDER``, and each with "@proj".

With "@proj", a word's token goes through the tower's projection of sentences, into the space that photos share.

Legend: T texts, L sub-words of a text, h numbers a state, P numbers a vector in the shared space.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from han_retrieval.errors import ModelError
from han_retrieval.regions.backbones.loading import library, one_line, shared_space
from han_retrieval.text.language_folder import VERSION
from han_retrieval.text.language_model import Backbone, LanguageModel, LanguageModelOptions
from han_retrieval.text.subwords import Subword, SubwordTokenizer, TextSplitter, start_and_end
from han_retrieval.weights import filled


def make_open_clip(argument: str, config: LanguageModelOptions) -> LanguageModel:
    """The text encoder ``open_clip:NAME/PRETRAINED``.

    Raises:
        ConfigError: Open_clip has no such model, or no such weights of it.
        ModelError: Open_clip is not installed, the model cannot be had, or its text tower is of another kind.
    """
    return LanguageModel(OpenClipBackbone(argument), config)


class OpenClipBackbone(Backbone):
    """The text tower of a model of open_clip."""

    def __init__(self, argument: str) -> None:
        super().__init__()
        asked_for = f"open_clip:{argument}"
        short, shared = shared_space(argument)
        open_clip = library("open_clip", wanted_by=asked_for, extra="open-clip")
        from han_retrieval.regions.backbones.open_clip_tower import full_name, offline_name, resolve_name

        name, pretrained, options = resolve_name(short, open_clip)
        self.name = full_name(name, pretrained) + ("@proj" if shared else "")
        with one_line(asked_for, offline=offline_name(name)), filled():
            model = open_clip.create_model(name, pretrained=pretrained, require_pretrained=True, **options)
            tokenizer = open_clip.get_tokenizer(name)
            tower = model if hasattr(model, "token_embedding") else model.text
            if getattr(tower, "cls_emb", None) is not None or not hasattr(tower, "token_embedding"):
                raise ModelError(
                    f"its text tower, a {type(tower).__name__}, is not known here; take its language model by hf:"
                )
            if getattr(tokenizer, "tokenizer_mode", "") or getattr(tokenizer, "strip_sep_token", False):
                raise ModelError("its tokenizer is of a kind that is not known here")
        model.visual = None  # the other tower
        self.model: Any = model
        self.tower: Any = (tower,)  # it is part of the model already
        self._read_tokenizer(tokenizer, tower.context_length)
        projection: Any = tower.text_projection if shared else None
        self.projected = projection is not None
        self.hidden_size = tower.ln_final.normalized_shape[0]
        if self.projected:
            self.hidden_size = projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1]
        self.layers = 1 if self.projected else len(tower.transformer.resblocks)
        self.fingerprint = f"{self.name}-{VERSION}-{_hash(model)}"
        self.eval()

    def _read_tokenizer(self, tokenizer: Any, most: int) -> None:
        inner = getattr(tokenizer, "tokenizer", None)  # of transformers, or open_clip's own
        unknown = None
        if inner is None:
            self.start, self.end, self.padding = (tokenizer.sot_token_id,), (tokenizer.eot_token_id,), 0
            split: Any = _BytePairs(tokenizer)
        else:
            split = TextSplitter(inner.backend_tokenizer)
            self.start, self.end = start_and_end(inner.backend_tokenizer)
            self.padding, unknown = inner.pad_token_id, inner.unk_token_id
        cleaned = _Cleaned(split, tokenizer.clean_fn) if hasattr(tokenizer, "clean_fn") else split
        self.most = most
        self.tokenizer = SubwordTokenizer(cleaned, most - len(self.start) - len(self.end), unknown)

    def states(self, ids: Tensor, mask: Tensor, *, every: bool) -> Tensor:
        """States (layers or 1, T, L, h) of (T, L) int64 ids with (T, L) bool mask: of every layer, or of the last.

        A tower that reads forwards knows nothing of the padding behind a text. Others have seen texts padded to one
        length in their training, and read such ones here.
        """
        (tower,), length = self.tower, ids.shape[1]
        if tower.attn_mask is None:
            ids = self._padded(ids)
        reads = None if tower.attn_mask is None else tower.attn_mask[:length, :length]
        embedded = tower.token_embedding(ids) + tower.positional_embedding[: ids.shape[1]]
        last, states = tower.transformer.forward_intermediates(embedded, attn_mask=reads)
        last = tower.ln_final(last)[:, :length]
        if self.projected:
            projection = tower.text_projection
            last = projection(last) if isinstance(projection, nn.Linear) else last @ projection
        if not every or self.layers == 1:
            return last.unsqueeze(0)
        return torch.stack([*(state[:, :length] for state in states[:-1]), last])

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The model's own vector (T, P) of each text."""
        return self.model.encode_text(self._padded(ids))

    def _padded(self, ids: Tensor) -> Tensor:
        return nn.functional.pad(ids, (0, self.most - ids.shape[1]), value=self.padding)


class _BytePairs:
    """A text to sub-words by open_clip's own tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: str) -> list[Subword]:
        own = self.tokenizer
        found = []
        for match in own.pat.finditer(text):
            letters = "".join(own.byte_encoder[byte] for byte in match.group().encode())
            found += [Subword(own.encoder[part], *match.span()) for part in own.bpe(letters).split(" ")]
        return found


class _Cleaned:
    """A text to sub-words after open_clip has cleaned it: in lower case, without double spaces or punctuation."""

    def __init__(self, split: Any, clean: Any) -> None:
        self.split, self.clean = split, clean

    def __call__(self, text: str) -> list[Subword]:
        cleaned, left = self.clean(text), re.sub(r"\s", " ", text.replace("_", " "))
        left = left.lower() if len(left.lower()) == len(left) and cleaned.lower() == cleaned else left
        places, place = [], -1
        for letter in cleaned:  # those that stay, in order
            place = left.find(letter, place + 1)
            if place < 0:  # more than taken away, as where broken characters are mended: read it as it is
                return self.split(left.lower() if len(left.lower()) == len(left) else left)
            places.append(place)
        return [
            Subword(id_, places[start], places[end - 1] + 1 if end > start else places[start])
            for id_, start, end in self.split(cleaned)
            if start < len(places)
        ]


def _hash(model: nn.Module) -> str:
    import xxhash

    digest = xxhash.xxh3_128()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} ".encode())
        digest.update(value.float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]
