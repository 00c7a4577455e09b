"""Evidence for a score: which words are aligned with which regions, as numbers, as a picture, as a page.

Drawing needs Pillow and the page needs Jinja; both are imported when they are first used.
"""

from han_retrieval.evidence.evidence import (
    AlignedPhrase,
    Evidence,
    evidence_from_index,
    evidence_from_regions,
    evidence_from_tokens,
)
from han_retrieval.evidence.page import PageTable, PhotoResult, QueryResults, evidence_page

__all__ = [
    "AlignedPhrase",
    "Evidence",
    "PageTable",
    "PhotoResult",
    "QueryResults",
    "evidence_from_index",
    "evidence_from_regions",
    "evidence_from_tokens",
    "evidence_page",
]
