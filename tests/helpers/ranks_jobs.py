"""Small trainings of every kind, for one process or several ranks; run as a program, what each rank does:

python ranks_jobs.py DATA OUT JOB ...       with RANK, WORLD_SIZE and so on in the environment
"""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from itertools import product
from pathlib import Path

import numpy as np
import pytest
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
from han_retrieval.errors import ConfigError
from han_retrieval.losses import soft_max_triplet_loss
from han_retrieval.matchers import matcher_class
from han_retrieval.ranks import ALONE, Ranks
from han_retrieval.regions import RegionRow, Regions, RegionStore
from han_retrieval.text.bert import BertBackbone
from han_retrieval.text.language_model import LanguageModel
from han_retrieval.training import TrainingConfig, train
from han_retrieval.training.checkpoint import newest_checkpoint
from han_retrieval.training.distributed import join_ranks
from han_retrieval.training.pretraining import pretrain_text
from han_retrieval.training.trainer import MatcherTraining

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
    if job == "backbone":
        backbone = {"trained": True, "head_epochs": 1, "frozen_stages": 6, "precision": "float32"}
        # Adam turns the rounding of a gradient near 0, which convolutions of other batches differ by, into a share of
        # the learning rate.
        wanted = config(epochs=4, batch_size=6, captions_per_photo=2, learning_rate=5e-4, backbone=backbone)
        train(wanted, read_dataset(data / "drawn"), RegionStore.open(data / "windows"), out, **given)
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
        "patient": lambda: config(dev_split="train", patience=1, learning_rate=1e-30),  # it ends after two epochs
        "bfloat16": lambda: config(precision="bfloat16"),
    }.get(job, lambda: config(job))()
    if job == "annotated":
        more["annotations"] = annotations()
    if job == "augmented":
        more["augmentations"] = [stores["others"]]
    train(wanted, dataset(data), stores["features"], out, **more, **given)


def stopped(data: Path, out: Path, ranks: Ranks) -> None:
    """A training that the last rank is asked to stop in the midst of it, as by a job scheduler."""
    loss = MatcherTraining.loss

    def asked(task, batch, *, step, steps):
        if step == 7 and ranks.rank == ranks.count - 1:
            signal.raise_signal(signal.SIGTERM)
        return loss(task, batch, step=step, steps=steps)

    MatcherTraining.loss = asked
    try:
        run("han", data, out, ranks)
        raise AssertionError("it was not stopped")
    except KeyboardInterrupt:
        if ranks.first:
            assert [path.name for path in (out / "training").glob("checkpoint-*")] == ["checkpoint-000000008"]
    finally:
        MatcherTraining.loss = loss
    ranks.wait()


def check_losses(ranks: Ranks) -> None:
    """The losses of a shared batch, and their gradients, are those of one process."""
    random = torch.Generator().manual_seed(0)
    for size, power in product((3, 7), (1, 2.5, 40, math.inf)):
        own = ranks.rows(size)
        scores = torch.randn(size, size, generator=random)
        scores[:, 1] -= 9  # a caption without a violation
        scores[:, 2] = scores[2] = 0.5  # equal ones
        ids = torch.arange(size) // 2
        matching = torch.rand(size, size, generator=random) < 0.1
        whole, part = (values.clone().requires_grad_() for values in (scores, scores[own]))
        given = {"margin": 0.2, "power": power, "image_ids": ids}
        expected = soft_max_triplet_loss(whole, matching=matching, **given)
        found = soft_max_triplet_loss(part, matching=matching[own], ranks=ranks, **given)
        (expected.backward(), found.backward())
        assert torch.allclose(found, expected, atol=1e-6), (size, power)
        assert torch.allclose(part.grad, whole.grad[own], atol=1e-6), (size, power)
        broken = scores.clone()
        broken[0, -1] = torch.nan
        assert soft_max_triplet_loss(broken[own], ranks=ranks, **given).isnan()


def check_differences(data: Path, out: Path, ranks: Ranks) -> None:
    """Ranks that are not alike are told apart, in one line that all have."""
    store, photos = RegionStore.open(data / "features"), dataset(data)
    last = ranks.rank == ranks.count - 1
    others = CaptionedPhotos(photos.format, photos.source, photos.photos[: -1 if last else None])
    differing = {
        "configuration": ((config(margin=0.3 if last else 0.2), photos), "margin is 0.2 on rank 0 and 0.3 here"),
        "data": ((config(), others), "captions is 66 on rank 0 and 64 here"),
        "packages": ((config(), photos), "numpy is "),
    }
    for part, ((wanted, given), line) in differing.items():
        version = metadata.version
        if part == "packages" and last:
            metadata.version = lambda name, real=version: "0.1" if name == "numpy" else real(name)
        who = f"rank {ranks.count - 1} on {re.escape(socket.gethostname())}"
        with pytest.raises(ConfigError, match=f"^{who} does not have the {part} of rank 0: {line}"):
            train(wanted, given, store, out / part, progress=False, ranks=ranks)
        metadata.version = version


def weights(out: Path) -> dict[str, torch.Tensor]:
    """What was trained, at the last step."""
    _, tensors, state = newest_checkpoint(out / "training")
    assert state["step"] >= 6
    return {name: value for name, value in tensors.items() if name.startswith("model.")}


def start(
    count: int,
    program: list[str],
    *,
    launcher: bool = False,
    last: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> list[subprocess.Popen[str]]:
    """Start a Python program once a rank, or torchrun, which does so; ``last`` are more words for the last rank."""
    helpers = str(Path(__file__).parent)
    path = os.pathsep.join([helpers, *sys.path])
    base = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **(environment or {})}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    if launcher:
        run = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", f"--master-port={port}"]
        return [subprocess.Popen([*run, *program], env=base, **pipes)]
    return [
        subprocess.Popen(
            [sys.executable, *program, *(last if rank == count - 1 else ())],
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
            folder = Path(out) / job.removeprefix("+")
            if job == "losses":
                check_losses(ranks)
            elif job == "differences":
                check_differences(Path(data), folder, ranks)
            elif job == "stopped":
                stopped(Path(data), folder, ranks)
                if ranks.first:
                    shutil.copytree(folder, folder.with_name("begun"))
            else:
                run("han" if job == "+stopped" else job, Path(data), folder, ranks, resume=job[0] == "+")


if __name__ == "__main__":
    work()
