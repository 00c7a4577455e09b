"""Word-to-region evidence for a score just computed, as numbers, as a picture, as a page."""

from han_retrieval.evidence.draw import draw_evidence
from han_retrieval.evidence.page import Answer, Query, Table, evidence_page
from han_retrieval.evidence.pair import PairEvidence, Phrase, explain_pair
from han_retrieval.evidence.preview import draw_regions

__all__ = [
    "Answer",
    "PairEvidence",
    "Phrase",
    "Query",
    "Table",
    "draw_evidence",
    "draw_regions",
    "evidence_page",
    "explain_pair",
]
