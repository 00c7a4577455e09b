"""How often a search is answered: for what is there, for what was taken out, and for what belongs to nothing there.

    python -m research.refusals MODEL DATASET --features STORE [--other DATASET] [--read]

Captions of the dev split search its photos, or random parts of them: with their own photo, without it, with their
words shuffled. So do captions of the training split of OTHER, and sentences that are put together from short lists of
words in six languages. A search is answered unless it says that nothing matches. Only its own photo is right for a
caption, so take a dataset in which hardly any caption stands under several photos.

With --read, the same captions also search photos by what people wrote about them: a photo's score is the greatest
cosine between the vectors that the language model, before it was trained along, has of the caption and of the photo's
other captions. A search is then answered from the score on that leaves 95 % of those that find their photo. It is what
a model could do that sees all that people say of a photo.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch
from torch.nn import functional

from han_retrieval.data import read_dataset
from han_retrieval.errors import HANError
from han_retrieval.evaluation.scores import encode_photos, score_all
from han_retrieval.matchers import AligningMatcher, load_aligning_matcher
from han_retrieval.regions import RegionStore
from han_retrieval.search.calibration import SHOWN
from han_retrieval.search.unknown import reads_most
from han_retrieval.text.encoder import make_text_encoder
from han_retrieval.text.language_model import LanguageModel
from research.calibration import dev_captions, read_calibration
from research.program import run

FOLDER = click.Path(exists=True, path_type=Path)
SIZES = (100, 300)
FINDABLE = 0.95  # of the searches that find their photo, what --read answers
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
@click.option("--read", is_flag=True, help="Score photos by their other captions, too.")
def main(model: Path, dataset: Path, features: Path, other: Path | None, sentences: int, read: bool) -> None:
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
        known = np.array([reads_most(matcher, sentence) for sentence in asked])
        scores = np.zeros((len(ids), len(asked)), np.float32)
        if known.any():
            sentences = [str(sentence) for sentence in np.array(asked)[known]]
            scores[:, known] = score_all(matcher, encoded, sentences, photo_ids=ids, progress=True)
        return scores, known

    def answered(best: np.ndarray, readable: np.ndarray, size: int) -> float:
        return float((calibration.passes(best, among=size) & readable).mean())

    sizes = [size for size in SIZES if size < len(ids)] + [len(ids)]
    rows: dict[str, list[float]] = {}
    there, gone = f"captions whose photo is among the first {SHOWN}", "captions whose photo was taken out"
    scores, readable = scored(captions)
    searches = [Searches.of(scores, own, size, random) for size in sizes]
    rows[there] = [answered(of.best[of.found], readable[of.found], of.size) for of in searches]
    rows[gone] = [answered(of.without, readable, of.size) for of in searches]
    if read:
        written = {photo.id: photo.captions for photo in read_dataset(dataset).split("dev").photos}
        scores = read_scores(matcher, [written[photo_id] for photo_id in ids], captions)
        searches = [Searches.of(scores, own, size, random) for size in sizes]
        limits = [np.quantile(of.best[of.found], 1 - FINDABLE) for of in searches]
        pairs = list(zip(searches, limits, strict=True))
        rows[f"read: {there}"] = [float((of.best[of.found] >= limit).mean()) for of, limit in pairs]
        rows[f"read: {gone}"] = [float((of.without >= limit).mean()) for of, limit in pairs]
    for kind, asked in strange.items():
        scores, readable = scored(asked)
        parts = [random.permutation(len(ids))[:size] for size in sizes]
        rows[kind] = [answered(scores[part].max(0), readable, len(part)) for part in parts]
    click.echo(f"| answered, % | {' | '.join(f'{size:,} photos' for size in sizes)} |\n|---|{'---|' * len(sizes)}")
    for kind, shares in rows.items():
        click.echo(f"| {kind} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |")


class Searches(NamedTuple):
    """Searches among random photos, each with the photo that is meant and without it.

    Attributes:
        size: How many photos are searched.
        best: (T,) best scores, with it.
        found: (T,) whether it is among the first that are shown.
        without: (T,) best scores among as many other photos.
    """

    size: int
    best: np.ndarray
    found: np.ndarray
    without: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, own: np.ndarray, size: int, random: np.random.Generator) -> Searches:
        """Searches among ``size`` photos by scores (I, T) of all, where ``own`` (T,) are the rows that are meant."""
        best, found, without = np.empty(len(own)), np.zeros(len(own), bool), np.empty(len(own))
        for column, row in enumerate(own):
            others = random.permutation(np.delete(np.arange(len(scores)), row))
            with_it = scores[np.append(others[: size - 1], row), column]
            best[column], without[column] = with_it.max(), scores[others[:size], column].max()
            found[column] = (with_it > scores[row, column]).sum() < SHOWN
        return cls(size, best, found, without)


def read_scores(matcher: AligningMatcher, written: Sequence[Sequence[str]], captions: Sequence[str]) -> np.ndarray:
    """(I, T) greatest cosines of sentence vectors, of captions and what is written about each photo, without itself."""
    encoder = _as_it_was(matcher)
    asked = _vectors(matcher, encoder, captions)
    scores = np.empty((len(written), len(captions)), np.float32)
    for row, texts in enumerate(written):
        is_other = np.array([[text != caption for caption in captions] for text in texts])
        scores[row] = np.where(is_other, _vectors(matcher, encoder, texts) @ asked.T, -1).max(0)
    return scores


def _as_it_was(matcher: AligningMatcher) -> LanguageModel:
    """The matcher's language model before it was trained along."""
    encoder = make_text_encoder(
        matcher.config.text_encoder, matcher.config.model_copy(update={"text_backbone": "frozen"})
    )
    if not isinstance(encoder, LanguageModel):
        raise HANError("--read needs a model whose text encoder is a language model, such as default")
    return encoder.eval()


@torch.inference_mode()
def _vectors(matcher: AligningMatcher, encoder: LanguageModel, sentences: Sequence[str]) -> np.ndarray:
    """The language model's own vectors (T, P) of sentences, of length 1."""
    parts = [sentences[first : first + 100] for first in range(0, len(sentences), 100)]
    vectors = torch.cat([encoder.pooled(*matcher.words(part)) for part in parts])
    return functional.normalize(vectors, dim=1).numpy()


if __name__ == "__main__":
    run(main)
