"""From nothing to a trained matcher and its evidence, on scenes that the program draws.

python -m research.scenes.demo [--out FOLDER] [--seed N] [--seconds S]
"""

from __future__ import annotations

import math
import shlex
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import torch

from han_retrieval.data import CaptionedPhotos, read_dataset, read_entities
from han_retrieval.errors import HANError
from han_retrieval.evaluation import Evaluation, Grounding, Relevance, evaluate, ground
from han_retrieval.evidence import PageTable, PhotoResult, QueryResults, evidence_from_regions, evidence_page
from han_retrieval.files import write_whole
from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.regions import RegionStore, extract
from han_retrieval.training import TrainingConfig, train
from research.scenes.detector import SceneDetector
from research.scenes.own_folder import make_own_folder
from research.scenes.write import write_scenes

COMMAND = "python -m research.scenes.demo"
TRAIN, DEV, REGIONS = 1500, 200, 14
SENTENCE = "a yellow ball next to a cup"
AFTER_TRAINING = 15.0  # seconds that evaluation, grounding and drawing are given
ANSWERS = 4
RECALLS = (1, 5, 10)


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("train-demo"), show_default=True, help="A folder of its own."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the scenes and the training."
)
@click.option(
    "--seconds", type=click.FloatRange(min=30), default=110.0, show_default=True, help="About how long to take."
)
def main(out: Path, seed: int, seconds: float) -> None:
    """Draw scenes with captions, train a small HAN on them, evaluate it, and answer two queries with their evidence.

    OUT is made, or replaced if an earlier demo made it. In it are the scenes, the region store and the model of the
    ordinary verbs, two evidence pictures and a page that opens without a server.
    """
    started = time.monotonic()
    make_own_folder(out, command=COMMAND, parts=("scenes", "features", "model"))
    _say(f"1/5 drawing {TRAIN + DEV:,} scenes of coloured things, with captions and the boxes of their phrases")
    write_scenes(out / "scenes", train=TRAIN, dev=DEV, seed=seed, workers=2, progress=True)
    photos = read_dataset(out / "scenes")
    _say(f"2/5 finding the regions of {len(photos):,} photos ({photos.caption_count:,} captions)")
    extract(photos, SceneDetector(regions=REGIONS), out / "features", batch_size=32, progress=True)
    store = RegionStore.open(out / "features")
    config = _config(seed, photos, store, seconds=seconds - AFTER_TRAINING - (time.monotonic() - started))
    _say(f"3/5 training for {config.epochs} epochs")
    train(
        config,
        photos,
        store,
        out / "model",
        command=shlex.join(["python", "-m", "research.scenes.demo", *sys.argv[1:]]),
    )
    model = HAN.from_pretrained(out / "model")
    _say("4/5 ranking the dev photos and captions, and comparing the evidence with the annotations")
    dev = photos.split("dev")
    found = evaluate(model, dev, store, progress=False)
    annotations = read_entities(out / "scenes" / "entities.jsonl")
    grounded = ground(model, annotations, store, ids=[photo.id for photo in dev.photos])
    _say("5/5 answering two queries")
    queries = [_answer(model, store, dev, sentence) for sentence in (_longest_caption(dev), SENTENCE)]
    tables = _recall_table(found), _grounding_table(grounded)
    _write(out, queries, tables, minutes=(time.monotonic() - started) / 60)
    click.echo("\n\n".join([*map(_plain, tables), *map(_told, queries), _ending(out)]))
    _say(f"done in {time.monotonic() - started:.0f} s")


def _say(line: str) -> None:
    click.echo(line, err=True)


def _config(seed: int, photos: CaptionedPhotos, store: RegionStore, *, seconds: float) -> TrainingConfig:
    """As many epochs as fit into the seconds, by the time that a few steps take."""
    config = TrainingConfig(
        seed=seed,
        epochs=1,
        batch_size=50,
        learning_rate=2e-3,
        warm_up_steps=20,
        ema_decay=0.98,
        dev_photos=100,
        keep="last",
        model=HANConfig(word_size=64, joint_size=128),
    )
    few = photos.only([photo.id for photo in photos.split("train").photos[:200]])
    with tempfile.TemporaryDirectory() as folder:
        trial = train(config.model_copy(update={"dev_split": ""}), few, store, Path(folder) / "trial", progress=False)
    steps = photos.split("train").caption_count / config.batch_size + 4  # an epoch's, and the watching after it
    epochs = int(seconds / (steps * trial.seconds / trial.steps))
    return config.model_copy(update={"epochs": min(max(epochs, 2), 10)})


def _longest_caption(photos: CaptionedPhotos) -> str:
    """The first of the longest captions: it names most things."""
    return max(
        (caption for photo in photos.photos for caption in photo.captions), key=lambda caption: len(caption.split())
    )


