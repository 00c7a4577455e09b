"""What recall costs where the model never saw a word: its embedding learned, predicted from word vectors, or unknown.

    python -m research.rare_words MODEL DATASET --features STORE

It takes the words of dev captions that occur at least ``--least`` and at most ``--most`` times in the training
captions, treats each as if no training caption had it, and ranks the dev photos for the captions with it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import click
import numpy as np
import torch

from han_retrieval.data import CaptionedPhotos, read_dataset
from han_retrieval.matchers import AligningMatcher, load_aligning_matcher
from han_retrieval.regions import RegionStore
from han_retrieval.text import UNK, Vocabulary, expand_vocabulary, tokenize
from research.program import run

FOLDER = click.Path(exists=True, path_type=Path)
WAYS = ("learned", "predicted", "unknown")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=FOLDER)
@click.option("--features", type=FOLDER, required=True)
@click.option("--vectors", default="glove-6b-50d", show_default=True)
@click.option("--least", default=5, show_default=True)
@click.option("--most", default=50, show_default=True)
@click.option("--split", default="dev", show_default=True)
@click.option("--captions", "limit", default=600, show_default=True, help="So many, drawn at random.")
def main(
    model: Path, dataset: Path, features: Path, vectors: str, least: int, most: int, split: str, limit: int
) -> None:
    """Compare the three ways on the captions of a split."""
    photos, store, matcher = read_dataset(dataset), RegionStore.open(features), load_aligning_matcher(model)
    counts = Counter(word for photo in photos.split("train").photos for c in photo.captions for word in tokenize(c))
    seen = [word for word, count in counts.items() if count >= 2]
    queries = _queries(photos.split(split), {word for word in seen if least <= counts[word] <= most}, limit)
    if not hasattr(matcher.text_encoder, "embedding"):
        raise click.ClickException(f"{model}: reads words by a language model; give a model with word embeddings")
    embedding = matcher.text_encoder.embedding.weight.detach()
    predicted = _predict(matcher, embedding.numpy(), seen, [word for _, _, word in queries], vectors)
    queries = [query for query in queries if query[2] in predicted]
    ids = [photo.id for photo in photos.split(split).photos]
    ranks = {way: np.array(_ranks(matcher, store, ids, queries, predicted, way)) for way in WAYS}
    words = len({word for _, _, word in queries})
    click.echo(f"{len(queries)} captions with one of {words} words, {len(ids)} photos of {split}")
    click.echo("| the word is | R@1 | R@5 | R@10 | median rank |\n|---|---|---|---|---|")
    for way, found in ranks.items():
        recalls = " | ".join(f"{100 * (found <= k).mean():.1f}" for k in (1, 5, 10))
        click.echo(f"| {way} | {recalls} | {np.median(found):.0f} |")


def _queries(photos: CaptionedPhotos, words: set[str], limit: int) -> list[tuple[str, str, str]]:
    """Captions in which one of the words occurs once: (photo, caption, word), a random choice."""
    found = []
    for photo in photos.photos:
        for caption in photo.captions:
            tokens = tokenize(caption)
            rare = [word for word in dict.fromkeys(tokens) if word in words and tokens.count(word) == 1]
            found += [(photo.id, caption, word) for word in rare[:1]]
    order = np.random.default_rng(0).permutation(len(found))[:limit]
    return [found[i] for i in order]


def _predict(
    model: AligningMatcher, embedding: np.ndarray, seen: list[str], words: list[str], vectors: str
) -> dict[str, torch.Tensor]:
    """Each word's embedding, predicted by the map that is fitted to the other words of the training captions."""
    assert model.vocabulary is not None
    place = {word: i for i, word in enumerate(model.vocabulary.words)}
    parts = defaultdict(list)  # a map is fitted without the words of each part
    for i, word in enumerate(dict.fromkeys(words)):
        parts[i % 5].append(word)
    predicted = {}
    for part in parts.values():
        kept = [word for word in seen if word in place and word not in set(part)]
        vocabulary = Vocabulary((*model.vocabulary.words[:4], *kept))
        rows = np.concatenate([embedding[:4], embedding[[place[word] for word in kept]]])
        extended, more = expand_vocabulary(vocabulary, rows, source=vectors, count=100_000)
        where = {word: i for i, word in enumerate(extended.words)}
        predicted |= {word: torch.from_numpy(more[where[word]]) for word in part if word in where}
    return predicted


@torch.no_grad()
def _ranks(
    model: AligningMatcher,
    store: RegionStore,
    ids: list[str],
    queries: list[tuple[str, str, str]],
    predicted: dict[str, torch.Tensor],
    way: str,
) -> list[int]:
    """The rank of each caption's own photo when the model knows the caption's rare word in this way."""
    assert model.vocabulary is not None
    batch = store.batch(ids)
    images = model.encode_images(batch.features, batch.mask)
    place, table = {photo: i for i, photo in enumerate(ids)}, model.text_encoder.embedding.weight
    texts = []
    for _, caption, word in queries:
        words, mask = model.words([caption])
        at, _ = model.encode_sentence(caption).spans[tokenize(caption).index(word)]
        row = int(words[0, at])
        before = table[row].clone()
        if way == "predicted":
            table[row] = predicted[word]
        elif way == "unknown":
            words[0, at] = UNK
        texts.append(model.encode_texts(words, mask)[0])
        table[row] = before
    tokens = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    mask = torch.arange(tokens.shape[1]) < torch.tensor([len(text) for text in texts]).unsqueeze(1)
    scores = model.score(images, batch.mask, tokens, mask)  # (I, T)
    own = scores[[place[photo] for photo, _, _ in queries], range(len(queries))]
    return (scores >= own).sum(0).tolist()


if __name__ == "__main__":
    run(main)
