"""Measure a matcher: recalls of both directions, their confidence intervals, significance, phrase grounding."""

from han_retrieval.evaluation.grounding import Grounding, ground
from han_retrieval.evaluation.metrics import Queries, fold_results, query_results, recall_sum, summarise
from han_retrieval.evaluation.protocols import Evaluation, evaluate
from han_retrieval.evaluation.relevance import Relevance
from han_retrieval.evaluation.runs import write_runs
from han_retrieval.evaluation.significance import Difference, compare, intervals

__all__ = [
    "Difference",
    "Evaluation",
    "Grounding",
    "Queries",
    "Relevance",
    "compare",
    "evaluate",
    "fold_results",
    "ground",
    "intervals",
    "query_results",
    "recall_sum",
    "summarise",
    "write_runs",
]
