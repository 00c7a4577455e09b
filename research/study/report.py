"""What the study found: results small enough to keep, and from these alone the tables and plots of docs/study.md.

Legend: I photos, r resamples.
"""

from __future__ import annotations

import functools
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from han_retrieval.errors import HANError
from han_retrieval.evaluation.metrics import CUTOFFS, DIRECTIONS, NDCG, RECALLS
from han_retrieval.files import write_whole
from research.study.groups import groups
from research.study.settings import Group, Run, Setting

RESAMPLES = 10_000
LEAST_P = 1 / (1 + RESAMPLES)  # that the test can find
Record = dict[str, Any]
Records = dict[tuple[str, str, int], Record]  # by store, setting and seed

_KEPT = ("detector", *DIRECTIONS, "rsum", "parameters", "train_seconds", "steps", "kept_epoch", "held_out_rsum")
_GUESSES = ("model", "random", "centre", "best")
# In the document, all below this is written by ``write_study``, all above by people.
TABLES = "<!-- All below is written by `python -m research.study`. -->"


def to_record(run: Run, found: Mapping[str, Any]) -> Record:
    """The part of a run's results that is kept: its figures, and how many recalls the queries of each photo hit.

    ``hits`` holds a digit (of base 36) a photo and direction: of its query, or its captions' queries, how many times
    the right answer stood among the first 1, 5 and 10, added up. They are all that rSum's certainty depends on.
    """
    record: Record = {"store": run.store, "setting": run.setting.name, "seed": run.seed}
    record |= {name: found[name] for name in _KEPT}
    record["step_seconds"] = found.get("step_seconds")
    for way in DIRECTIONS:
        record[way] = {name: round(found[way][name], 3) for name in (*RECALLS, NDCG) if name in found[way]}
    if found["grounding"]:
        record["grounding"] = {
            measure: {guess: round(found["grounding"][measure][guess], 2) for guess in _GUESSES}
            for measure in ("pointing", "iou")
        }
    queries = found["queries"]
    place = {image: row for row, image in enumerate(queries["image_to_text"]["image"])}
    record["captions"] = len(queries["text_to_image"]["id"])
    record["hits"] = {}
    for way in DIRECTIONS:
        hits = np.zeros(len(place), np.int64)
        rank = np.array(queries[way]["rank"])
        rows = [place[image] for image in queries[way]["image"]]
        np.add.at(hits, rows, (rank[:, None] <= np.array(CUTOFFS)).sum(1))
        if hits.max() >= 36:
            raise HANError("the study takes photos with up to 11 captions")
        record["hits"][way] = "".join(np.base_repr(count, 36).lower() for count in hits)
    return record


