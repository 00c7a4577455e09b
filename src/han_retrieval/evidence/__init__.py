"""Word-to-region evidence for a score just computed, as numbers, as a picture, as a page."""

from han_retrieval.evidence.draw import draw_evidence
from han_retrieval.evidence.numbers import evidence_as_json
from han_retrieval.evidence.page import Answer, Query, Table, evidence_page
from han_retrieval.evidence.pair import PairEvidence, Phrase, explain_pair, explain_tokens
from han_retrieval.evidence.preview import draw_regions

__all__ = [
    "Answer",
    "PairEvidence",
    "Phrase",
    "Query",
    "Table",
    "draw_evidence",
    "draw_regions",
    "evidence_as_json",
    "evidence_page",
    "explain_pair",
    "explain_tokens",
]
