"""Tiny language models with random weights, made by transformers and tokenizers themselves."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SENTENCES = [
    "a red ball",
    "Two dogs, in the deep snow!",
    "snow",
    "a man's hat isn't a snowboarder's t-shirt (3.5 of 1,000)...",
    "überraschung",
]
KINDS = ["bert", "roberta", "clip", "siglip", "t5", "gpt2"]
_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def tiny_language_model(folder: Path, kind: str = "bert", *, seed: int = 0) -> Path:
    """Write a model of a kind with its tokenizer; returns the folder."""
    torch.manual_seed(seed)
    tokenizer, special = _TOKENIZERS.get(kind, _word_pieces)()
    size = tokenizer.get_vocab_size()
    model = _model(kind, size, {name: tokenizer.token_to_id(token) for name, token in special.items()})
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.3)  # or states would hardly differ
    model.save_pretrained(folder)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=24, **special)
    fast.save_pretrained(folder)
    return folder


def _model(kind: str, size: int, ids: dict[str, int]) -> transformers.PreTrainedModel:
    pad, end = ids["pad_token"], ids.get("eos_token")
    if kind == "bert":
        return transformers.BertModel(transformers.BertConfig(vocab_size=size, max_position_embeddings=24, **_SIZES))
    if kind == "roberta":
        return transformers.RobertaModel(
            transformers.RobertaConfig(
                vocab_size=size, max_position_embeddings=24 + pad + 1, pad_token_id=pad, **_SIZES
            )
        )
    if kind in ("clip", "siglip"):
        text = {"vocab_size": size, "max_position_embeddings": 24, "projection_dim": 12, "pad_token_id": pad, **_SIZES}
        text |= {"eos_token_id": end, "bos_token_id": end, "projection_size": 12}
        vision = {"image_size": 8, "patch_size": 4, "projection_dim": 12, **_SIZES}
        name = {"clip": "CLIP", "siglip": "Siglip"}[kind]
        config = getattr(transformers, f"{name}Config")(text_config=text, vision_config=vision, projection_dim=12)
        return getattr(transformers, f"{name}Model")(config)
    if kind == "t5":
        sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
        return transformers.T5Model(transformers.T5Config(vocab_size=size, pad_token_id=pad, **sizes))
    return transformers.GPT2Model(
        transformers.GPT2Config(vocab_size=size, n_positions=24, n_embd=16, n_layer=2, n_head=2, eos_token_id=end)
    )


def _word_pieces() -> tuple[Tokenizer, dict[str, str]]:
    """BERT's."""
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        SENTENCES, trainers.WordPieceTrainer(vocab_size=90, special_tokens=list(special.values()), show_progress=False)
    )
    start, end = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", end), ("[CLS]", start))
    tokenizer.enable_padding(length=24)  # as some folders have it
    tokenizer.enable_truncation(8)
    return tokenizer, special


def _bytes() -> tuple[Tokenizer, dict[str, str]]:
    """RoBERTa's and GPT-2's: it knows every letter by its bytes."""
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(
            vocab_size=320,
            # Transformers reads a CLIP whose end has the id 2 in another way.
            special_tokens=["<s>", "<pad>", "<mask>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    start, end = (tokenizer.token_to_id(token) for token in ("<s>", "</s>"))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", end), ("<s>", start), add_prefix_space=False)
    return tokenizer, special


def _plain_bytes() -> tuple[Tokenizer, dict[str, str]]:
    """GPT-2's, which puts nothing before or behind a sentence."""
    tokenizer, special = _bytes()
    tokenizer.post_processor = processors.ByteLevel()
    return tokenizer, special


def _pieces() -> tuple[Tokenizer, dict[str, str]]:
    """SigLIP's and T5's: sentence pieces, with an end and without a start."""
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>"}
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        SENTENCES,
        trainers.UnigramTrainer(
            vocab_size=80, special_tokens=list(special.values()), unk_token="<unk>", show_progress=False
        ),
    )
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    return tokenizer, special


_TOKENIZERS = {
    "roberta": _bytes,
    "clip": _bytes,
    "gpt2": _plain_bytes,
    "siglip": _pieces,
    "t5": _pieces,
}
