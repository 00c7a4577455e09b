"""Print metrics as a table, and write them as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from han_retrieval.config import explain_errors
from han_retrieval.errors import DataError
from han_retrieval.evaluation.grounding import GUESSES, Grounding
from han_retrieval.evaluation.metrics import DIRECTIONS, NDCG, RECALLS, PerQuery, Queries
from han_retrieval.evaluation.protocols import Evaluation
from han_retrieval.evaluation.significance import Difference
from han_retrieval.files import write_whole
from han_retrieval.parsing import read_json

_MOST = 2**53  # of a whole number that JSON keeps exactly
COLUMNS = (*RECALLS, "median_rank", "mean_rank", "mAP@R", "R-Precision", NDCG)


def table(evaluation: Evaluation, *, grounding: Grounding | None = None) -> str:
    """The metrics as a table for a terminal."""
    lines = [f"{evaluation.dataset}, split {evaluation.split}: {evaluation.protocol}", ""]
    lines.append(f"{'':15}" + "".join(f"{name.replace('_', ' '):>13}" for name in COLUMNS))
    for way in DIRECTIONS:
        row = "".join(f"{evaluation.metrics[way][name]:13.1f}" for name in COLUMNS)
        lines.append(f"{way.replace('_', ' '):15}{row}")
    low, high = evaluation.intervals["rsum"]
    lines += ["", f"rSum {evaluation.rsum:.1f} (95 % interval {low:.1f} to {high:.1f})"]
    counts, seconds = evaluation.counts, evaluation.seconds
    lines.append(
        f"{counts['images']:,} images, {counts['captions']:,} captions, {counts['pairs']:,} pairs; encoding photos "
        f"{seconds['encode_images']:.1f} s, scoring {seconds['score']:.1f} s ({pairs_per_second(evaluation):,.0f} "
        f"pairs/s), ranking {seconds['rank']:.1f} s"
    )
    if grounding:
        lines += ["", *_grounding_table(grounding)]
    return "\n".join(lines)


def pairs_per_second(evaluation: Evaluation) -> float:
    """Pairs scored per second, including the encoding of captions; equal captions are scored once."""
    scored = evaluation.counts["images"] * evaluation.counts["different_captions"]
    return scored / max(evaluation.seconds["score"], 1e-9)


def _grounding_table(grounding: Grounding) -> list[str]:
    """Pointing and IoU accuracy by type of phrase, for each guess."""
    head = f"{'phrase grounding, %':20}{'phrases':>9}" + "".join(f"{'pointing ' + guess:>17}" for guess in GUESSES)
    lines = [head + "".join(f"{'IoU ' + guess:>12}" for guess in GUESSES)]
    rows = [("all", grounding.counts["phrases"], grounding.overall)]
    rows += [(name, grounding.counts[f"phrases: {name}"], hits) for name, hits in grounding.by_type.items()]
    for name, count, hits in rows:
        pointing = "".join(f"{hits['pointing'][guess]:17.1f}" for guess in GUESSES)
        lines.append(f"{name:20}{count:9}{pointing}" + "".join(f"{hits['iou'][guess]:12.1f}" for guess in GUESSES))
    return lines


def difference_table(differences: Iterable[Difference], *, names: tuple[str, str]) -> str:
    """The metrics of two systems side by side, as a table for a terminal."""
    lines = [f"A: {names[0]}", f"B: {names[1]}", ""]
    lines.append(f"{'':26}{'A':>10}{'B':>10}{'B - A':>10}{'95 % interval':>22}{'p':>9}")
    for row in differences:
        interval = f"{row.low:+.2f} to {row.high:+.2f}"
        metric = row.metric.replace("_", " ")
        lines.append(f"{metric:26}{row.a:10.2f}{row.b:10.2f}{row.difference:+10.2f}{interval:>22}{row.p_value:9.4f}")
    return "\n".join(lines)


def results(evaluation: Evaluation, *, model: str, grounding: Grounding | None = None) -> dict[str, Any]:
    """What ``han evaluate --json`` writes; recalls are in percent."""
    return {
        **evaluation.metrics,
        "rsum": evaluation.rsum,
        "intervals": evaluation.intervals,
        "model": model,
        "dataset": evaluation.dataset,
        "split": evaluation.split,
        "protocol": evaluation.protocol,
        "folds": evaluation.folds,
        "equal_captions": evaluation.relevance.equal_captions,
        "counts": evaluation.counts,
        "seconds": evaluation.seconds,
        "pairs_per_second": pairs_per_second(evaluation),
        "notes": evaluation.notes,
        "ceiling": evaluation.ceiling and {"text_to_image": evaluation.ceiling},
        **environment(),
        "grounding": grounding and {**grounding.overall, "by_type": grounding.by_type, "counts": grounding.counts},
        "queries": {way: _queries_json(queries) for way, queries in evaluation.per_query.items()},
    }


def environment() -> dict[str, dict[str, Any]]:
    """The versions and the machine that figures were measured with."""
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("han-retrieval", "torch", "numpy")},
        },
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
    }


def _queries_json(queries: Queries) -> dict[str, list[Any]]:
    return {
        "id": list(queries.ids),
        "image": list(queries.images),
        "fold": queries.fold.tolist(),
        "rank": queries.rank.tolist(),
        "AP@R": queries.average_precision.tolist(),
        "R-Precision": queries.r_precision.tolist(),
        NDCG: queries.ndcg.tolist(),
    }


def _processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def make_folder(file: Path) -> None:
    """Make the folder of a file that is to be written.

    Raises:
        DataError: The file has no name, its folder cannot be made, or nothing can be written there.
    """
    if not file.name:
        raise DataError("the name of the file to be written is empty")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{file}: its folder cannot be made ({error.strerror})") from None
    if not os.access(file.parent, os.W_OK):
        raise DataError(f"{file}: its folder cannot be written in; choose another place")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, a line a field; the file is replaced as a whole.

    Raises:
        HANError: The file cannot be written.
    """
    fields = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items())
    make_folder(path)
    write_whole(path, "{\n" + ",\n".join(fields) + "\n}\n")


