"""How fast pairs are scored: the engine, the plain forward, a peer's loop, and the limit of this machine, in one run.

    python benchmarks/scoring.py [--quick] [--json FILE] [--picture FILE]

Each section runs in a process of its own, in which the rate of a large matrix product is measured just before and just
after; the greater one counts. The *limit* is 6 m n d multiply-adds a pair (valid words only) at that rate, 3 m n d
where attention is one-way. The *reference* is ``backend="reference"``, the d-wide forward of the formulas, a caption
without padding at a time over a batch of images, in float32 with freed memory kept, on a few captions whose lengths
stand for all; *cached* is ``cached_forward.py`` on the same; *plain torch* is the engine without its compiled kernels.
Products in bfloat16 have a limit of their own, at the rate of such a product. Times are medians after a warm-up, but
for a million pairs and more in the engine, which are scored once. Lengths of captions are those of Flickr8k's.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import click

from han_retrieval.process import tune_process

tune_process()  # before torch is imported

import torch  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))

from cached_forward import cached_forward  # noqa: E402
from han_retrieval.losses import soft_max_triplet_loss  # noqa: E402
from han_retrieval.matchers.han import pool  # noqa: E402
from han_retrieval.scoring import STORAGES, Matching, api, score_all_pairs  # noqa: E402
from han_retrieval.scoring.api import prefers_bfloat16  # noqa: E402
from pairs import REGIONS, Setting, product_rate, seconds  # noqa: E402
from scan_loop import scan_loop  # noqa: E402

STEPS_AN_EPOCH = 234  # of Flickr8k's 30,000 captions, 128 at a time

MEAN = partial(pool, pooling="mean", temperature=1.0)

Figures = dict[str, Any]


@contextmanager
def plain_torch() -> Iterator[None]:
    """Without the compiled kernels: what they are worth."""
    with mock.patch.object(api, "has_kernel", return_value=False):
        yield


def all_pairs(
    *, images: int, texts: int, d: int, blocks: int = 1, alignment: str = "words", references: int = 5, quick: bool
) -> Figures:
    """The engine against the reference on all pairs, and against projections that are cached."""
    rate = product_rate()
    setting = Setting(images, texts, d=d, blocks=blocks, alignment=alignment)
    figures: Figures = {"pairs": images * texts, "words a caption": round(setting.words, 2)}
    with torch.inference_mode():
        setting.score(16, slice(64))
        engine = seconds(setting.score, 1 if quick or images * texts > 10**6 else 3, warm=False)
        memory = setting.memory()
        pairs, some = images * texts / engine, setting.few(references)
        ways = {"reference": partial(setting.score, texts=some, backend="reference")}
        if blocks == 1 and alignment == "words":
            ways["cached"] = lambda count: cached_forward(
                setting.model, setting.images[:count], setting.texts[some], setting.lengths[some]
            )
        figures["engine, pairs/s"] = round(pairs, 1)
        if prefers_bfloat16(torch.device("cpu")) and blocks == 1:
            coarse = partial(setting.score, precision="bfloat16")
            time = seconds(coarse, 1, warm=False)
            coarse_rate = product_rate(torch.bfloat16)
            figures["engine with products in bfloat16, pairs/s"] = round(images * texts / time, 1)
            figures["GFLOP/s of a large product in bfloat16"] = round(coarse_rate / 1e9, 1)
            share = images * texts / time * setting.flops / coarse_rate
            figures["share of the limit in bfloat16"] = round(share, 3)
            difference = (coarse(64, some) - setting.score(64, some)).abs().max()
            figures["greatest difference of these scores"] = float(difference)
        with plain_torch():
            part = min(images, 256), slice(min(texts, 512))
            plain = part[0] * part[1].stop / seconds(partial(setting.score, *part), 1 if quick else 3)
            figures["plain torch, pairs/s"] = round(plain, 1)
            figures["ratio to plain torch"] = round(pairs / plain, 1)
        for name, way in ways.items():
            # The faster of two ways of cutting the images.
            least = min(
                seconds(lambda way=way, count=count: way(count), 3) / count
                for count in {min(images, 128), min(images, 512)}
            )
            figures[f"{name}, pairs/s"] = round(references / least, 1)
            figures[f"ratio to {name}"] = round(pairs * least / references, 1)
            figures[f"greatest difference to {name}"] = float((way(64) - setting.score(64, some)).abs().max())
    rate = max(rate, product_rate())
    return figures | {
        "words a caption of these": round(float(setting.lengths[some].float().mean()), 2),
        "GFLOP/s of a large product": round(rate / 1e9, 1),
        **({"share of the limit": round(pairs * setting.flops / rate, 3)} if blocks == 1 else {}),
        "seconds": round(engine, 2),
        "memory beyond the inputs, MB": memory,
    }


def training(
    *, size: int, d: int, blocks: int = 1, alignment: str = "words", references: int = 4, quick: bool
) -> Figures:
    """Forward and backward of size x size pairs; the reference's on a few captions, scaled."""
    rate = product_rate()
    setting = Setting(size, size, d=d, blocks=blocks, alignment=alignment)
    engine = seconds(lambda: setting.step(setting.images), 2 if quick else 5)
    memory = setting.memory()
    with plain_torch():
        plain = seconds(lambda: setting.step(setting.images), 1 if quick else 3)
    some = setting.few(references)
    reference = seconds(lambda: setting.step(setting.images, some, backend="reference"), 1) * size / references
    rate = max(rate, product_rate())
    limit = 3 * size * size * setting.flops / rate
    return {
        "pairs": size * size,
        "GFLOP/s of a large product": round(rate / 1e9, 1),
        "words a caption": round(setting.words, 2),
        "words a caption of the reference's": round(float(setting.lengths[some].float().mean()), 2),
        "reference, s a step": round(reference, 2),
        "engine, s a step": round(engine, 3),
        "ratio": round(reference / engine, 1),
        "plain torch, s a step": round(plain, 3),
        "ratio to plain torch": round(plain / engine, 1),
        **({"share of the limit": round(limit / engine, 3)} if blocks == 1 else {}),
        "memory beyond the inputs, MB": memory,
        f"minutes an epoch of {STEPS_AN_EPOCH} steps": round(engine * STEPS_AN_EPOCH / 60, 2),
    }


