"""What heterogeneous attention does in a trained HAN, for right and wrong answers: how sharp it is, how much crosses.

    python -m research.attention MODEL DATASET --features STORE [--split dev] [--captions 500] [--pictures FOLDER]

Captions of the split are ranked against its photos. Of those that find their photo first, and of those that do not, it
shows the first round's attention in the pair of the caption with its own photo, for the latter also with the photo that
came first, and for both with another photo at random. Then the captions are ranked again with one part of the attention
of the trained model closed at a time, such as that from words to regions, so that its share goes to the other part.
With ``--pictures``, the matrices of a few pairs are drawn, words and regions by their names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import click
import numpy as np
import torch
from torch import Tensor

from han_retrieval.data import read_dataset
from han_retrieval.matchers import HAN, PairAlignment
from han_retrieval.regions import RegionStore
from han_retrieval.scoring.api import has_kernel
from han_retrieval.scoring.cpu import single_block
from han_retrieval.text import tokenize
from research.program import run

FOLDER = click.Path(exists=True, path_type=Path)
KINDS = (
    "found: with its photo",
    "not found: with its photo",
    "not found: with the photo that came first",
    "either: with another photo at random",
)
COLUMNS = (
    "words to regions, %",
    "regions to words, %",
    "tokens a word attends to",
    "tokens a region attends to",
    "regions a word is aligned with",
    "score",
)
PARTS = (
    ("words to regions", "text_tables", "own"),
    ("words to words", "text_tables", "other"),
    ("regions to words", "image_tables", "own"),
    ("regions to regions", "image_tables", "other"),
)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=FOLDER)
@click.option("--features", type=FOLDER, required=True)
@click.option("--split", default="dev", show_default=True)
@click.option("--captions", "limit", default=500, show_default=True, help="So many, drawn at random.")
@click.option("--pictures", type=click.Path(file_okay=False, path_type=Path), help="Draw the attention of a few pairs.")
@torch.inference_mode()
def main(model: Path, dataset: Path, features: Path, split: str, limit: int, pictures: Path | None) -> None:
    """Describe the attention of a HAN on the captions of a split."""
    photos, store, han = (
        read_dataset(dataset).split(split).photos,
        RegionStore.open(features),
        HAN.from_pretrained(model),
    )
    if not han.blocks:
        raise click.ClickException(f"{model}: has no block of attention")
    captions = [(place, caption) for place, photo in enumerate(photos) for caption in photo.captions]
    random = np.random.default_rng(0)
    chosen = [captions[i] for i in random.choice(len(captions), min(limit, len(captions)), replace=False)]
    ids, mask = han.words([caption for _, caption in chosen])
    tokens = han.encode_texts(ids, mask)
    regions = store.batch([photo.id for photo in photos])
    images = torch.cat([
        han.encode_images(*of) for of in zip(regions.features.split(256), regions.mask.split(256), strict=True)
    ])  # fmt: skip
    scores = han.score(images, regions.mask, tokens, mask)  # (I, T)

    def pair(place: int, t: int) -> PairAlignment:
        return han.explain_tokens(images[place, regions.mask[place]], ids[t, mask[t]])

    found: dict[str, list[list[float]]] = defaultdict(list)
    examples: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for t, (own, _) in enumerate(chosen):
        first = int(scores[:, t].argmax())
        other = (own + 1 + int(random.integers(len(photos) - 1))) % len(photos)
        kinds = [(KINDS[0], own)] if first == own else [(KINDS[1], own), (KINDS[2], first)]
        for kind, place in [*kinds, (KINDS[3], other)]:
            found[kind].append(describe(pair(place, t)))
            examples[kind].append((place, t))
    click.echo(f"{len(chosen)} captions of {split}, {len(photos)} photos; beta {han.config.attention_temperature:g}")
    click.echo(f"| | pairs | {' | '.join(COLUMNS)} |\n{'|---' * (2 + len(COLUMNS))}|")
    for kind in filter(found.__contains__, KINDS):
        means = np.mean(found[kind], axis=0)
        click.echo(f"| {kind} | {len(found[kind])} | {' | '.join(f'{x:.2f}' for x in means)} |")
    block = han.blocks[0]
    product = block.query.weight.T @ block.key.weight  # logits are beta h' (W_q' W_k) h
    diagonal, norm = product.diagonal().mean(), product.norm() / len(product) ** 0.5
    click.echo(
        f"W_q' W_k, 1 on the diagonal at the start: mean of the diagonal {diagonal:.2f}, norm {norm:.2f} of that"
    )
    owners = np.array([own for own, _ in chosen])
    click.echo("| text to image | R@1 | R@5 | R@10 |\n|---|---|---|---|")
    click.echo(f"| all of it | {recalls(scores.numpy(), owners)} |")
    in_kernels = has_kernel(images, han.blocks) and len(han.blocks) == 1 and han.config.attention_over == "both"
    if not in_kernels:
        click.echo("ways are closed for one block over both sets alone, with compiled kernels", err=True)
    for cut, side, over in PARTS if in_kernels else ():
        with _kept(side, over):
            closed = han.score(images, regions.mask, tokens, mask).numpy()
        click.echo(f"| {cut} closed | {recalls(closed, owners)} |")
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
        for number, kind in enumerate(KINDS):
            for place, t in examples[kind][:2]:
                names = store.read([photos[place].id])[0].labels
                caption = chosen[t][1]
                title = f"{kind}\n{caption}"
                draw(pair(place, t).attention[0], names, tokenize(caption), title, pictures / f"{number}-{t}.png")
        click.echo(f"drew {pictures}", err=True)


def recalls(scores: np.ndarray, owners: np.ndarray) -> str:
    """R@1, R@5 and R@10 in percent of captions (T,) whose photos are ``owners``, from (I, T) scores."""
    rank = (scores >= scores[owners, np.arange(len(owners))]).sum(0)
    return " | ".join(f"{100 * (rank <= k).mean():.1f}" for k in (1, 5, 10))


@contextmanager
def _kept(side: str, over: str) -> Iterator[None]:
    """Meanwhile, attention of the tokens of a side, ``image_tables`` or ``text_tables``, is over that set alone."""
    tables = getattr(single_block, side)
    with patch.object(single_block, side, lambda *args, **options: tables(*args, **{**options, "over": over})):
        yield


def describe(evidence: PairAlignment) -> list[float]:
    """``COLUMNS`` of a pair."""
    attention, m = evidence.attention[0], evidence.alignment.shape[1]  # (s, s), the first m tokens are regions
    to_regions = attention[:, :m].sum(1)
    spread, aligned = _tokens(attention), _tokens(evidence.alignment)
    return [
        100 * float(to_regions[m:].mean()),
        100 * float(1 - to_regions[:m].mean()),
        float(spread[m:].mean()),
        float(spread[:m].mean()),
        float(aligned.mean()),
        evidence.score,
    ]


def _tokens(weights: Tensor) -> Tensor:
    """How many tokens rows of weights are spread over: the exponential of their entropy."""
    return torch.special.entr(weights).sum(-1).exp()


def draw(attention: Tensor, regions: list[str] | None, words: list[str], title: str, picture: Path) -> None:
    """A (s, s) as a picture, its rows who attends, its columns what is attended to."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    m = len(attention) - len(words)
    names = [*(regions or [f"region {i}" for i in range(m)])[:m], *words]
    figure, axes = plt.subplots(figsize=(11, 10), layout="constrained")
    axes.imshow(attention.numpy(), cmap="magma", vmin=0)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    for line in (axes.axhline, axes.axvline):
        line(m - 0.5, color="white", linewidth=0.8)
    axes.set_title(title, fontsize=9)
    figure.savefig(picture, dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    run(main)