class _Columns(BaseModel):
    """The queries of a direction, as ``_queries_json`` writes them."""

    model_config = ConfigDict(strict=True)

    ids: list[str] = Field(alias="id", min_length=1)
    images: list[str] = Field(alias="image")
    fold: list[Annotated[int, Field(ge=0, le=_MOST)]]
    rank: list[Annotated[int, Field(ge=1, le=_MOST)]]
    average_precision: list[Annotated[float, Field(ge=0, le=1)]] = Field(alias="AP@R")
    r_precision: list[Annotated[float, Field(ge=0, le=1)]] = Field(alias="R-Precision")
    ndcg: list[Annotated[float, Field(ge=0, le=1)]] | None = Field(None, alias="nDCG@10")  # since 0.2

    def as_arrays(self, equal_captions: str) -> Queries:
        """The same as arrays.

        Raises:
            ValueError: They are not of one length, an id occurs twice, or nDCG@10 is missing.
        """
        if self.ndcg is None:
            raise ValueError(f"it has no {NDCG}, an earlier version wrote it: evaluate the model again")
        if any(len(values) != len(self.ids) for _, values in self):
            raise ValueError("its columns are of different lengths")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("a query is there twice")
        return Queries(
            ids=tuple(self.ids),
            images=tuple(self.images),
            rank=np.array(self.rank, dtype=np.int64),
            average_precision=np.array(self.average_precision, dtype=np.float64),
            r_precision=np.array(self.r_precision, dtype=np.float64),
            ndcg=np.array(self.ndcg, dtype=np.float64),
            fold=np.array(self.fold, dtype=np.int64),
            equal_captions=equal_captions,
        )


class _Results(BaseModel):
    """What is read of a file of ``han evaluate --json``."""

    queries: dict[Literal["image_to_text", "text_to_image"], _Columns]
    equal_captions: Literal["negative", "relevant"] = "negative"  # earlier versions did not write it

    def per_query(self) -> PerQuery:
        """The queries of both directions.

        Raises:
            ValueError: A direction is missing, or the captions are of other images or folds than the images.
        """
        if missing := [way for way in DIRECTIONS if way not in self.queries]:
            raise ValueError(f"queries.{missing[0]} is missing")
        found: PerQuery = {way: columns.as_arrays(self.equal_captions) for way, columns in self.queries.items()}
        images, captions = (found[way] for way in DIRECTIONS)
        fold_of = dict(zip(images.images, images.fold, strict=True))
        if images.ids != images.images or fold_of.keys() != set(captions.images):
            raise ValueError("its captions are of other images than its images")
        if any(fold_of[image] != fold for image, fold in zip(captions.images, captions.fold, strict=True)):
            raise ValueError("a caption is in another fold than its image")
        return found


def read_results(path: Path) -> tuple[dict[str, Any], PerQuery]:
    """Read a file of ``han evaluate --json``: all of it, and its results of each query.

    Raises:
        DataError: The file is missing, or ``han evaluate --json`` did not write it.
    """
    content = read_json(path)
    try:
        return content, _Results.model_validate(content).per_query()
    except ValidationError as error:
        reason = explain_errors(_Results, error, content)
    except ValueError as error:
        reason = str(error)
    raise DataError(f"{path}: not the results of `han evaluate --json` ({reason})")