def query(*, items: int, d: int, quick: bool) -> Figures:
    """One sentence against stored images and one photo against stored captions."""
    rate = product_rate()
    setting = Setting(items, items, d=d)
    repeats = 9 if quick else 25
    figures: Figures = {}
    with torch.inference_mode():
        middle = int((setting.lengths - setting.words).abs().argmin())
        sentence = setting.texts[middle, setting.word_mask[middle]]
        for storage in STORAGES:
            collection = setting.model.store_images(setting.images, setting.region_mask, storage=storage)
            figures[f"a sentence, {items} images in {storage}, ms"] = _milliseconds(
                lambda collection=collection: collection.scores(sentence), repeats
            )
            figures[f"an image in {storage}, KiB"] = round(collection.bytes_an_item / 1024, 1)
        texts = setting.model.store_texts(setting.texts, setting.word_mask)
        figures[f"a photo, {items} captions in float16, ms"] = _milliseconds(
            lambda: texts.scores(setting.images[0]), repeats
        )
        figures["the collection of images made anew, ms"] = _milliseconds(
            lambda: setting.model.store_images(setting.images, setting.region_mask), 1
        )
    rate = max(rate, product_rate())
    limit = 2 * 6 * REGIONS * len(sentence) * d * items / rate * 1e3
    figures["multiply-adds of the sentence at the product's rate, ms"] = round(limit, 1)
    figures["multiply-adds of the photo at the product's rate, ms"] = round(limit * setting.words / len(sentence), 1)
    figures["GFLOP/s of a large product"] = round(rate / 1e9, 1)
    return figures


