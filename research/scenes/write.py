"""Write a dataset of scenes: photos, captions, and annotations of phrases with their boxes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from han_retrieval.errors import DataError
from research.scenes.captions import Caption, captions
from research.scenes.compose import Scene, compose
from research.scenes.render import render
from research.scenes.things import KINDS

_SPLITS = ("train", "dev")
Row = dict[str, Any]


def write_scenes(
    folder: str | Path, *, train: int, dev: int, seed: int = 0, workers: int = 1, progress: bool = False
) -> None:
    """Write captioned photos of scenes, with the boxes of their phrases.

    A scene depends on the seed, its split and its number alone: the same seed gives the same bytes, and a larger
    dataset begins with the smaller one.

    Args:
        folder: Where ``train/*.jpg``, ``dev/*.jpg``, ``metadata.jsonl`` (file_name, captions, split) and
            ``entities.jsonl`` (as ``read_entities`` reads it) go. Files of these names are replaced.
        train, dev: Photos in each split.
        seed: Of everything.
        workers: Threads that draw.
        progress: Show a progress bar on standard error.

    Raises:
        DataError: The folder cannot be written.
    """
    folder = Path(folder)
    names = [(split, number) for split, count in zip(_SPLITS, (train, dev), strict=True) for number in range(count)]
    rows: list[tuple[Row, Row]] = []
    try:
        for split in _SPLITS:
            (folder / split).mkdir(parents=True, exist_ok=True)
            for old in (folder / split).glob("[0-9][0-9][0-9][0-9][0-9].jpg"):
                old.unlink()
        with (
            ThreadPoolExecutor(workers) as pool,
            tqdm(total=len(names), desc="drawing scenes", unit="photo", disable=not progress) as bar,
        ):
            for row in pool.map(lambda name: _write_one(folder, name[0], name[1], seed), names):
                rows.append(row)
                bar.update()
        _write_lines(folder / "metadata.jsonl", [row for row, _ in rows])
        _write_lines(folder / "entities.jsonl", [annotations for _, annotations in rows])
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be written ({error.strerror})") from None


def _write_one(folder: Path, split: str, number: int, seed: int) -> tuple[Row, Row]:
    """Draws one scene into its file; its lines for the two tables."""
    rng = np.random.default_rng([seed, _SPLITS.index(split), number])
    scene = compose(rng)
    sentences = captions(scene, rng)
    name = f"{split}/{number:05d}.jpg"
    render(scene, rng).save(folder / name, quality=92)
    return {"file_name": name, "captions": [s.text() for s in sentences], "split": split}, _entities(
        name, scene, sentences
    )


def _entities(name: str, scene: Scene, sentences: list[Caption]) -> Row:
    """The annotations of one photo: chain "k" is its k-th thing from 1, the one after the last is its setting."""
    place = str(len(scene.things) + 1)
    types = [KINDS[thing.kind].type for thing in scene.things] + ["scene"]
    return {
        "file": name,
        "width": scene.width,
        "height": scene.height,
        "boxes": [
            {"box": box, "chains": [str(i)]} for i, thing in enumerate(scene.things, start=1) for box in thing.seen
        ],
        "unboxed": [{"chains": [place], "scene": True}],
        "sentences": [
            {
                "tokens": sentence.tokens,
                "phrases": [
                    {
                        "start": start,
                        "end": end,
                        "chain": str(thing + 1) if thing >= 0 else place,
                        "types": [types[thing]],
                    }
                    for start, end, thing in sentence.phrases
                ],
            }
            for sentence in sentences
        ],
    }


def _write_lines(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
