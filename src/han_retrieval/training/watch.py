"""A watch for collapse: training that gets stuck where all scores are equal."""

from __future__ import annotations

from collections import deque


class CollapseWatch:
    """Warns once when the loss has stayed at its collapse value for ``patience`` steps.

    At the start of a training scores are nearly equal as well, so a loss that is still moving does not count: only
    steps within ``tolerance`` of the value, relative to it, one after the other.
    """

    def __init__(self, *, patience: int = 100, tolerance: float = 0.005):
        self.near: deque[bool] = deque(maxlen=patience)
        self.tolerance = tolerance
        self.warned = False

    def see(self, loss: float, *, collapsed: float) -> str | None:
        """Take in the loss of a step, and what it would be if all scores were equal; the warning if there is one."""
        self.near.append(collapsed > 0 and abs(loss - collapsed) <= self.tolerance * collapsed)
        if self.warned or len(self.near) < (self.near.maxlen or 0) or not all(self.near):
            return None
        self.warned = True
        return (
            f"the loss has stood at {loss:.3f} for {len(self.near)} steps, its value when all scores are equal: the "
            "training has collapsed. Start again with a smaller power or a longer power_warm_up (hard negatives come "
            "too early), or with a smaller learning_rate"
        )
