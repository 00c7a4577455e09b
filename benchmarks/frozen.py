"""On the same frozen tokens: HAN, HAN without attention, its peers, and the towers' own vectors.

    python benchmarks/frozen.py DATASET --detector NAME --words NAME [--seeds 3] [--only SYSTEM ...] [--epochs 3]
    python benchmarks/frozen.py DATASET --detector NAME --words NAME --compare words [--pretrained-text FOLDER]

The detector is one of ``han plugins``, such as "bottom-up" or "grid+open_clip:ViT-B-16/laion2b_s34b_b88k"; words go
through a text encoder, such as "bigru", "minilm" or "hf:NAME". Photos go through the detector once; ``--features``
takes a region store that is there. Every system has the same recipe, which was settled on HAN with a Bi-GRU
(research/study) and tuned for none of the others: it trains on the training photos but a tenth, on which its epoch is
chosen, and is reported on the whole dev split, once. Where both are towers of one model, their own vectors are compared
as well, without training, and their tokens where both names end in "@proj". What is refused is left out, with the
reason.

``--compare words`` holds HAN's text encoders against each other: Bi-GRUs that start from GloVe and from captions
(``--pretrained-text``, of ``han train-text``), and WORDS frozen and trained along; with Entities annotations, each with
and without the boxes of phrases.

OUT/DATASET,DETECTOR,WORDS.md and .json (what ``--set`` changes stands behind WORDS) hold the tables, renewed after each
run: recalls, rSum, intervals and paired tests over photos against the first row, nDCG@10, grounding where DATASET has
``entities.jsonl`` (or ``--entities``), the seconds of a training step. The same command goes on after an interrupt,
skips what is done, and may run several times at once. Times are of the machine as it was: say what else it did with
``--note``, which goes below the table.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from han_retrieval.process import tune_process

tune_process()  # before torch is imported
sys.path.insert(0, str(Path(__file__).parents[1]))

from han_retrieval.cli.devices import device_option, find_device  # noqa: E402
from han_retrieval.cli.splits import with_splits  # noqa: E402
from han_retrieval.data import CaptionedPhotos, read_dataset, read_entities  # noqa: E402
from han_retrieval.errors import ConfigError, HANError  # noqa: E402
from han_retrieval.evaluation.report import environment, write_json  # noqa: E402
from han_retrieval.files import write_whole  # noqa: E402
from han_retrieval.parsing import parse_toml  # noqa: E402
from han_retrieval.regions import RegionStore, extract, load_detector  # noqa: E402
from research.study.queue import make_runs  # noqa: E402
from research.study.report import Records, rows_of, table, to_record  # noqa: E402
from research.study.runs import Study, find, hold_out  # noqa: E402
from research.study.settings import HELD_OUT, Group, Run, Setting, runs_of  # noqa: E402

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
PROJECTED = "@proj"  # behind a name: tokens in the space that a model's towers share
GRUS = ("bigru", "gru")  # encoders that word vectors can start
_DIFFERENCE = ("mean", "low", "high", "p")
EPOCHS = 3
FACTORS = (0.01, 0.1)  # of the learning rate, for a language model that is trained along


def systems(detector: str, words: str, recipe: Mapping[str, Any], *, zero_shot: bool | None) -> list[Setting]:
    """The systems on the same tokens; the first is what the others are held against.

    Without training, towers of one model alone are compared, which ``zero_shot`` says; None goes by their names. Their
    tokens are in one space where both are projected into it.
    """
    text = {**recipe, **_encoder(words)}
    changes: dict[str, dict[str, Any]] = {
        "HAN": {},
        "HAN without attention": {"model.blocks": 0},
        "SCAN t-i AVG": {"model.matcher": "scan"},
        "SCAN i-t AVG": {"model.matcher": "scan", "model.alignment": "regions", "model.alignment_temperature": 4.0},
        "MaxSim": {"model.matcher": "maxsim"},
        "VSE-infinity": {"model.matcher": "vse-infinity"},
        "VSE++": {"model.matcher": "vse++"},
    }
    if zero_shot is None:
        zero_shot = words.partition("@")[0] in {part.partition("@")[0] for part in detector.split("+")}
    if zero_shot and detector.endswith(PROJECTED) and words.endswith(PROJECTED):
        changes["MaxSim, zero-shot"] = {"model.matcher": "maxsim", "model.shared_space": True}
    if zero_shot:
        changes["pooled, zero-shot"] = {"model.matcher": "pooled"}
    return [Setting(label, {**text, **fields}) for label, fields in changes.items()]


def text_encoders(
    words: str, recipe: Mapping[str, Any], *, pretrained_text: Path | None, phrases: bool
) -> list[Setting]:
    """HAN with different text encoders."""
    frozen, bigru = _encoder(words), _encoder("bigru")
    changes = {"Bi-GRU from GloVe": bigru}
    if pretrained_text is not None:
        changes["Bi-GRU from captions"] = {**bigru, "pretrained_text": str(pretrained_text)}
    changes |= {
        words: frozen,
        f"{words}, last layer": {**frozen, "model.text_layers": "last"},
        f"{words}, linear map": {**frozen, "model.text_head": "linear"},
    }
    for factor in FACTORS:
        trained = {"model.text_backbone": "trained", "text_lr_factor": factor}
        changes[f"{words}, trained at {factor:g} of the rate"] = {**frozen, **trained}
    if phrases:
        changes |= {f"{label}, phrases": {**fields, "alignment_weight": 0.1} for label, fields in changes.items()}
    return [Setting(label, {**recipe, **fields}) for label, fields in changes.items()]


def _encoder(name: str) -> dict[str, Any]:
    return {"model.text_encoder": name} | ({} if name in GRUS else {"word_vectors": None})


@dataclass(frozen=True)
class Comparison:
    """Runs of a group, and the files that show them.

    Attributes:
        study: Where runs are made.
        group: The systems and the seeds.
        name: Of the dataset, the detector and the words.
        title, notes: What stands above and below the table.
    """

    study: Study
    group: Group
    name: str
    title: str
    notes: Sequence[str]

    def make(self, only: Sequence[str] = ()) -> int:
        """Make what is not done, of systems of these labels alone; how many systems failed."""
        (store,) = self.study.stores
        runs = runs_of(self.group, first_store=store)
        wanted = [run for run in runs if not only or run.setting.label in only]
        failed = make_runs(
            self.study,
            [(self.name, run) for run in wanted],
            write_down=lambda _: self.write(runs, {}),
            progress=True,
        )
        reasons = {run.setting.label: str(failed[run.key]) for run in wanted if run.key in failed}
        self.write(runs, reasons)
        return len(reasons)

    def write(self, runs: Sequence[Run], reasons: Mapping[str, str]) -> None:
        """Write the table and the JSON from all runs that are done."""
        ((store_name, store),) = self.study.stores.items()
        records: Records = {}
        for run in runs:
            if found := find(run, self.study.out, detector=store.fingerprint):
                records[run.key] = to_record(run, found)
        rows = rows_of(self.group, records, first_store=store_name)
        left_out = [f"{label} is left out: {reason}" for label, reason in reasons.items()]
        lines = [f"## {self.title}", *([table(self.group, rows)] if rows else [])]
        around = environment()
        machine, torch = around["machine"], around["versions"]["torch"]
        measured = f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, torch {torch}."
        notes = [*self.notes, *left_out, measured]
        lines += ["\n".join(f"- {note}" for note in notes)]
        write_whole(self.study.out / f"{self.name}.md", "\n\n".join(lines) + "\n")
        figures = [
            {
                "system": row.setting.label,
                "rsum": [round(rsum, 2) for rsum in row.rsums],
                "interval": row.interval,
                "against_first": row.difference and dict(zip(_DIFFERENCE, row.difference, strict=True)),
                "by_seed": row.by_seed,
            }
            for row in rows
        ]
        recipe = json.loads(self.group.settings[0].config(seed=0).model_dump_json())
        facts = {"title": self.title, "notes": notes, "recipe": recipe, **around, "systems": figures}
        write_json(self.study.out / f"{self.name}.json", {**facts, "runs": list(records.values())})


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--detector", help="The detector; with --features, what to call it.", required=True)
@click.option("--words", help="The text encoder.", required=True)
@click.option("--compare", type=click.Choice(["systems", "words"]), default="systems", show_default=True)
@click.option("--features", type=FOLDER, help="A region store of the photos; it is made where none is given.")
@click.option("--regions", type=click.IntRange(min=1), default=36, show_default=True, help="Of a store that is made.")
@click.option("--entities", type=click.Path(exists=True, path_type=Path), help="Boxes of phrases, for grounding.")
@click.option(
    "--zero-shot/--no-zero-shot",
    default=None,
    help="Whether detector and words are two towers of one model; by default, where they have one name.",
)
@click.option("--pretrained-text", type=FOLDER, help="A folder of `han train-text`, for --compare words.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="How many seeds.")
@click.option("--only", multiple=True, metavar="SYSTEM", help="Run these systems alone, by their names in the table.")
@click.option("--epochs", type=click.IntRange(min=1), default=EPOCHS, show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the recipe, for all systems.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/frozen"), show_default=True)
@click.option("--note", "notes", multiple=True, help="What readers must know, such as what WORDS was trained on.")
@device_option
def main(
    dataset: Path,
    detector: str,
    words: str,
    compare: str,
    features: Path | None,
    regions: int,
    entities: Path | None,
    zero_shot: bool | None,
    pretrained_text: Path | None,
    seeds: int,
    only: tuple[str, ...],
    epochs: int,
    overrides: tuple[str, ...],
    out: Path,
    notes: tuple[str, ...],
    device: str,
) -> None:
    """Train and evaluate systems on the frozen tokens of a detector and a text encoder, and write their table."""
    photos = hold_out(with_splits(read_dataset(dataset)))
    boxes = entities or dataset / "entities.jsonl"
    annotations = read_entities(boxes) if boxes.exists() else None
    recipe = {"epochs": epochs, **_changes(overrides)}
    if compare == "systems":
        settings = systems(detector, words, recipe, zero_shot=zero_shot)
    else:
        settings = text_encoders(words, recipe, pretrained_text=pretrained_text, phrases=annotations is not None)
    if unknown := set(only) - {setting.label for setting in settings}:
        labels = ", ".join(repr(setting.label) for setting in settings)
        raise ConfigError(f"--only {', '.join(sorted(unknown))}: no system; there are {labels}")
    try:
        store = RegionStore.open(features) if features else extracted(photos, detector, out, regions=regions)
        parts = [dataset.resolve().stem, detector, words, *["encoders"] * (compare == "words"), *overrides]
        parts += [f"epochs={epochs}"] * (epochs != EPOCHS)
        changed = [f"Changed for all: {', '.join(overrides)}."] if overrides else []
        dev = photos.split("dev")
        comparison = Comparison(
            Study(
                dataset=photos,
                stores={",".join(map(_file_name, (dataset.resolve().stem, detector))): store},
                annotations=annotations,
                out=out,
                device=find_device(device),
            ),
            Group(compare, "", tuple(settings), tuple(range(seeds))),
            ",".join(map(_file_name, parts)),
            f"{dataset.resolve().stem}: detector {detector}, words {words}",
            [f"{len(dev)} photos and {dev.caption_count} captions of dev.", _recipe(settings[0]), *changed, *notes],
        )
        sys.exit(1 if comparison.make(only) else 0)
    except KeyboardInterrupt:
        click.echo("\nstopped; the same command goes on", err=True)
        sys.exit(130)


def extracted(photos: CaptionedPhotos, detector: str, out: Path, *, regions: int) -> RegionStore:
    """The features of the photos that are used, made once."""
    folder = out / ",".join([_file_name(photos.source.resolve().stem), _file_name(detector), f"features-{regions}"])
    used = photos.only(photo.id for photo in photos.photos if photo.split in ("train", HELD_OUT, "dev"))
    extract(used, load_detector(detector, regions=regions), folder, progress=True)
    return RegionStore.open(folder)


def _changes(overrides: Sequence[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for override in overrides:
        key, _, text = override.partition("=")
        try:
            changes[key] = parse_toml(f"value = {text}")["value"]
        except ValueError:
            changes[key] = text
    return changes


def _recipe(setting: Setting) -> str:
    """What all systems have in common, in words."""
    config = setting.config(seed=0)
    drops = f"{config.region_drop:.0%} of the regions and {config.word_drop:.0%} of the words dropped"
    epochs = f"{config.epochs} epoch{'s' * (config.epochs > 1)}"
    return (
        f"One recipe for all: {epochs} in batches of {config.batch_size} captions, {config.optimizer} at "
        f"{config.learning_rate:g}, p = {config.power:g}, d = {config.model.joint_size}, {drops}; settled on "
        "HAN with a Bi-GRU, tuned for no other. The epoch is chosen on a tenth of the training photos that is held out."
    )


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.+@=-]+", "-", text)


if __name__ == "__main__":
    try:
        main()
    except HANError as error:
        click.echo(f"frozen: error: {error}", err=True)
        sys.exit(2)
