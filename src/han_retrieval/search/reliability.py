"""The reliability diagram of a calibration: how often photos of each probability are right."""

from __future__ import annotations

from pathlib import Path

from han_retrieval.errors import ConfigError, DataError
from han_retrieval.search.calibration import Calibration


def draw_reliability(calibration: Calibration, path: str | Path) -> None:
    """Draw the share that is right over the probability, a point a bin; the line is perfect calibration.

    Raises:
        ConfigError: Matplotlib is not installed.
        DataError: The picture cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("the picture needs matplotlib: pip install 'han-retrieval[plots]'") from None
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
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the picture cannot be written ({error})") from None
