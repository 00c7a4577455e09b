"""What the checksums of a model cost when it is loaded: python benchmarks/model_checksums.py [ROUNDS].

Seconds of the processor, which other processes hardly change; checked and unchecked in turn.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable

import click
import torch

from han_retrieval.matchers import load_matcher, saving
from han_retrieval.matchers.saving import folder_hash, model_folder
from han_retrieval.storage.folder_checksums import check_files, listed_files


@click.command()
@click.argument("rounds", type=click.IntRange(min=1), default=15)
def main(rounds: int) -> None:
    """Print medians of ROUNDS."""
    torch.set_num_threads(1)
    folder, check = model_folder("default"), saving.refuse_damage
    size = sum(each.size for each in (listed_files(folder) or {}).values())

    def unchecked() -> None:
        saving.refuse_damage = lambda *_, **__: None
        try:
            load_matcher()
        finally:
            saving.refuse_damage = check

    parts: dict[str, Callable[[], object]] = {
        "load_matcher, unchecked": unchecked,
        "load_matcher": load_matcher,
        "its checksums alone": lambda: check_files(folder, [saving.CONFIG, saving.WEIGHTS, saving.VOCABULARY]),
        "the model's hash, for an index": lambda: folder_hash(folder),
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds + 1):
        for name, part in parts.items():
            start = time.process_time()
            part()
            seconds[name].append(time.process_time() - start)
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}, median of {rounds}")
    print(f"the model that ships, {size / 1e6:.0f} MB")
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}  # the first fills the file cache
    for name, median in medians.items():
        print(f"{name:<32} {1e3 * median:6.1f} ms  {median / medians['load_matcher, unchecked']:5.2f} x")


if __name__ == "__main__":
    main()
