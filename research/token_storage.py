"""What it costs in recall to keep the tokens of photos in 2 or 1 bytes a number.

    python -m research.token_storage MODEL DATASET --features FEATURES [--split dev] [--bfloat16-products]

The whole evaluation, once for each way of storing the photos' tokens; captions stay as they are.
"""

from __future__ import annotations

from pathlib import Path

import click

from han_retrieval.process import tune_process

tune_process()  # before torch is imported

from torch import Tensor  # noqa: E402

from han_retrieval.data import read_dataset  # noqa: E402
from han_retrieval.evaluation import Evaluation, evaluate  # noqa: E402
from han_retrieval.matchers import HAN  # noqa: E402
from han_retrieval.regions import RegionStore  # noqa: E402
from han_retrieval.scoring import (  # noqa: E402
    STORAGES,
    Tokens,
    api,
)
from research.program import run  # noqa: E402

FOLDER = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("model")
@click.argument("dataset", type=FOLDER)
@click.option("--features", type=FOLDER, required=True)
@click.option("--split", default="dev", show_default=True)
@click.option("--bfloat16-products", is_flag=True, help="Also products in bfloat16, though the processor has none.")
def main(model: str, dataset: Path, features: Path, split: str, bfloat16_products: bool) -> None:
    """Print the recalls of each way of storing."""
    photos = read_dataset(dataset).split(split)
    store = RegionStore.open(features)
    click.echo(f"{'tokens':<20} {'bytes':>5}   image to text       text to image       rSum")
    for storage in STORAGES:
        han = HAN.from_pretrained(model)
        encode = han.encode_images

        def rounded(regions: Tensor, mask: Tensor, storage: str = storage, encode=encode) -> Tensor:
            return Tokens.store(encode(regions, mask), storage).load()

        han.encode_images = rounded  # type: ignore[method-assign]
        found = evaluate(han, photos, store)
        _print(storage, {"int8": 1, "float32": 4}.get(storage, 2), found)
    if bfloat16_products:
        api.prefers_bfloat16 = lambda _: True
        found = evaluate(HAN.from_pretrained(model), photos, store, precision="bfloat16")
        _print("bfloat16 products", 4, found)


def _print(name: str, size: int, found: Evaluation) -> None:
    recalls = [
        "  ".join(f"{found.metrics[side][f'R@{k}']:5.1f}" for k in (1, 5, 10))
        for side in ("image_to_text", "text_to_image")
    ]
    click.echo(f"{name:<20} {size:>5}   {recalls[0]}   {recalls[1]}   {found.rsum:.2f}")


if __name__ == "__main__":
    run(main)