def _answer(model: HAN, store: RegionStore, photos: CaptionedPhotos, sentence: str) -> QueryResults:
    """The best photos for a sentence, and where the photo stands that it was written about, if it was."""
    batch = store.batch([photo.id for photo in photos.photos])
    with torch.no_grad():
        scores = model.similarity(batch.features, batch.mask, *model.words([sentence]))[:, 0].cpu().numpy()
    order = np.argsort(-scores, kind="stable")
    own = [i for i, photo in enumerate(photos.photos) if sentence in photo.captions]
    answers = []
    for i in order[:ANSWERS]:
        photo = photos.photos[i]
        assert photo.path is not None  # scenes have files
        evidence = evidence_from_regions(model, store.read([photo.id])[0], sentence, photo=photo.path)
        answers.append(PhotoResult(photo.id, evidence, "its own photo" if i in own else ""))
    ranks = [int(np.flatnonzero(order == i)[0]) + 1 for i in own]
    said = f"A caption; its own photo comes {_ordinal(ranks[0])}" if ranks else "A sentence that is no photo's caption"
    return QueryResults(sentence, answers, f"{said} among {len(photos):,} photos.")


def _ordinal(rank: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(rank, f"at place {rank}")


def _recall_table(found: Evaluation) -> PageTable:
    rows = [
        [way.replace("_", " "), *(f"{found.metrics[way][f'R@{k}']:.1f}" for k in RECALLS)]
        for way in ("image_to_text", "text_to_image")
    ]
    chances = _chance(found.relevance)
    rows += [[f"{way}, by chance", *(f"{share:.1f}" for share in shares)] for way, shares in chances.items()]
    title = f"Recall among {found.counts['images']:,} photos and {found.counts['captions']:,} captions, percent"
    return PageTable(title, ["", *(f"R@{k}" for k in RECALLS)], rows)


def _chance(relevance: Relevance) -> dict[str, list[float]]:
    """R@K of a ranking at random, in percent: the chance that one of the query's own is among the first K."""
    images, captions = len(relevance.image_ids), len(relevance.caption_ids)
    own = np.bincount(relevance.caption_image, minlength=images).tolist()
    firsts = [min(k, captions) for k in RECALLS]
    missed = [np.mean([math.comb(captions - n, k) / math.comb(captions, k) for n in own if n]) for k in firsts]
    return {
        "image to text": [100 * (1 - float(share)) for share in missed],
        "text to image": [100 * min(1, k / images) for k in RECALLS],
    }


def _grounding_table(grounded: Grounding) -> PageTable:
    guesses = {"HAN": "model", "random region": "random", "centre": "centre", "best region": "best"}
    rows = [
        [name, *(f"{grounded.overall[measure][guess]:.1f}" for guess in guesses.values())]
        for name, measure in (("centre of the region in the box", "pointing"), ("overlap (IoU) at least 0.5", "iou"))
    ]
    return PageTable(f"Grounding of {grounded.counts['phrases']:,} phrases, percent", ["", *guesses], rows)


def _plain(table: PageTable) -> str:
    """The table for a terminal."""
    rows = [table.columns, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    cells = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join([table.title, *map("  ".join, cells)])


def _told(query: QueryResults) -> str:
    found = ", ".join(f"{answer.name} ({answer.evidence.score:.3f})" for answer in query.results)
    return f'"{query.sentence}"\n{query.note}\n{found}'


def _write(out: Path, queries: list[QueryResults], tables: tuple[PageTable, ...], *, minutes: float) -> None:
    for number, query in enumerate(queries, start=1):
        query.results[0].evidence.draw(out / f"evidence-{number}.png")
    intro = (
        f"A small HAN, trained on {TRAIN:,} scenes that the program drew: {minutes:.1f} minutes from nothing to this "
        "page. Point at a word to see its regions, at a region to see its words."
    )
    page = evidence_page("Words and regions", queries, intro=intro, tables=tables, commands=_commands(out))
    write_whole(out / "index.html", page)


def _commands(out: Path) -> list[str]:
    scenes, features, model = (shlex.quote(str(out / part)) for part in ("scenes", "features", "model"))
    return [
        f"han evaluate {model} {scenes} --features {features} --split dev --grounding {scenes}/entities.jsonl",
        f"han train {scenes} --features {features} --out longer --set epochs=30 --set model.joint_size=256",
    ]


def _ending(out: Path) -> str:
    pictures = " and ".join(str(out / f"evidence-{number}.png") for number in (1, 2))
    return "\n".join(
        [f"The page: {(out / 'index.html').absolute().as_uri()}", f"Pictures: {pictures}", "To go on:"]
        + [f"  {command}" for command in _commands(out)]
    )


if __name__ == "__main__":
    try:
        main()
    except HANError as error:
        raise SystemExit(f"demo: error: {error}") from None
