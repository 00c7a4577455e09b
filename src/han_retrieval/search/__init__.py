"""Photos of folders, ready to be searched: a store that grows, candidates, exact scores."""

from han_retrieval.search.captions import RankedCaption, rank_captions
from han_retrieval.search.index import Index, PhotoRegions
from han_retrieval.search.pooling import MeanPooling, Pooling
from han_retrieval.search.query import Part, parse_query
from han_retrieval.search.ranking import CANDIDATES, Answer, Hit, search
from han_retrieval.search.settings import is_index
from han_retrieval.search.similarity import similar
from han_retrieval.search.summary import IndexSummary
from han_retrieval.search.update import IndexReport, index_photos

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
