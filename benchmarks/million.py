"""Search among up to a million photos: what candidates keep, latency and memory, exact and by a vector index.

    python benchmarks/million.py draw REAL OUT QUERIES --photos 1000000   an index of made-up photos, with exact scores
    python benchmarks/million.py vectors OUT                              give it a vector index, and time that
    python benchmarks/million.py time OUT QUERIES RESULTS                 latency and memory, added to RESULTS
    python benchmarks/million.py recall OUT RESULTS                       what candidates keep, added to RESULTS
    python benchmarks/million.py plot RESULTS PICTURE

REAL is an index of real photos, which come first; QUERIES is a text file with a sentence a line, or a dataset. Every
command can be interrupted and given again: `draw` goes on where it was. A made-up photo mixes two real ones: each
region's token lies between those of both at the same place, and where between is drawn once a photo.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from han_retrieval.process import tune_process

tune_process()  # before torch is imported

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

from han_retrieval.data import ExifInfo, read_sentences  # noqa: E402
from han_retrieval.scoring import Tokens  # noqa: E402
from han_retrieval.search import Index, MeanPooling  # noqa: E402
from han_retrieval.search.rows import Encoded, PhotoFile, PhotoRow  # noqa: E402
from han_retrieval.search.settings import Settings, is_index  # noqa: E402
from han_retrieval.search.table import PhotoTable  # noqa: E402
from han_retrieval.search.tables import FIRST, make_folder  # noqa: E402
from han_retrieval.storage.locks import WriterLock  # noqa: E402
from han_retrieval.storage.table import ROWS_A_FILE  # noqa: E402

FOLDER = click.Path(path_type=Path)
_AT_ONCE = 512
_MIXED_AT_ONCE = 64  # whose numbers fit into the cache


@click.group()
def main() -> None:
    """Search among up to a million photos."""


class Draw:
    """Draws photos block by block; a block is the same whatever was drawn before it."""

    def __init__(self, real: Index) -> None:
        self._made_by = real.made_by
        self._pooling = MeanPooling(real.made_by.joint_size)
        self._tokens, self._mask = real.tokens(range(len(real)))

    def block(self, number: int, count: int) -> tuple[Tokens, torch.Tensor, np.ndarray]:
        """The first photos of a block: tokens (count, m, d) as they are stored, mask, pooled vectors (count, e)."""
        real, first = len(self._mask), number * ROWS_A_FILE
        random = np.random.default_rng((0, number))
        pairs, share = random.integers(real, size=(2, ROWS_A_FILE)), random.uniform(0, 1, ROWS_A_FILE)
        own = np.arange(first, first + ROWS_A_FILE)  # the real photos stand for themselves
        pairs, share = np.where(own < real, own, pairs), np.where(own < real, 0, share)
        parts = [
            self._mix(*pairs[:, i : i + _MIXED_AT_ONCE], share[i : i + _MIXED_AT_ONCE])
            for i in range(0, count, _MIXED_AT_ONCE)
        ]
        values, scales, masks, vectors = zip(*parts, strict=True)
        tokens = Tokens(torch.cat(values)[:count], torch.cat(scales)[:count])
        return tokens, torch.cat(masks)[:count], np.concatenate(vectors)[:count]

    def _mix(self, one: np.ndarray, other: np.ndarray, share: np.ndarray) -> tuple[Any, ...]:
        there = self._mask[one] & self._mask[other]
        weights = torch.from_numpy(share.astype(np.float32))[:, None, None]
        mixed = functional.normalize(torch.lerp(self._tokens[one], self._tokens[other], weights), dim=2)
        stored = Tokens.store(mixed * there[:, :, None], self._made_by.storage)
        return stored.values, stored.scale, there, self._pooling.images(mixed, there).numpy().astype(np.float16)


def rows_of(first: int, tokens: Tokens, mask: torch.Tensor, vectors: np.ndarray) -> list[PhotoRow]:
    """Rows of photos without files, taken one every five minutes from 2015 on."""
    days = np.datetime64("2015-01-01T00:00:00") + 300 * np.arange(first, first + len(mask))
    values, scales, there = tokens.values.numpy(), tokens.scale.numpy(), mask.numpy()
    rows = []
    for i, (real, day) in enumerate(zip(there, days.astype(str), strict=True)):
        boxes, name = np.zeros((int(real.sum()), 4), np.float32), f"{first + i:07}"
        encoded = Encoded(224, 224, boxes, None, values[i][real], scales[i][real], vectors[i])
        file = PhotoFile("/photos", f"{name[:4]}/{name}.jpg", 0)
        rows.append(PhotoRow(f"{first + i:032x}", (file,), 0, ExifInfo(day.replace("T", " "), None), encoded))
    return rows


@main.command()
@click.argument("real", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.option("--photos", default=1_000_000, show_default=True)
def draw(real: Path, out: Path, photos: int) -> None:
    """Make an index of made-up photos, block by block; without a vector index."""
    with Index.open(real) as source:
        if not (out / FIRST).exists():
            make_folder(out)
            PhotoTable.create(out / FIRST, source.made_by)
        if not is_index(out):
            Settings(table=FIRST, model=source.settings.model, exact_up_to=photos).write(out)
        with WriterLock(out):
            table, drawn = PhotoTable(out / FIRST), Draw(source)
            started, before = time.perf_counter(), len(table)
            while len(table) < photos:
                number, first = len(table) // ROWS_A_FILE, len(table)
                table.append(rows_of(first, *drawn.block(number, min(ROWS_A_FILE, photos - first))))
                click.echo(f"{len(table):,} photos, {(len(table) - before) / (time.perf_counter() - started):.0f}/s")
            table.tidy(exact_up_to=photos)


@main.command()
@click.argument("real", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.argument("queries", type=FOLDER)
@click.option("--photos", default=1_000_000, show_default=True)
@click.option("--sentences", default=24, show_default=True)
def score(real: Path, out: Path, queries: Path, photos: int, sentences: int) -> None:
    """Score all photos of such an index exactly, block by block, into files (photos, sentences) float32 in OUT."""
    out.mkdir(exist_ok=True)
    with Index.open(real) as source, torch.inference_mode():
        model, drawn = source.load_model(), Draw(source)
        words, word_mask = model.words(choose(queries, sentences))
        text = model.encode_texts(words, word_mask)
        for number in range(-(-photos // ROWS_A_FILE)):
            file = out / f"{number:05}.npy"
            if file.exists():
                continue
            tokens, mask, _ = drawn.block(number, min(ROWS_A_FILE, photos - number * ROWS_A_FILE))
            parts = zip(*(each.split(_AT_ONCE) for each in (tokens.values, tokens.scale, mask)), strict=True)
            scores = [
                model.score(Tokens(values, scale).load(), there, text, word_mask).float().numpy()
                for values, scale, there in parts
            ]
            np.save(out / "part.npy", np.concatenate(scores))
            (out / "part.npy").replace(file)


def choose(queries: Path, count: int) -> list[str]:
    """So many sentences, always the same."""
    return np.random.default_rng(0).permutation(read_sentences(queries))[:count].tolist()


if __name__ == "__main__":
    main()
