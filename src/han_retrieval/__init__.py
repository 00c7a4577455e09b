"""han-retrieval: match photos and sentences by their parts.

``load`` and ``Index`` are for searching photos, ``HAN`` and ``HANConfig`` for training and studying the model::

    import han_retrieval as han

    retriever = han.load()
    photos = retriever.encode_images(["a.jpg"])
    texts = retriever.encode_texts(["two dogs in the snow"])
    scores = retriever.similarity(photos, texts)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from han_retrieval.errors import ConfigError, DataError, HANError, ModelError, QueryError, StoreError
from han_retrieval.version import __version__

if TYPE_CHECKING:
    from han_retrieval.matchers import HAN, HANConfig, PairAlignment
    from han_retrieval.retriever import Retriever, load
    from han_retrieval.search import Index

__all__ = [
    "HAN",
    "ConfigError",
    "DataError",
    "HANConfig",
    "HANError",
    "Index",
    "ModelError",
    "PairAlignment",
    "QueryError",
    "Retriever",
    "StoreError",
    "__version__",
    "load",
]

# Imported when first used: a script that only trains should not load a database, nor the command's help torch.
_LAZY = {
    "HAN": "han_retrieval.matchers",
    "HANConfig": "han_retrieval.matchers",
    "PairAlignment": "han_retrieval.matchers",
    "Index": "han_retrieval.search",
    "Retriever": "han_retrieval.retriever",
    "load": "han_retrieval.retriever",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'han_retrieval' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
