"""How often a search is answered: for what is there, for what was taken out, and for what belongs to nothing there.

    python -m research.refusals MODEL DATASET --features STORE [--other DATASET]

Captions of the dev split search its photos, or random parts of them: with their own photo, without it, with their
words shuffled. So do captions of the training split of OTHER, and sentences that are put together from short lists of
words in six languages. A search is answered unless it says that nothing matches.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import click
import numpy as np

from han_retrieval.data import read_dataset
from han_retrieval.evaluation.scores import encode_photos, score_all
from han_retrieval.matchers import load_aligning_matcher
from han_retrieval.regions import RegionStore
from han_retrieval.search.calibration import SHOWN
from han_retrieval.search.unknown import is_mostly_unknown
from research.calibration import dev_captions, read_calibration

FOLDER = click.Path(exists=True, path_type=Path)
SIZES = (100, 300)
LANGUAGES = {
    "German": (
        ("ein Hund", "zwei Kinder", "eine Frau", "der Mann", "ein Junge", "eine Katze"),
        ("läuft", "spielt", "steht", "springt", "schwimmt", "wartet"),
        ("im Schnee", "am Strand", "auf der Straße", "im Wasser", "vor einem Haus", "neben dem Auto"),
    ),
    "French": (
        ("un chien", "deux enfants", "une femme", "un homme", "un garçon", "un chat"),
        ("court", "joue", "saute", "nage", "attend", "marche"),
        ("dans la neige", "sur la plage", "dans la rue", "dans l'eau", "devant une maison", "avec un ballon"),
    ),
    "Spanish": (
        ("un perro", "dos niños", "una mujer", "un hombre", "una niña", "un gato"),
        ("corre", "juega", "salta", "nada", "espera", "camina"),
        ("en la nieve", "en la playa", "en la calle", "en el agua", "delante de una casa", "con una pelota"),
    ),
    "Italian": (
        ("un cane", "due bambini", "una donna", "un uomo", "una ragazza", "un gatto"),
        ("corre", "gioca", "salta", "nuota", "aspetta", "cammina"),
        ("nella neve", "sulla spiaggia", "per strada", "nell'acqua", "davanti a una casa", "con una palla"),
    ),
    "Dutch": (
        ("een hond", "twee kinderen", "een vrouw", "een man", "een meisje", "een kat"),
        ("rent", "speelt", "springt", "zwemt", "wacht", "loopt"),
        ("in de sneeuw", "op het strand", "op straat", "in het water", "voor een huis", "met een bal"),
    ),
    "Portuguese": (
        ("um cachorro", "duas crianças", "uma mulher", "um homem", "uma menina", "um gato"),
        ("corre", "brinca", "pula", "nada", "espera", "anda"),
        ("na neve", "na praia", "na rua", "na água", "em frente a uma casa", "com uma bola"),
    ),
}


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=FOLDER)
@click.option("--features", type=FOLDER, required=True)
@click.option("--other", type=FOLDER, help="A dataset whose captions say nothing of these photos.")
@click.option("--sentences", default=1000, show_default=True, help="Of each kind, at most.")
def main(model: Path, dataset: Path, features: Path, other: Path | None, sentences: int) -> None:
    """Print a table: kinds of sentences, by the number of photos searched."""
    calibration, random = read_calibration(model), np.random.default_rng(0)
    ids, chosen = dev_captions(dataset, sentences, random)
    captions, own = [caption for _, caption in chosen], np.array([place for place, _ in chosen])
    foreign = [" ".join(parts) for lists in LANGUAGES.values() for parts in itertools.product(*lists)]
    strange = {
        "captions, their words shuffled": [" ".join(random.permutation(s.split())) for s in captions],
        "sentences in six other languages": list(random.permutation(foreign)[:sentences]),
    }
    if other is not None:
        every = [caption for photo in read_dataset(other).split("train").photos for caption in photo.captions]
        strange[f"captions of {other.resolve().name}"] = list(random.permutation(sorted(set(every)))[:sentences])
    matcher = load_aligning_matcher(model)
    encoded = encode_photos(matcher, RegionStore.open(features), ids)

    def scored(asked: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """(I, T) scores of all photos, and (T,) whether the model knows most of the sentence; else a score is 0."""
        known = np.array([matcher.reads(sentence) and not is_mostly_unknown(matcher, sentence) for sentence in asked])
        scores = np.zeros((len(ids), len(asked)), np.float32)
        if known.any():
            sentences = [str(sentence) for sentence in np.array(asked)[known]]
            scores[:, known] = score_all(matcher, encoded, sentences, photo_ids=ids, progress=True)
        return scores, known

    def answered(best: np.ndarray, readable: np.ndarray, size: int) -> float:
        return float((calibration.passes(best, among=size) & readable).mean())

    sizes = [size for size in SIZES if size < len(ids)] + [len(ids)]
    rows: dict[str, list[float]] = {}
    scores, readable = scored(captions)
    there, gone = [], []
    for size in sizes:
        found, without = np.zeros(len(own), bool), np.empty(len(own))
        best = np.empty(len(own))
        for column, row in enumerate(own):
            others = random.permutation(np.delete(np.arange(len(ids)), row))
            with_it = scores[np.append(others[: size - 1], row), column]
            best[column], without[column] = with_it.max(), scores[others[:size], column].max()
            found[column] = (with_it > scores[row, column]).sum() < SHOWN
        there.append(answered(best[found], readable[found], size))
        gone.append(answered(without, readable, size))
    rows[f"captions whose photo is among the first {SHOWN}"], rows["captions whose photo was taken out"] = there, gone
    for kind, asked in strange.items():
        scores, readable = scored(asked)
        parts = [random.permutation(len(ids))[:size] for size in sizes]
        rows[kind] = [answered(scores[part].max(0), readable, len(part)) for part in parts]
    click.echo(f"| answered, % | {' | '.join(f'{size:,} photos' for size in sizes)} |\n|---|{'---|' * len(sizes)}")
    for kind, shares in rows.items():
        click.echo(f"| {kind} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |")


if __name__ == "__main__":
    main()
