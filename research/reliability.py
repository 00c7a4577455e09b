"""The reliability diagram of a calibration: how often photos of each probability are right.

    python -m research.reliability MODEL PICTURE

The model must have a calibration.json, which ``han calibrate`` writes.
"""

from __future__ import annotations

from pathlib import Path

import click
from matplotlib.figure import Figure

from han_retrieval.errors import HANError
from han_retrieval.search.calibration import Calibration
from research.program import run


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("picture", type=click.Path(dir_okay=False, path_type=Path))
def main(model: Path, picture: Path) -> None:
    """Draw the share that is right over the probability, a point a bin; the line is perfect calibration."""
    calibration = Calibration.read(model)
    if calibration is None:
        raise HANError(f"{model}: not calibrated; han calibrate does it")
    figure = Figure(figsize=(4.2, 4.0), layout="constrained")
    axes = figure.subplots()
    bins = calibration.reliability
    most = 1.1 * max(max(each.probability, each.right) for each in bins)
    axes.plot([0, most], [0, most], color="0.6", linewidth=1)
    axes.plot([each.probability for each in bins], [each.right for each in bins], "o-", color="#1f5fa8", markersize=4)
    axes.axvline(calibration.threshold, color="#b0452c", linewidth=1, linestyle="--")
    axes.set(xlim=(0, most), ylim=(0, most), xlabel="probability", ylabel="share that is right", aspect="equal")
    axes.set_title(f"{calibration.pairs:,} pairs, mean distance {calibration.error:.2%}; dashed: threshold", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    run(main)
