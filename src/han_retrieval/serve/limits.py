"""What one request may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on requests; beyond them the answer is a 4xx that says which one.

    Attributes:
        query: Characters of a sentence or of a condition.
        results: Photos an answer.
        depth: Results of one query in all.
        sentences: Captions to rank at once.
        upload_bytes: Of a request's body.
        upload_pixels: Of a photo that is uploaded.
        waiting: Requests that wait for the model; one more is told to come again (503).
    """

    query: int = 1000
    results: int = 200
    depth: int = 10_000
    sentences: int = 200
    upload_bytes: int = 32 * 2**20
    upload_pixels: int = 100_000_000
    waiting: int = 32
