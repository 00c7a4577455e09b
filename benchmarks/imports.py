"""How long imports take, as ratios to ``import torch``: python benchmarks/imports.py [ROUNDS].

Fresh processes, one after the other in turn, so that what else the machine does falls on all of them.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time

import click

STATEMENTS = {
    "import torch": "import torch",
    "from han_retrieval import HAN": "from han_retrieval import HAN",
    "from han_retrieval import load": "from han_retrieval import load",
    "from han_retrieval import Index": "from han_retrieval import Index",
    "han --help": "import sys; sys.argv = ['han', '--help']; from han_retrieval.cli.main import main; main()",
}


@click.command()
@click.argument("rounds", type=click.IntRange(min=1), default=15)
def main(rounds: int) -> None:
    """Print medians of ROUNDS."""
    seconds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(rounds + 1):
        for name, code in STATEMENTS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}  # the first fills the file cache
    import torch

    print(f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}, median of {rounds}")
    for name, median in medians.items():
        print(f"{name:<32} {median:6.3f} s  {median / medians['import torch']:5.2f} x import torch")


if __name__ == "__main__":
    main()