def read_records(file: Path) -> tuple[list[str], Records]:
    """The stores, the first one first, and what is known; nothing where there is no file yet."""
    if not file.exists():
        return [], {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        records = {(each["store"], each["setting"], each["seed"]): each for each in content["runs"]}
        return content["stores"], records
    except (OSError, ValueError, KeyError) as error:
        raise HANError(f"{file}: not the results of the study ({error})") from None


def write_records(file: Path, stores: Sequence[str], records: Records) -> None:
    """A line a run, in a fixed order."""
    lines = ",\n".join(json.dumps(records[key]) for key in sorted(records))
    write_whole(file, f'{{"stores": {json.dumps(list(stores))},\n"runs": [\n{lines}\n]}}\n')


def contributions(record: Record) -> np.ndarray:
    """What each photo adds to rSum: (I,) float64, whose mean is rSum."""
    of_image, of_texts = (np.array([int(digit, 36) for digit in record["hits"][way]]) for way in DIRECTIONS)
    return 100.0 * (of_image + of_texts * len(of_texts) / record["captions"])


class Resampling:
    """The bootstrap over photos and the paired randomisation test of ``han compare``, for seeds averaged by photo."""

    def __init__(self, photos: int, *, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        drawn = random.multinomial(photos, np.full(photos, 1 / photos), size=RESAMPLES)
        self._weights = drawn.astype(np.float32) / photos  # (r, I)
        coins = random.integers(2, size=(RESAMPLES, photos), dtype=np.int8)
        self._signs = (2 * coins - 1).astype(np.float32) / photos  # (r, I)

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """Where the mean of (I,) lies for 95 % of the resamples."""
        low, high = np.quantile(self._weights @ values.astype(np.float32), [0.025, 0.975])
        return float(low), float(high)

    def p_value(self, differences: np.ndarray) -> float:
        """Two-sided: how often the mean of (I,) is as large when each photo's systems are swapped by a coin."""
        found = np.abs(self._signs @ differences.astype(np.float32))
        return float((1 + (found >= abs(differences.mean()) - 1e-4).sum()) / (1 + RESAMPLES))


_resampling = functools.cache(Resampling)


@dataclass(frozen=True)
class Row:
    """A setting's figures in its group: means over its seeds."""

    setting: Setting
    records: list[Record]
    interval: tuple[float, float]
    difference: tuple[float, float, float, float] | None  # from the reference: mean, its interval, p
    by_seed: list[float]  # the same differences, one a seed that both have

    @property
    def rsums(self) -> list[float]:
        """One a seed."""
        return [record["rsum"] for record in self.records]


def rows_of(group: Group, records: Records, *, first_store: str) -> list[Row]:
    """The settings of a group of which there are results."""
    found: list[tuple[Setting, dict[int, Record]]] = []
    for setting in group.settings:
        runs = {seed: (setting.store or first_store, setting.name, seed) for seed in group.seeds}
        found.append((setting, {seed: records[key] for seed, key in runs.items() if key in records}))
    reference = found[0][1]
    rows = []
    for setting, seeds in found:
        if not seeds:
            continue
        values = {seed: contributions(record) for seed, record in seeds.items()}
        photos = {len(of_seed) for of_seed in values.values()} | {len(contributions(r)) for r in reference.values()}
        if len(photos) > 1:
            raise HANError(
                f"{group.name}, {setting.label}: runs were evaluated on different numbers of photos: {photos}"
            )
        resampling = _resampling(photos.pop())
        common = sorted(seeds.keys() & reference.keys()) if setting is not group.settings[0] else []
        difference = None
        by_seed = [values[seed] - contributions(reference[seed]) for seed in common]
        if by_seed:
            apart = np.mean(by_seed, axis=0)
            difference = (float(apart.mean()), *resampling.interval(apart), resampling.p_value(apart))
        mean = np.mean(list(values.values()), axis=0)
        each = [float(of_seed.mean()) for of_seed in by_seed]
        rows.append(Row(setting, list(seeds.values()), resampling.interval(mean), difference, each))
    return rows


def table(group: Group, rows: Sequence[Row]) -> str:
    """A group as markdown; columns that earlier versions did not measure stand where all rows have them."""
    head = ["", "image to text R@1/5/10", "text to image R@1/5/10", "rSum", "95 % interval"]
    head += [f"against {group.settings[0].label}", "p", "by seed", "pointing", "IoU >= 0.5", "seeds", "parameters, M"]
    records = [record for row in rows for record in row.records]
    ranked = all(NDCG in record[way] for record in records for way in DIRECTIONS)
    timed = any(record.get("step_seconds") for record in records)
    head += [f"{NDCG} image to text", f"{NDCG} text to image"] * ranked + ["a step, s"] * timed
    lines = [f"| {' | '.join(head)} |".replace("|  |", "| |"), "|---" * len(head) + "|"]
    for row in rows:
        recalls = [
            "/".join(f"{_mean(r[way][name] for r in row.records):.1f}" for name in RECALLS) for way in DIRECTIONS
        ]
        rsum = f"{_mean(row.rsums):.1f}"
        if len(row.rsums) > 1:
            rsum += f" ± {statistics.stdev(row.rsums):.1f}"
        apart, p = ("", "")
        if row.difference:
            difference, low, high, chance = row.difference
            apart = f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"
            p = f"{chance:.4f}" if chance > LEAST_P else f"<= {chance:.4f}"
        grounded = [record["grounding"] for record in row.records if "grounding" in record]
        hits = [
            f"{_mean(each[measure]['model'] for each in grounded):.1f}" if grounded else ""
            for measure in ("pointing", "iou")
        ]
        by_seed = ", ".join(f"{each:+.1f}" for each in row.by_seed) if len(row.by_seed) > 1 else ""
        cells = [
            row.setting.label, *recalls, rsum, "{:.1f} to {:.1f}".format(*row.interval), apart, p, by_seed, *hits,
            str(len(row.records)), f"{row.records[0]['parameters'] / 1e6:.2f}",
        ]  # fmt: skip
        if ranked:
            cells += [f"{_mean(record[way][NDCG] for record in row.records):.1f}" for way in DIRECTIONS]
        if timed:
            steps = [record["step_seconds"] for record in row.records if record.get("step_seconds")]
            cells += [f"{statistics.median(steps):.2f}" if steps else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def plot(group: Group, rows: Sequence[Row], picture: Path) -> None:
    """rSum and pointing of each setting: intervals over photos as bars, seeds as dots."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 1.2 + 0.32 * len(rows)), sharey=True, layout="constrained", width_ratios=(2, 1)
    )
    for place, row in enumerate(rows):
        colour = "#c2571a" if row.setting is group.settings[0] else "#1f4e8c"
        left.plot(row.interval, (place, place), color=colour, linewidth=5, alpha=0.25, solid_capstyle="butt")
        left.plot(row.rsums, [place] * len(row.rsums), ".", color=colour)
        right.plot(
            [record.get("grounding", {}).get("pointing", {}).get("model", math.nan) for record in row.records],
            [place] * len(row.records), ".", color=colour,
        )  # fmt: skip
    left.set(xlabel="rSum, dev", yticks=range(len(rows)), yticklabels=[row.setting.label for row in rows])
    left.set_ylim(len(rows) - 0.5, -0.5)
    right.set(xlabel="pointing, %")
    for axes in (left, right):
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    figure.savefig(picture, dpi=110, metadata={"Software": None})
    plt.close(figure)


def write_study(document: Path, stores: Sequence[str], records: Records) -> None:
    """Write a section for each group that has results, below ``TABLES``; what stands above stays."""
    text = document.read_text(encoding="utf-8") if document.exists() else "# The study\n"
    pictures = document.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    sections = [text.partition(TABLES)[0].rstrip(), TABLES]
    for group in groups(stores):
        rows = rows_of(group, records, first_store=stores[0])
        if len(rows) > 1:
            picture = pictures / f"{group.name}.png"
            plot(group, rows, picture)
            sections += [f"## {group.question}", f"`--only {group.name}`", table(group, rows)]
            sections += [_chance(rows[0]), f"![{group.question}]({pictures.name}/{picture.name})"]
    write_whole(document, "\n\n".join(section for section in sections if section) + "\n")


def _chance(row: Row) -> str:
    """What pointing and overlap are worth on these regions."""
    grounding = row.records[0].get("grounding")
    if grounding is None:
        return ""
    guesses = "; ".join(
        f"{name}: {grounding['pointing'][guess]:.1f} and {grounding['iou'][guess]:.1f}"
        for guess, name in (
            ("random", "a random region"),
            ("centre", "the photo's centre (IoU: the whole photo)"),
            ("best", "the best region"),
        )
    )
    return f"Pointing and IoU >= 0.5, in percent, on the regions of {row.setting.label}, by {guesses}."
