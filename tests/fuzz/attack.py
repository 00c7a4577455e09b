"""Read spoiled files with every parser, and count what comes of it: read, refused, or a fault.

    python tests/fuzz/attack.py --inputs 10000 [PARSER ...]

A parser must give a ``HANError`` of one line, or read the file, in seconds and in little memory; all else is a fault.
Inputs depend on the parser, the seed and their number alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

SECONDS = 10.0
"""More than this for an input is a fault."""


@dataclass
class Outcome:
    """What came of the inputs of one parser."""

    parser: str
    read: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    megabytes: float = 0.0

    @property
    def inputs(self) -> int:
        return self.read + self.refused + len(self.faults)


def attack(name: str, folder: Path, *, inputs: int, seed: int = 0, first: int = 0) -> Outcome:
    """Try a parser on so many spoiled inputs, in an empty folder."""
    from mutations import mutate
    from parsers import PARSERS

    from han_retrieval.errors import LONGEST_MESSAGE, HANError

    parser, outcome = PARSERS[name], Outcome(name)
    parser.write(folder)
    valid = {file: (folder / file).read_bytes() for file in parser.files}
    parser.read(folder)
    before, started, spoiled = _peak(), time.perf_counter(), ""
    for number in range(first, first + max(1, round(inputs * parser.share))):
        random = Random(f"{name} {seed} {number}")
        file = random.choice(parser.files)
        content = mutate(random, file, valid[file])
        if spoiled not in ("", file):
            (folder / spoiled).write_bytes(valid[spoiled])
        (folder / file).write_bytes(content)
        spoiled = file
        began = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", RuntimeWarning)  # numpy's, of numbers that are none
                parser.read(folder)
            outcome.read += 1
        except HANError as error:
            outcome.refused += 1
            if not (str(error).isprintable() and len(str(error)) <= LONGEST_MESSAGE):
                outcome.faults.append(f"input {number} ({file}): a message of {len(str(error))} characters")
        except Exception:
            said = traceback.format_exc(limit=-3)
            outcome.faults.append(f"input {number} ({file}): {content[:300]!r}\n{said[:2000]}")
        if time.perf_counter() - began > SECONDS:
            outcome.faults.append(f"input {number} ({file}): took {time.perf_counter() - began:.0f} s")
    outcome.seconds, outcome.megabytes = time.perf_counter() - started, _peak() - before
    return outcome


def quick_folder() -> str | None:
    """Where files are quick to write: in memory, where the system has such a folder."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _peak() -> float:
    """The largest memory of this process so far, in megabytes; 0 on Windows, which does not say."""
    try:
        import resource
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 2**20)


def main() -> None:
    """Attack the parsers that are named, or all."""
    from parsers import PARSERS

    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("parsers", nargs="*", metavar="PARSER", help=", ".join(PARSERS))
    arguments.add_argument("--inputs", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--first", type=int, default=0, help="the number of the first input")
    asked = arguments.parse_args()
    print(f"{'parser':24}{'inputs':>8}{'read':>8}{'refused':>9}{'faults':>8}{'seconds':>9}{'MB':>7}")
    faults: list[str] = []
    for name in asked.parsers or PARSERS:
        with tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
            found = attack(name, Path(folder), inputs=asked.inputs, seed=asked.seed, first=asked.first)
        print(
            f"{name:24}{found.inputs:8}{found.read:8}{found.refused:9}{len(found.faults):8}{found.seconds:9.1f}"
            f"{found.megabytes:7.0f}",
            flush=True,
        )
        faults += [f"{name}, {each}" for each in found.faults]
    print("\n\n".join(faults[:50]), file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
    main()
