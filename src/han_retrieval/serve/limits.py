"""Upper limits of a request."""

from __future__ import annotations

from dataclasses import dataclass

from han_retrieval.data.photos import MOST_PIXELS


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper limits of a request; one that goes beyond is refused with a 4xx that names the limit.

    Attributes:
        query: Characters of a sentence or of a condition.
        results: Photos in one response.
        depth: Photos that can be reached in one ranking.
        sentences: Sentences to rank in one request.
        words: Words of these together: scoring them cannot be interrupted.
        upload_bytes: Bytes of a request's body.
        upload_pixels: Pixels of an uploaded photo; as of any photo, HAN_MOST_PIXELS in the environment sets them.
        upload_pixels_other: Of one that is no JPEG: other formats take more time and memory.
        uploads: Requests with a body at a time; others wait.
        waiting: Requests in the queue for the model, which hold memory; further ones are refused with 503.
        seconds: How long a request waits for the model, or to send its body, before it is refused with 503.
    """

    query: int = 1000
    results: int = 200
    depth: int = 10_000
    sentences: int = 200
    words: int = 5000
    upload_bytes: int = 32 * 2**20
    upload_pixels: int = MOST_PIXELS
    upload_pixels_other: int = min(25_000_000, MOST_PIXELS)
    uploads: int = 16
    waiting: int = 512
    seconds: float = 20.0
