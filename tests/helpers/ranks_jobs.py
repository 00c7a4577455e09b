"""Small trainings of every kind, for one process or several ranks; run as a program, what each rank does:

python ranks_jobs.py DATA OUT JOB ...       with RANK, WORLD_SIZE and so on in the environment
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from han_retrieval import plugins
from han_retrieval.data import (
    CaptionedPhoto,
    CaptionedPhotos,
    EntitiesPhoto,
    EntitiesSentence,
    Phrase,
    read_dataset,
    read_entities,
)
from han_retrieval.matchers import matcher_class
from han_retrieval.ranks import ALONE, Ranks
from han_retrieval.regions import RegionRow, Regions, RegionStore
from han_retrieval.text.bert import BertBackbone
from han_retrieval.text.language_model import LanguageModel
from han_retrieval.training import TrainingConfig, train
from han_retrieval.training.checkpoint import newest_checkpoint
from han_retrieval.training.distributed import join_ranks
from han_retrieval.training.pretraining import pretrain_text

WORDS = ("red", "blue", "green", "white", "ball", "dog", "car", "tree", "boat", "sea")
SIZE = 12


def write_data(folder: Path, *, photos: int = 30) -> None:
    """Two region stores of photos with one to four regions, each of a word, and boxes."""
    random = np.random.default_rng(0)
    meanings = random.normal(size=(len(WORDS), SIZE))
    for name, noise in (("features", 0.1), ("others", 0.3)):
        rows = []
        for number in range(photos):
            words = _words(number)
            features = meanings[words] + random.normal(scale=noise, size=(len(words), SIZE))
            boxes = np.array([[10 * place, 0, 10 * place + 10, 10] for place in range(len(words))], np.float32)
            count = len(words) if name == "features" else 1
            rows.append(
                RegionRow(f"photo-{number}", None, Regions(features[:count].astype(np.float16), boxes[:count], 60, 10))
            )
        with RegionStore.create(folder / name, fingerprint="made-up-1", feature_size=SIZE) as store:
            store.append(rows)


def _words(number: int) -> list[int]:
    return np.random.default_rng(number).choice(len(WORDS), 1 + number % 4, replace=False).tolist()


def dataset(folder: Path, *, photos: int = 30) -> CaptionedPhotos:
    found = []
    for number in range(photos):
        named = [WORDS[word] for word in _words(number)]
        captions = (" and ".join(named), "there is " + ", ".join(named[::-1]), "all is red")[: 2 + (number % 5 == 0)]
        found.append(CaptionedPhoto(f"photo-{number}", None, captions, "train"))
    return CaptionedPhotos("made-up", folder, tuple(found))


def annotations(photos: int = 30) -> dict[str, EntitiesPhoto]:
    found = {}
    for number in range(photos):
        named = [WORDS[word] for word in _words(number)]
        words = tuple(" and ".join(named).split())
        phrases = tuple(
            Phrase(2 * place, 2 * place + 1, "1", (), np.array([[10 * place, 0, 10 * place + 10, 10]], np.float32))
            for place in range(len(named))
        )
        found[f"photo-{number}"] = EntitiesPhoto(f"photo-{number}", 60, 10, (EntitiesSentence(words, phrases),))
    return found


def config(matcher: str = "han", *, options: dict | None = None, **changes: object) -> TrainingConfig:
    """A training of some twenty steps; the last of each round is smaller."""
    model = matcher_class(matcher).config_class(word_size=8, joint_size=16, **(options or {}))
    fields = {
        "epochs": 3, "batch_size": 8, "min_count": 1, "learning_rate": 2e-3, "warm_up_steps": 5, "dev_split": "",
        "power": 3, "checkpoint_minutes": 1e-9,
    }  # fmt: skip
    return TrainingConfig.model_validate({**fields, "model": model, **changes})


def tiny_bert(data: Path, backbone: str) -> dict[str, str]:
    """Options of a language model with dropout; ``data`` has one."""
    part = plugins.Plugin("text_encoders", "tiny", "ranks_jobs:make_tiny_bert", "tests 0")
    plugins.installed("text_encoders").setdefault("tiny", part)
    return {"text_encoder": f"tiny:{data / 'bert'}", "text_backbone": backbone}


def make_tiny_bert(argument: str, config) -> LanguageModel:
    return LanguageModel(BertBackbone(Path(argument), name="tiny"), config)


def run(job: str, data: Path, out: Path, ranks: Ranks = ALONE, *, resume: bool = False) -> None:
    """Do a job: a matcher's name, or one of the following."""
    given = {"resume": resume, "progress": False, "ranks": ranks}
    if job == "text":
        captions = [photo.captions for photo in dataset(data).photos]
        pretrain_text(config(batch_size=7), captions, out, **given)
        return
    if job == "detector":
        from han_retrieval.training.detector import DetectorTrainingConfig, train_detector

        fields = {
            "noun_count": 2, "attribute_count": 2, "epochs": 2, "batch_size": 4, "warm_up_steps": 2, "dev_split": "",
            "smallest": 64, "largest": 64, "size": 64, "channels": 8, "representation": 16,
        }  # fmt: skip
        photos = data / "drawn"
        train_detector(
            DetectorTrainingConfig.model_validate(fields),
            read_dataset(photos), read_entities(photos / "entities.jsonl"), out, annotation="made up", **given,
        )  # fmt: skip
        return
    stores = {name: RegionStore.open(data / name) for name in ("features", "others")}
    more: dict[str, object] = {}
    wanted = {
        "hardest": lambda: config(power="inf", options={"blocks": 2}),
        "small": lambda: config(batch_size=7, power=1),  # the last batch of a round has two pairs
        "annotated": lambda: config(alignment_weight=0.5),
        "augmented": lambda: config(),
        "frozen": lambda: config(options=tiny_bert(data, "frozen")),
        "trained": lambda: config(options=tiny_bert(data, "trained"), text_lr_factor=0.5),
        "bfloat16": lambda: config(precision="bfloat16"),
    }.get(job, lambda: config(job))()
    if job == "annotated":
        more["annotations"] = annotations()
    if job == "augmented":
        more["augmentations"] = [stores["others"]]
    train(wanted, dataset(data), stores["features"], out, **more, **given)


def weights(out: Path) -> dict[str, torch.Tensor]:
    """What was trained, at the last step."""
    _, tensors, state = newest_checkpoint(out / "training")
    assert state["step"] >= 8
    return {name: value for name, value in tensors.items() if name.startswith("model.")}


def start(count: int, program: list[str], *, launcher: bool = False, **options: object) -> list[subprocess.Popen[str]]:
    """Start a Python program once a rank, or torchrun, which does so."""
    helpers = str(Path(__file__).parent)
    path = os.pathsep.join([helpers, *sys.path])
    base = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    if launcher:
        run = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", f"--master-port={port}"]
        return [subprocess.Popen([*run, *program], env=base, **pipes)]
    return [
        subprocess.Popen(
            [sys.executable, *program],
            env=base
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
            **pipes,
        )
        for rank in range(count)
    ]


def work() -> None:
    data, out, *jobs = sys.argv[1:]
    with join_ranks() as ranks:
        for job in jobs:
            run(job.removeprefix("+"), Path(data), Path(out) / job.removeprefix("+"), ranks, resume=job[0] == "+")


if __name__ == "__main__":
    work()
