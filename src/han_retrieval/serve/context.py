"""What all routes of a server share."""

from __future__ import annotations

from dataclasses import dataclass

from han_retrieval.serve.limits import Limits
from han_retrieval.serve.metrics import Metrics
from han_retrieval.serve.pixels import PixelBudget
from han_retrieval.serve.request_queue import RequestQueue
from han_retrieval.serve.service import SearchService


@dataclass(frozen=True, slots=True)
class Context:
    """One server: its index and model, the queue in front of them, its metrics and limits, and what photos may take."""

    service: SearchService
    queue: RequestQueue
    metrics: Metrics
    limits: Limits
    pixels: PixelBudget
