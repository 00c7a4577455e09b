"""Valid files of every format, written into an empty folder: what the attacks spoil."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dataset_files import photos, write, write_json
from packed_files import image, jpeg, write_parquet, write_shard
from tiny_index import make_model

from han_retrieval.matchers.saving import folder_hash
from han_retrieval.regions.bottom_up.saving import save_detector
from han_retrieval.search import Calibration
from han_retrieval.search.pooling import TextMap
from han_retrieval.storage import hashes
from han_retrieval.text import Vocabulary
from han_retrieval.training import TrainingConfig
from han_retrieval.training.state import RunState
from han_retrieval.training.text_weights import PretrainedText
from han_retrieval.weights import tensor_bytes

M, D = 3, 4


def coco(folder: Path) -> None:
    photos(folder, "1.jpg", "2.jpg")
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2)]
    captions = [{"image_id": i, "caption": f"a dog {i}"} for i in (1, 1, 2)]
    write_json(folder / "captions_val.json", {"images": images, "annotations": captions})


def karpathy(folder: Path) -> None:
    photos(folder, "v/1.jpg", "v/2.jpg")
    images = [
        {"filename": f"{i}.jpg", "filepath": "v", "cocoid": i, "split": split, "sentences": [{"raw": f"a dog {i}"}]}
        for i, split in enumerate(("train", "val"), start=1)
    ]
    write_json(folder / "dataset.json", {"images": images})


def lavis(folder: Path) -> None:
    photos(folder, "1.jpg", "2.jpg")
    write_json(
        folder / "a_val.json", [{"image": "1.jpg", "caption": "a dog"}, {"image": "2.jpg", "captions": ["b", "c"]}]
    )


def parquet(folder: Path) -> None:
    columns = {"image": [image(i, f"{i}.jpg") for i in range(4)], "captions": [["a dog", "b"]] * 4}
    write_parquet(folder / "train.parquet", {**columns, "split": ["train", "val"] * 2}, rows_a_group=3)


def path_list(folder: Path) -> None:
    write_parquet(folder / "list.parquet", {"url": ["a/1.jpg", "https://example.org/2.jpg"], "size": [1, 2]})


def shard(folder: Path) -> None:
    members = ((f"{i}.jpg", jpeg(i), f"{i}.json", {"captions": ["a dog"], "cocoid": i}) for i in range(3))
    texts = [("3.jpg", jpeg(3)), ("3.txt", b"a dog")]
    write_shard(folder / "train-0.tar", [*((m[k], m[k + 1]) for m in members for k in (0, 2)), *texts])


def flickr(folder: Path) -> None:
    photos(folder, "1.jpg", "2.jpg")
    write(folder / "a.token", "1.jpg#0\ta dog", "1.jpg#1\ta cat", "2.jpg#0\té")
    write(folder / "a_trainImages.txt", "1.jpg")
    write(folder / "a_devImages.txt", "2.jpg")


def csv_file(name: str, head: str, *rows: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        photos(folder, "1.jpg", "2.jpg")
        write(folder / name, head, *rows)

    return make


def scan(folder: Path) -> Path:
    write(folder / "dev_caps.txt", *("a", "b", "c", "d"))
    write(folder / "dev_ids.txt", "7", "8")
    np.save(folder / "dev_ims.npy", np.arange(2 * M * D, dtype=np.float32).reshape(2, M, D))
    return folder


def vse_infinity(folder: Path) -> None:
    photos(folder, "1.jpg", "2.jpg")
    (folder / "precomp").mkdir()
    scan(folder / "precomp")
    write_json(folder / "id_mapping.json", {"7": "1.jpg", "8": "2.jpg"})


def entities(folder: Path) -> None:
    phrases = [{"start": 0, "end": 2, "chain": "11", "types": ["people"]}]
    record = {
        "width": 500,
        "height": 375,
        "boxes": [{"box": [0, 1, 30, 40], "chains": ["11", "12"]}],
        "sentences": [{"tokens": ["a", "dog", "runs"], "phrases": phrases}],
    }
    write(folder / "entities.jsonl", *(json.dumps({"file": f"{i}.jpg", **record}) for i in range(2)))


def original_entities(folder: Path) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
    thing = f"<object><name>11</name>{box}</object>"
    write(
        folder / "Annotations/1.xml",
        f"<annotation><size><width>500</width><height>375</height></size>{thing}</annotation>",
    )
    write(folder / "Sentences/1.txt", "[/EN#11/people/other Two dogs] look at [/EN#0/notvisual each other] .")


def tsv(folder: Path) -> None:
    from base64 import b64encode

    def code(width: int, kind: type = np.float32) -> str:
        return b64encode(np.ones((M, width), kind).tobytes()).decode()

    whole = code(1, np.int64)
    write(folder / "a.tsv", "\t".join(("1", "640", "480", str(M), code(4), code(D))))
    lxmert = ("2", "480", "640", whole, code(1), whole, code(1), str(M), code(4), code(D))
    write(folder / "b.tsv", "\t".join(lxmert))


def npz(folder: Path) -> None:
    fields = {"x": np.ones((M, D), np.float32), "bbox": np.ones((M, 4), np.float32), "num_bbox": M}
    np.savez_compressed(folder / "1.npz", **fields, image_h=480, image_w=640)


def text_file(name: str, *texts: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).write_text("\n".join(texts))

    return make


def without_checksums(folder: Path) -> None:
    """As models were saved before they had checksums, so that what is spoiled is read."""
    (folder / "checksums.json").unlink(missing_ok=True)


def model(folder: Path) -> None:
    make_model(folder)
    calibration = {"slope": 2.0, "intercept": 0.0, "threshold": 0.5, "precision": 1.0, "recall": 1.0, "error": 0.0}
    calibration |= {"reliability": [{"probability": 0.5, "right": 0.5, "pairs": 2}], "answered_without": 0.0}
    counts = dict.fromkeys(("photos", "sentences", "shown", "pairs"), 2)
    Calibration(**calibration, **counts, split="dev", model=folder_hash(folder)).write(folder)
    TextMap(torch.eye(16), torch.zeros(16)).write(folder, model=folder_hash(folder))
    without_checksums(folder)


def detector(folder: Path) -> None:
    from tiny_detector import tiny_network

    network = tiny_network()
    save_detector(folder, network.config, network.learned(), card="")
    without_checksums(folder)


def text_encoder(folder: Path) -> None:
    PretrainedText(Vocabulary.from_sentences(["a dog"]), {"a": torch.ones(2)}, "minilm-1-0123").save(folder)
    without_checksums(folder)


def sentence_modules(folder: Path) -> None:
    """What a sentence-transformers folder has behind its language model."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3_Normalize": "Normalize"}
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules))
    configs = {
        "1_Pooling": {"word_embedding_dimension": 4, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
        "2_Dense": {"in_features": 4, "out_features": 2, "activation_function": "torch.nn.modules.activation.Tanh"},
    }
    for name, config in configs.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    weights = {"linear.weight": torch.ones(2, 4), "linear.bias": torch.zeros(2)}
    (folder / "2_Dense/model.safetensors").write_bytes(tensor_bytes(weights))


def run_config(folder: Path) -> None:
    (folder / "training").mkdir()
    (folder / "training/config.json").write_text(TrainingConfig().model_dump_json())


def make_state() -> RunState:
    weights = {"weight": torch.ones(2, 2, requires_grad=True)}
    return RunState(weights, torch.optim.AdamW(weights.values()), {"photos": 2})


def checkpoint(folder: Path) -> None:
    state = make_state()
    (state.weights["weight"].sum() * 2).backward()
    state.optimizer.step()
    state.step = 1
    state.save(folder)
    without_checksums(folder / "checkpoint-000000001")


def results(folder: Path) -> None:
    images, captions = ["a", "b"], ["a#0", "b#0", "b#1"]
    ways: dict[str, Any] = {
        "image_to_text": {"id": images, "image": images, "fold": [0, 0], "rank": [1, 2]},
        "text_to_image": {"id": captions, "image": ["a", "b", "b"], "fold": [0, 0, 0], "rank": [1, 2, 1]},
    }
    for way in ways.values():
        way["AP@R"] = way["R-Precision"] = way["nDCG@10"] = [1 / rank for rank in way["rank"]]
    for name in ("a.json", "b.json"):
        write_json(folder / name, {"model": "m", "queries": ways})


def table_files(folder: Path) -> None:
    files = {name: hashes.FileHashes(4, "0" * 32, None) for name in ("data/a.lance", "_deletions/b")}
    for name in (*files, hashes.manifest_path(folder, 1), "_hashes/1.json"):
        write(folder / name, "abc")
    found = {name: hashes.hash_file(folder / name, whole=True) for name in files}
    write_json(folder / "_hashes/1.json", asdict(hashes.VersionHashes("0" * 32, found)))
