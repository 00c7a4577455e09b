"""Learning rate and loss power as functions of the step alone, so that a resumed run needs no memory of them."""

from __future__ import annotations

import math

from han_retrieval.training.config import LoopConfig, TrainingConfig


def learning_rate(config: LoopConfig, step: int, *, steps: int) -> float:
    """Linear warm-up, then a cosine from the peak to ``final_rate`` of it at the last of ``steps`` steps."""
    if step < config.warm_up_steps:
        return config.learning_rate * (step + 1) / config.warm_up_steps
    done = (step - config.warm_up_steps) / max(1, steps - config.warm_up_steps)
    cosine = (1 + math.cos(math.pi * min(1.0, done))) / 2
    return config.learning_rate * (config.final_rate + (1 - config.final_rate) * cosine)


def loss_power(config: TrainingConfig, step: int, *, steps: int) -> float:
    """p at a step: 1 / p goes linearly from 1 to 1 / power over the first ``power_warm_up`` of the training."""
    warm_up = config.power_warm_up * steps
    done = 1.0 if step >= warm_up else step / warm_up
    inverse = 1 - done * (1 - 1 / config.power)
    return math.inf if inverse == 0 else 1 / inverse
