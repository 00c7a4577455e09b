"""The training curve as a picture: loss by step, dev recalls by epoch.

    python -m research.training_curve MODEL PICTURE

MODEL is a folder that ``han train`` made, finished or not.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from matplotlib.figure import Figure

from han_retrieval.errors import HANError
from han_retrieval.training.log import METRICS, read_log
from research.program import run


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("picture", type=click.Path(dir_okay=False, path_type=Path))
def main(model: Path, picture: Path) -> None:
    """Draw the loss by step and the dev recalls by epoch of a training."""
    records = read_log(model / "training" / METRICS)
    steps = [record for record in records if "loss" in record]
    epochs = [record for record in records if record.get("dev")]
    if not steps:
        raise HANError(f"{model}: its training has no step yet")
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)

    loss = np.array([record["loss"] for record in steps])
    window = max(1, min(50, len(loss) // 10))
    smooth = np.convolve(loss, np.ones(window) / window, mode="valid")
    at = [record["step"] for record in steps]
    left.plot(at, loss, color="#b8c4d6", linewidth=0.6, label="each step")
    left.plot(at[window - 1 :], smooth, color="#1f4e8c", label=f"mean of {window} steps")
    left.set(xlabel="step", ylabel="soft-max triplet loss", ylim=(0, None))
    left.legend()

    for way, colour in (("image_to_text", "#1f4e8c"), ("text_to_image", "#c2571a")):
        for k, style in ((1, "-"), (5, "--"), (10, ":")):
            right.plot(
                [record["epoch"] for record in epochs],
                [record["dev"][way][f"R@{k}"] for record in epochs],
                color=colour,
                linestyle=style,
                marker=".",
                label=f"{way.replace('_', ' ')} R@{k}",
            )
    right.set(xlabel="epoch", ylabel="recall on the watched dev photos, %", ylim=(0, 100))
    if epochs:
        right.legend(fontsize="small", ncols=2)
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    run(main)
