"""Photos of folders, ready to be searched: a store that grows, candidates, exact scores."""

from han_retrieval.index.captions import RankedCaption, rank_captions
from han_retrieval.index.index import Index, PhotoRegions
from han_retrieval.index.pooling import MeanPooling, Pooling
from han_retrieval.index.query import Part, parse_query
from han_retrieval.index.search import CANDIDATES, Answer, Hit, search
from han_retrieval.index.settings import is_index
from han_retrieval.index.similar import similar
from han_retrieval.index.summary import IndexSummary
from han_retrieval.index.update import IndexReport, index_photos

__all__ = [
    "CANDIDATES",
    "Answer",
    "Hit",
    "Index",
    "IndexReport",
    "IndexSummary",
    "MeanPooling",
    "Part",
    "PhotoRegions",
    "Pooling",
    "RankedCaption",
    "index_photos",
    "is_index",
    "parse_query",
    "rank_captions",
    "search",
    "similar",
]
