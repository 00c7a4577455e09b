"""Language models of transformers: ``hf:FOLDER``, and ``hf:NAME[@REVISION]`` of the Hugging Face Hub.

Any model that gives a state a sub-word and has a fast tokenizer. Of two towers, as CLIP and SigLIP, the text tower; of
an encoder and a decoder, as T5, the encoder. In a model that only reads forwards, as GPT-2, a word's token knows
nothing of the words behind it. With "@proj" behind the name of a model of two towers, a word's token goes through the
projection of sentences, into the space that photos share.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from han_retrieval.errors import ConfigError, ModelError, first_line
from han_retrieval.regions.backbones.loading import library, quiet, shared_space
from han_retrieval.text.language_folder import find_folder, folder_fingerprint, settings_hash
from han_retrieval.text.language_model import Backbone, LanguageModel, LanguageModelOptions
from han_retrieval.text.sentence_pooling import SentencePooling
from han_retrieval.text.subwords import SubwordTokenizer, TextSplitter, start_and_end
from han_retrieval.weights import filled

_LONGEST = 1024  # sub-words of a sentence, where a model itself has no limit
_ATTENDS_TO_PADDING = ("siglip_text_model", "siglip2_text_model")  # trained on texts padded to one length, unmasked


def make_hf(argument: str, config: LanguageModelOptions) -> LanguageModel:
    """The text encoder ``hf:FOLDER`` or ``hf:NAME[@REVISION]``.

    Raises:
        ConfigError: Nothing is named behind the colon.
        ModelError: It is not there, or is nothing that can be read as a language model.
    """
    short, shared = shared_space(argument)
    if not short:
        raise ConfigError(
            "the text encoder hf needs a name behind a colon: hf:FOLDER, or hf:NAME of the Hugging Face Hub"
        )
    folder, name = find_folder(short)
    return LanguageModel(TransformersBackbone(folder, name=f"hf:{name}", shared=shared), config)


class TransformersBackbone(Backbone):
    """A language model from a folder as transformers writes it; ``name`` is what the fingerprint says."""

    def __init__(self, folder: Path, *, name: str, shared: bool = False) -> None:
        super().__init__()
        if not list(folder.glob("*.safetensors")):
            raise ModelError(
                f"{folder}: no .safetensors there; a language model is a folder with config.json, its weights "
                "as safetensors, and its tokenizer"
            )
        transformers = library("transformers", wanted_by=name, extra="hf")
        self.name = f"{name}@proj" if shared else name
        self.fingerprint, self.settings = folder_fingerprint(folder, self.name), settings_hash(folder)
        with quiet(transformers), filled():
            self.model = _load_model(transformers, folder)
            tokenizer = _load_tokenizer(transformers, folder)
        self._features = getattr(self.model, "get_text_features", None)
        self.text = _text_tower(self.model)
        sizes = self.text.config
        self._project: Any = None
        if shared:
            self._project = getattr(self.model, "text_projection", None) or getattr(self.text, "head", None)
            if self._features is None or self._project is None:
                raise ConfigError(f"{folder}: a {sizes.model_type} shares no space with photos; leave @proj out")
        split = TextSplitter(tokenizer.backend_tokenizer)
        self.start, self.end = start_and_end(tokenizer.backend_tokenizer)
        self.padding = next(id_ for id_ in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if id_ is not None)
        most = _positions(self.text, tokenizer)
        self.padded_to = most if sizes.model_type in _ATTENDS_TO_PADDING else None
        self.tokenizer = SubwordTokenizer(split, most - len(self.start) - len(self.end), tokenizer.unk_token_id)
        self.pooling = None if self._features else SentencePooling.read(folder)
        self.eval()
        self.layers, self.hidden_size = self._probe(folder)

    def _probe(self, folder: Path) -> tuple[int, int]:
        ids = torch.tensor([[*self.start, self.padding, *self.end]])
        try:
            with torch.no_grad():
                states = self.states(ids, torch.ones_like(ids, dtype=torch.bool), every=True)
        except Exception as error:  # whatever a model that is none of words says of its input
            raise ModelError(f"{folder}: gives no states of words ({_reason(error)}); take a text encoder") from None
        return states.shape[0], states.shape[-1]

    def states(self, ids: Tensor, mask: Tensor, *, every: bool) -> Tensor:
        """States (layers or 1, T, L, h) of (T, L) int64 ids with (T, L) bool mask: of every layer, or of the last."""
        length = ids.shape[1]
        out = self.text(**self._inputs(ids, mask), output_hidden_states=every, return_dict=True)
        last = out.last_hidden_state[:, :length]
        if self._project is not None:
            last = self._project(last)
        if not every or self._project is not None:
            return last.unsqueeze(0)
        # The last of the hidden states lacks the norm behind the last layer, where a model has one there.
        return torch.stack([*(states[:, :length] for states in out.hidden_states[:-1]), last])

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The model's own vector (T, P): a tower's projection, what sentence-transformers makes, or the mean."""
        if self._features is not None:
            found = self._features(**self._inputs(ids, mask))
            return found if isinstance(found, Tensor) else found.pooler_output
        assert self.pooling is not None
        return self.pooling(self.states(ids, mask, every=False)[0], mask)

    def _inputs(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        if self.padded_to is None:
            return {"input_ids": ids, "attention_mask": mask.long()}
        return {"input_ids": nn.functional.pad(ids, (0, self.padded_to - ids.shape[1]), value=self.padding)}


def _load_model(transformers: Any, folder: Path) -> nn.Module:
    try:
        model, found = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # of many kinds, by what is wrong with the files
        raise ModelError(f"{folder}: transformers cannot load it ({_reason(error)})") from None
    # A pooler that a checkpoint lacks is not used here; without others the states would be random.
    missing = sorted(name for name in found["missing_keys"] if "pooler" not in name)
    if missing:
        raise ModelError(
            f"{folder}: its weights lack {missing[0]} and {len(missing) - 1} more: they are of another model"
        )
    return model


def _load_tokenizer(transformers: Any, folder: Path) -> Any:
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        try:  # the class that tokenizer_config.json names may want a library that a tokenizer.json does not
            if not all((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
                raise error
            return transformers.PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        except Exception:
            raise ModelError(
                f"{folder}: its tokenizer is missing or cannot be loaded ({_reason(error)}); put tokenizer.json and "
                "tokenizer_config.json beside the weights"
            ) from None
    if not tokenizer.is_fast and (folder / "tokenizer.json").is_file():
        special = {key: value for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), model_max_length=tokenizer.model_max_length, **special
        )
    if not tokenizer.is_fast:
        raise ModelError(
            f"{folder}: {type(tokenizer).__name__} is a slow tokenizer, which does not say where sub-words stand; put "
            "the tokenizer.json of a fast one there"
        )
    return tokenizer


def _text_tower(model: Any) -> Any:
    """The part of a model that reads text; the towers of other things are let go."""
    if model.config.is_encoder_decoder:
        return model.get_encoder()
    text = getattr(model, "text_model", None)
    if text is not None:
        for other in ("vision_model", "audio_model"):
            if hasattr(model, other):
                setattr(model, other, None)
    return model if text is None else text


def _positions(text: Any, tokenizer: Any) -> int:
    """How many sub-words a model can read, those at start and end of a sentence included."""
    most = getattr(text.config, "max_position_embeddings", None) or 0
    most = most if most > 0 else _LONGEST  # XLNet, which reads texts of any length, says -1
    offset = getattr(getattr(text, "embeddings", None), "padding_idx", None)  # RoBERTa counts positions from behind it
    most -= 0 if offset is None else offset + 1
    return min(most, tokenizer.model_max_length, _LONGEST)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}" if str(error).strip() else type(error).__name__
