"""All pairs of image tokens and text tokens to scores, in Gram space.

``api`` takes the tokens and chooses: compiled kernels on the CPU (``cpu``, loaded with Numba at the first score), a
Triton kernel on a GPU (``gpu``), or plain torch (``single_block``, ``many_blocks``, ``alignment``), which all of them
are tested against. ``collection`` keeps one side for many queries.
"""

from han_retrieval.processor import PRECISIONS
from han_retrieval.scoring.api import prefers_bfloat16, score_all_pairs
from han_retrieval.scoring.collection import Collection
from han_retrieval.scoring.matching import Matching
from han_retrieval.scoring.tokens import STORAGES, Tokens

__all__ = ["PRECISIONS", "STORAGES", "Collection", "Matching", "Tokens", "prefers_bfloat16", "score_all_pairs"]
