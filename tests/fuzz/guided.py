"""Spoil the first file of a parser, led by what code each input reaches, until a fault is found (needs atheris).

python tests/fuzz/guided.py PARSER [-max_total_time=SECONDS] [other options of libFuzzer]
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

with atheris.instrument_imports(include=["han_retrieval"]):
    from parsers import PARSERS

    from han_retrieval.errors import HANError


def main() -> None:
    """Attack the parser that is named."""
    parser = PARSERS[sys.argv.pop(1)]
    folder, corpus = (Path(tempfile.mkdtemp()) for _ in range(2))
    parser.write(folder)
    parser.read(folder)
    file = folder / parser.files[0]
    (corpus / "valid").write_bytes(file.read_bytes())

    def read(content: bytes) -> None:
        file.write_bytes(content)
        with contextlib.suppress(HANError):
            parser.read(folder)

    atheris.Setup([*sys.argv, "-rss_limit_mb=4096", "-timeout=20", str(corpus)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
