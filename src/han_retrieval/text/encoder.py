"""The contract of text encoders, and how one is found by its name.

A text encoder turns the ids of sentences into one token a word. It is registered in the entry point group
``han_retrieval.text_encoders``; ``han plugins`` lists those that are installed, and
``han train ... --set model.text_encoder=NAME`` trains with one.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from han_retrieval import plugins
from han_retrieval.errors import ModelError


class TextEncoderSizes(Protocol):
    """The part of a matcher's configuration that a text encoder may read."""

    @property
    def vocabulary_size(self) -> int:
        """Word ids, the four special ones included."""
        ...

    @property
    def word_size(self) -> int:
        """Numbers a word embedding."""
        ...

    @property
    def joint_size(self) -> int:
        """d, numbers a token that the encoder must give."""
        ...


class TextEncoder(Protocol):
    """What an entry point of ``han_retrieval.text_encoders`` gives when it is called: a ``torch.nn.Module``.

    The entry point is called as ``make(argument, config)``: ``argument`` is what stands behind the colon of
    ``NAME:ARGUMENT`` ("" where there is no colon), ``config`` the matcher's configuration. What it returns

    - maps (T, n) int64 ids and a (T, n) bool mask, true where an id is, to (T, n, d) floats with d =
      ``config.joint_size``, zero at padding. A sentence's tokens must not depend on the other sentences or on padding.
      The matcher normalises or pools them.
    - may have an attribute ``tokenizer`` (``han_retrieval.text.Tokenizer``). Without one, ids are words of the
      vocabulary that was counted from the training captions (0 padding, 1 start, 2 end, 3 unknown).
    - is saved with the matcher by its ``state_dict`` and made anew from its name when the matcher is loaded.

    A language model gives a *row* of sub-words for each word: ids are then (T, n, s), and mask and tokens stay those of
    words, (T, n) and (T, n, d). It may have, too:

    - ``frozen_size: int`` and ``frozen_tokens(words, word_mask)``, (T, n, F) floats without gradients with F =
      ``frozen_size``, zero at padding, where what comes before the trained part never changes. A training then computes
      these once for each caption, and ``forward`` is given them, floats, in place of ids.
    - ``pooled(words, word_mask)``, the language model's own vector (T, P) of each sentence.
    - ``fingerprint``, ``NAME-VERSION-HASH`` with a hash of what is not saved, and ``name``, which finds exactly that
      again. Both are saved with the matcher, which is refused when the fingerprint is another at loading.

    It may raise ``ModelError`` where weights cannot be had. ``examples/plugins`` has a complete one.
    """

    def __call__(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """(T, n) int64, (T, n) bool -> (T, n, d), zero at padding."""
        ...


def make_text_encoder(name: str, config: TextEncoderSizes) -> nn.Module:
    """A new text encoder by its name, ``NAME`` or ``NAME:ARGUMENT``.

    Raises:
        ConfigError: No text encoder has that name, or its package cannot be imported.
        ModelError: What the entry point gives is no module.
    """
    kind, _, argument = name.partition(":")
    encoder: Any = plugins.load("text_encoders", kind)(argument, config)
    if not isinstance(encoder, nn.Module):
        raise ModelError(f"the text encoder {name!r} is a {type(encoder).__name__}, not a torch.nn.Module")
    return encoder
