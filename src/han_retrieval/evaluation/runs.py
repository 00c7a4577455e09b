"""Write TREC run files and relevance files (qrels), which retrieval tools read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from han_retrieval.evaluation.metrics import DIRECTIONS
from han_retrieval.evaluation.relevance import Relevance

DEPTH = 100


def write_runs(
    path: Path, scores: np.ndarray, relevance: Relevance, *, folds: int = 1, depth: int = DEPTH
) -> list[Path]:
    """Write a run and its qrels for each direction.

    A run has a line ``query Q0 document rank score han`` for each of a query's first ``depth`` documents. Qrels have a
    line ``query 0 document 1`` for each relevant document. White space and "%" in ids are percent-encoded, as
    ``urllib.parse.unquote`` decodes them. Among equal scores the relevant documents come last. Scores have nine digits,
    which distinguish any two float32 numbers.

    Args:
        path: The pattern of the files' names: "dev.run" gives "dev.image_to_text.run", "dev.image_to_text.qrels", ...
        scores: (I, T) float32, of the images and captions of ``relevance``.
        folds: The number of consecutive folds; each query ranks the documents of its own fold.
        depth: Documents a query.
    """
    stem, suffix = path.with_suffix(""), path.suffix if path.suffix not in ("", ".qrels") else ".run"
    files = []
    for way in DIRECTIONS:
        run, qrels = (stem.with_name(f"{stem.name}.{way}{end}") for end in (suffix, ".qrels"))
        with run.open("w", encoding="utf-8") as run_file, qrels.open("w", encoding="utf-8") as qrels_file:
            for rows, columns, part in relevance.folds(folds):
                cells = scores[rows] if folds == 1 else scores[rows][:, columns]
                for query, documents, row, relevant in _queries(cells, part, way):
                    qrels_file.writelines(f"{query} 0 {documents[place]} 1\n" for place in relevant)
                    first = _first(row, relevant, depth)
                    run_file.writelines(
                        f"{query} Q0 {documents[place]} {rank} {row[place]:.9g} han\n"
                        for rank, place in enumerate(first, start=1)
                    )
        files += [run, qrels]
    return files


def _queries(
    scores: np.ndarray, relevance: Relevance, way: str
) -> Iterator[tuple[str, Sequence[str], np.ndarray, np.ndarray]]:
    """The id of each query, its documents, their scores, and the places of the relevant ones."""
    images, captions = ([_field(name) for name in ids] for ids in (relevance.image_ids, relevance.caption_ids))
    if way == "image_to_text":
        for image, row, relevant in zip(images, scores, relevance.captions_of(), strict=True):
            if len(relevant):
                yield image, captions, row, relevant
    else:
        yield from (
            (caption, images, column, rows)
            for caption, column, rows in zip(captions, scores.T, relevance.images_of(), strict=True)
        )


def _first(scores: np.ndarray, relevant: np.ndarray, depth: int) -> np.ndarray:
    """The places of the ``depth`` highest scores, best first; among equal scores the relevant come last."""
    depth = min(depth, len(scores))
    candidates = np.flatnonzero(scores >= np.partition(scores, -depth)[-depth])
    order = np.lexsort((candidates, np.isin(candidates, relevant), -scores[candidates]))
    return candidates[order][:depth]


def _field(name: str) -> str:
    """An id as one field of a line."""
    return re.sub(r"[\s%]", lambda found: quote(found.group()), name)