def one_way(*, images: int, texts: int, d: int, references: int, quick: bool) -> Figures:
    """A HAN whose regions attend to regions alone beside the published one, in turns: pairs, a step, a query."""
    rate = product_rate()
    ways = {over: Setting(images, texts, d=d, attention_over=over) for over in ("both", "one-way")}
    one = ways["one-way"]
    figures: Figures = {}
    repeats = 3 if quick else 5

    def compare(name: str, unit: str, run: Callable[[Setting], Callable[[], object]], work: float = 0) -> float:
        """Medians of both, in ``unit``: seconds, milliseconds, or so much work a second."""
        runs = {over: run(setting) for over, setting in ways.items()}
        times: dict[str, list[float]] = {over: [] for over in runs}
        for turn in range(repeats + 1):
            for over, each in runs.items():
                time = seconds(each, 1, warm=False)
                if turn:
                    times[over].append(time)
        found = {over: median(each) for over, each in times.items()}
        for over, time in found.items():
            figures[f"{name}, {over}, {unit}"] = round(work / time, 1) if work else round(time * 1e3, 1)
        figures[f"{name}, times as fast"] = round(found["both"] / found["one-way"], 2)
        return found["one-way"]

    with torch.inference_mode():
        time = compare("all pairs", "pairs/s", lambda setting: setting.score, images * texts)
        some = one.few(references)
        count = min(images, 128)
        reference = seconds(lambda: one.score(count, some, backend="reference"), 3)
        figures["plain forward, one-way, pairs/s"] = round(count * references / reference, 1)
        figures["all pairs, ratio to it"] = round(images * texts / time / (count * references / reference), 1)
        figures["greatest difference to it"] = float(
            (one.score(64, some, backend="reference") - one.score(64, some)).abs().max()
        )
    compare("a step of 128", "ms", lambda setting: lambda: setting.step(setting.images[:128], slice(128)))
    with torch.inference_mode():
        repeats = 9 if quick else 25
        middle = int((one.lengths - one.words).abs().argmin())
        sentence = one.texts[middle, one.word_mask[middle]]
        thousand = [
            part.repeat(-(-1000 // images), *[1] * (part.ndim - 1))[:1000] for part in (one.images, one.region_mask)
        ]
        stored = {id(setting): setting.model.store_images(*thousand) for setting in ways.values()}
        for over, setting in ways.items():
            figures[f"an image in float16, {over}, KiB"] = round(stored[id(setting)].bytes_an_item / 1024, 1)
        compare("a sentence, 1000 images", "ms", lambda setting: lambda: stored[id(setting)].scores(sentence))
        repeats = 3
        compare("their collection made anew", "ms", lambda setting: lambda: setting.model.store_images(*thousand))
    rate = max(rate, product_rate())
    figures["GFLOP/s of a large product"] = round(rate / 1e9, 1)
    for over, setting in ways.items():
        share = figures[f"all pairs, {over}, pairs/s"] * setting.flops / rate
        figures[f"all pairs, {over}, share of the limit"] = round(share, 3)
    return figures


def _milliseconds(run: Callable[[], object], repeats: int) -> float:
    return round(seconds(run, repeats) * 1e3, 1)


def peer(*, images: int, texts: int, d: int, quick: bool) -> Figures:
    """SCAN the peers' way, a Python loop a caption, against SCAN and HAN in the engine."""
    setting = Setting(images, texts, d=d)
    figures: Figures = {}
    some = max(20, texts // 10)
    loop = {}
    with torch.inference_mode():
        for direction in ("words", "regions"):
            matching = Matching(9.0, direction, MEAN, attention="clipped")
            loop[direction] = images * some / seconds(
                lambda d=direction: scan_loop(
                    setting.images, setting.texts[:some], setting.lengths[:some], direction=d, temperature=9.0
                ), 1 if quick else 3,
            )  # fmt: skip
            engine = images * texts / seconds(
                lambda m=matching: score_all_pairs(
                    setting.images, setting.region_mask, setting.texts, setting.word_mask, blocks=[], matching=m
                ), 1 if quick else 3,
            )  # fmt: skip
            figures[f"SCAN's loop, {direction} attend, pairs/s"] = round(loop[direction])
            figures[f"SCAN in the engine, {direction} attend, pairs/s"] = round(engine)
            figures[f"ratio, {direction} attend"] = round(engine / loop[direction], 1)
        han = images * texts / seconds(setting.score, 1 if quick else 2)
        figures["HAN in the engine, pairs/s"] = round(han)
        figures["HAN in the engine against SCAN's loop, words attend"] = round(han / loop["words"], 2)
    size = 100
    pair = setting.images[:size].clone(), setting.texts[:size].clone()

    def loop_step() -> None:
        left, right = (x.requires_grad_() for x in pair)
        scores = scan_loop(left, right, setting.lengths[:size], direction="words", temperature=9.0)
        soft_max_triplet_loss(scores, margin=0.2, power=4).backward()

    def engine_step() -> None:
        left, right = (x.requires_grad_() for x in pair)
        scores = score_all_pairs(
            left, setting.region_mask[:size], right, setting.word_mask[:size], blocks=[],
            matching=Matching(9.0, "words", MEAN, attention="clipped"),
        )  # fmt: skip
        soft_max_triplet_loss(scores, margin=0.2, power=4).backward()

    times = {
        "SCAN's loop": seconds(loop_step, 2),
        "SCAN in the engine": seconds(engine_step, 5),
        "HAN in the engine": seconds(lambda: setting.step(pair[0], slice(size)), 5),
    }
    figures |= {f"{name}, s a step of {size} x {size}": round(value, 3) for name, value in times.items()}
    return figures


def growth(*, quick: bool) -> Figures:
    """Microseconds a pair as one size changes and the others stay at 128 x 128 pairs, m 36, n 11, d 256, L 1.

    Two and three blocks are measured at 32 x 32 pairs, since they take long; so few pairs take longer a pair.
    """
    ranges: dict[str, tuple[int, ...]] = {
        "m": (9, 18, 36, 72, 100), "n": (3, 6, 11, 22, 44, 80), "d": (64, 128, 256, 512, 1024), "L": (0, 1, 2, 3),
        "I": (1, 4, 16, 64, 256, 1024), "T": (1, 8, 64, 512, 2048),
    }  # fmt: skip
    figures: Figures = {"GFLOP/s of a large product": round(product_rate() / 1e9, 1)}
    for name, values in ranges.items():
        figures[name] = {}
        for value in values[:: 2 if quick else 1]:
            sizes = {"m": 36, "n": 11, "d": 256, "L": 1, "I": 128, "T": 128} | {name: value}
            if sizes["L"] > 1:
                sizes |= {"I": 32, "T": 32}
            setting = Setting(
                sizes["I"], sizes["T"], d=sizes["d"], regions=sizes["m"], words=sizes["n"], blocks=sizes["L"]
            )
            with torch.inference_mode():
                figures[name][value] = round(seconds(setting.score, 3) / (sizes["I"] * sizes["T"]) * 1e6, 2)
    return figures


def sections(quick: bool) -> dict[str, tuple[Callable[..., Figures], dict[str, Any]]]:
    """What is measured."""
    images, texts = (200, 1000) if quick else (1000, 5000)
    return {
        "all pairs, d 1024": (all_pairs, {"images": images, "texts": texts, "d": 1024}),
        "all pairs, d 256": (all_pairs, {"images": images, "texts": texts, "d": 256, "references": 20}),
        "all pairs, both attend, d 256": (
            all_pairs, {"images": images, "texts": texts, "d": 256, "alignment": "both", "references": 20},
        ),
        "all pairs, two blocks, d 1024": (
            all_pairs, {"images": 64, "texts": 64 if quick else 256, "d": 1024, "blocks": 2},
        ),
        "a training step, d 1024": (training, {"size": 128, "d": 1024}),
        "a training step, d 256": (training, {"size": 128, "d": 256}),
        "a training step, both attend, d 256": (training, {"size": 128, "d": 256, "alignment": "both"}),
        "a training step, two blocks, d 1024": (training, {"size": 32, "d": 1024, "blocks": 2}),
        "one query, d 1024": (query, {"items": 1000, "d": 1024}),
        "one query, d 256": (query, {"items": 1000, "d": 256}),
        "one way, d 1024": (one_way, {"images": 200, "texts": 500, "d": 1024, "references": 5}),
        "one way, d 256": (one_way, {"images": 500, "texts": 1000, "d": 256, "references": 20}),
        "beside a peer, d 256": (peer, {"images": images, "texts": 500 if quick else 1000, "d": 256}),
        "growth": (growth, {}),
    }  # fmt: skip


def draw(found: dict[str, Figures], file: Path) -> None:
    """How the time of a pair grows with each size, beside the limit."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullFormatter

    names = {
        "m": "regions an image, m", "n": "words a caption, n", "d": "joint size, d", "L": "blocks, L", "I": "images, I",
        "T": "captions, T",
    }  # fmt: skip
    rate = found["growth"]["GFLOP/s of a large product"] * 1e3  # operations a microsecond
    figure, axes = plt.subplots(2, 3, figsize=(10, 5.6), layout="constrained")
    for axis, (name, label) in zip(axes.flat, names.items(), strict=True):
        points = {int(value): time for value, time in found["growth"][name].items()}
        axis.plot(list(points), list(points.values()), "o-", color="#1f6f8b", label="measured")
        if name != "L":
            sizes = [{"m": 36, "n": 11, "d": 256} | {name: value} for value in points]
            limits = [2 * 6 * s["m"] * s["n"] * s["d"] / rate for s in sizes]
            axis.plot(list(points), limits, "--", color="#b0562c", label="limit: 6 m n d multiply-adds")
            axis.set_xscale("log", base=2)
            axis.set_xticks(list(points), [str(value) for value in points])
            axis.minorticks_off()
        else:
            axis.set_xticks(list(points))
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
        axis.margins(y=0.25)
    for axis in axes[:, 0]:
        axis.set_ylabel("microseconds a pair")
    axes[0, 0].legend(frameon=False, loc="upper left", fontsize=9)
    figure.suptitle("Time of a pair, all else being 128 x 128 pairs, m 36, n 11, d 256, L 1", fontsize=11)
    figure.savefig(file, dpi=120)


def _run(name: str, quick: bool) -> Figures:
    function, arguments = sections(quick)[name]
    return function(**arguments, quick=quick)


@click.command()
@click.option("--quick", is_flag=True, help="Fewer pairs and repeats: some three minutes.")
@click.option("--only", multiple=True, help="Run only sections whose name has this in it.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw how the time grows with each size.")
def main(quick: bool, only: tuple[str, ...], json_file: Path | None, picture: Path | None) -> None:
    """Print the figures of pairs, training steps and queries in docs/results/speed.md."""
    found: dict[str, Figures] = {
        "machine": {
            "processor": _processor(),
            "threads": torch.get_num_threads(),
            "system": platform.platform(terse=True),
            "Python": platform.python_version(),
            "torch": torch.__version__,
            "SIMD": torch.backends.cpu.get_cpu_capability(),
        }
    }
    _print("machine", found["machine"])
    context = multiprocessing.get_context("spawn")
    for name in sections(quick):
        if only and not any(part in name for part in only):
            continue
        with context.Pool(1) as pool:
            found[name] = pool.apply(_run, (name, quick))
        _print(name, found[name])
    if json_file:
        json_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if picture and "growth" in found:
        draw(found, picture)


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _print(name: str, figures: Figures) -> None:
    click.echo(f"\n{name}")
    width = max(map(len, figures))
    for key, value in figures.items():
        click.echo(f"  {key:<{width}}  {value}")


if __name__ == "__main__":
    main()
