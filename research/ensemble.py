"""Several models as one: the mean of their scores, brought to the same spread, and how far it is ahead of the first.

python -m research.ensemble MODEL MODEL [MODEL ...] DATASET --features STORE [--split dev]
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from han_retrieval.data import read_dataset
from han_retrieval.evaluation import Evaluation, compare, evaluate
from han_retrieval.evaluation.metrics import DIRECTIONS, RECALLS, fold_results, summarise
from han_retrieval.matchers import load_matcher
from han_retrieval.regions import RegionStore
from research.program import run


@click.command()
@click.argument("models", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.argument("dataset", type=click.Path(exists=True, path_type=Path))
@click.option("--features", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--split", default="dev", show_default=True)
def main(models: tuple[Path, ...], dataset: Path, features: Path, split: str) -> None:
    """Evaluate models on a split, one by one and together."""
    photos, store = read_dataset(dataset).split(split), RegionStore.open(features)
    found = {str(model): evaluate(load_matcher(model), photos, store) for model in models}
    first, *_ = found.values()
    together = ensemble(list(found.values()))
    click.echo(markdown_rows({**found, f"{len(models)} models": together}))
    rsum = compare(first.per_query, together.per_query)[0]
    click.echo(f"{rsum.metric} of all against the first: {rsum.difference:+.1f} ({rsum.low:+.1f} to {rsum.high:+.1f}), "
               f"p = {rsum.p_value:.4f}")  # fmt: skip


def markdown_rows(evaluations: dict[str, Evaluation]) -> str:
    """A markdown table of named evaluations."""
    lines = ["| model | image to text R@1/5/10 | text to image R@1/5/10 | rSum |", "|---|---|---|---|"]
    for name, evaluation in evaluations.items():
        recalls = ["/".join(f"{evaluation.metrics[way][recall]:.1f}" for recall in RECALLS) for way in DIRECTIONS]
        low, high = evaluation.intervals["rsum"]
        lines.append(f"| {name} | {' | '.join(recalls)} | {evaluation.rsum:.1f} ({low:.1f} to {high:.1f}) |")
    return "\n".join(lines)


def ensemble(evaluations: list[Evaluation]) -> Evaluation:
    """The evaluation of the mean of standardised scores of one dataset; all else is the first one's."""
    scores = np.mean([(e.scores - e.scores.mean()) / e.scores.std() for e in evaluations], axis=0)
    per_query = fold_results(scores, evaluations[0].relevance)
    return replace(evaluations[0], scores=scores, per_query=per_query, metrics=summarise(per_query))


if __name__ == "__main__":
    run(main)
