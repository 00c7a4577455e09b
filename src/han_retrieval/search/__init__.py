"""Search photos: an index that grows, candidates, exact scores, probabilities."""

from typing import TYPE_CHECKING

from han_retrieval.lazy import lazy

if TYPE_CHECKING:
    from han_retrieval.search.calibration import Calibration, calibrate
    from han_retrieval.search.captions import RankedCaption, rank_captions
    from han_retrieval.search.index import Index
    from han_retrieval.search.pooling import MeanPooling
    from han_retrieval.search.query import CANDIDATES, Part, parse_query
    from han_retrieval.search.ranking import search
    from han_retrieval.search.reader import IndexReader, PhotoRegions
    from han_retrieval.search.report import IndexReport
    from han_retrieval.search.results import Hit, SearchResult
    from han_retrieval.search.settings import is_index
    from han_retrieval.search.similarity import similar
    from han_retrieval.search.summary import IndexSummary
    from han_retrieval.search.update import index_photos

__all__ = [
    "CANDIDATES",
    "Calibration",
    "Hit",
    "Index",
    "IndexReader",
    "IndexReport",
    "IndexSummary",
    "MeanPooling",
    "Part",
    "PhotoRegions",
    "RankedCaption",
    "SearchResult",
    "calibrate",
    "index_photos",
    "is_index",
    "parse_query",
    "rank_captions",
    "search",
    "similar",
]

__getattr__ = lazy(
    __name__,
    {
        "CANDIDATES": "query",
        "Calibration": "calibration",
        "Hit": "results",
        "Index": "index",
        "IndexReader": "reader",
        "IndexReport": "report",
        "IndexSummary": "summary",
        "MeanPooling": "pooling",
        "Part": "query",
        "PhotoRegions": "reader",
        "RankedCaption": "captions",
        "SearchResult": "results",
        "calibrate": "calibration",
        "index_photos": "update",
        "is_index": "settings",
        "parse_query": "query",
        "rank_captions": "captions",
        "search": "ranking",
        "similar": "similarity",
    },
)
