"""Photos of folders, ready to be searched: a store that grows, candidates, exact scores."""

from han_retrieval.index.index import Index, IndexSummary, PhotoRegions
from han_retrieval.index.pooling import MeanPooling, Pooling
from han_retrieval.index.search import CANDIDATES, Hit, search
from han_retrieval.index.settings import is_index
from han_retrieval.index.update import IndexReport, index_photos

__all__ = [
    "CANDIDATES",
    "Hit",
    "Index",
    "IndexReport",
    "IndexSummary",
    "MeanPooling",
    "PhotoRegions",
    "Pooling",
    "index_photos",
    "is_index",
    "search",
]
