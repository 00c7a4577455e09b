"""Every parser of what comes from outside: valid files, and the function that reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dataset_files import photos, write, write_json
from tiny_index import make_model

from han_retrieval.config import load_config
from han_retrieval.data import read_dataset, read_entities, read_sentences
from han_retrieval.evaluation import compare
from han_retrieval.evaluation.report import read_results
from han_retrieval.matchers import load_matcher
from han_retrieval.matchers.saving import folder_hash
from han_retrieval.regions.bottom_up.saving import load_network, save_detector
from han_retrieval.regions.extraction import _read_skipped
from han_retrieval.regions.feature_files import FEATURE_FORMATS
from han_retrieval.search import Calibration, parse_query
from han_retrieval.search.pooling import TextMap
from han_retrieval.search.settings import Patterns, Settings
from han_retrieval.search.table import read_broken
from han_retrieval.storage import hashes
from han_retrieval.text import Vocabulary, word_vectors
from han_retrieval.text.vectors import frequent_words
from han_retrieval.training import TrainingConfig
from han_retrieval.training.detector.config import DetectorTrainingConfig
from han_retrieval.training.log import read_log
from han_retrieval.training.pretraining import read_captions
from han_retrieval.training.run_folder import check_folder
from han_retrieval.training.state import RunState
from han_retrieval.training.text_weights import PretrainedText, load_pretrained_text

M, D = 3, 4


@dataclass(frozen=True)
class Parser:
    """A parser.

    Attributes:
        write: Writes valid files into an empty folder.
        files: Those that are spoiled, one at a time.
        read: Reads the folder.
        share: The share of the usual number of inputs; less than 1 where reading is slow.
    """

    write: Callable[[Path], object]
    files: tuple[str, ...]
    read: Callable[[Path], object]
    share: float = 1.0


def _dataset(file: str, format: str | None) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        return read_dataset(folder / file, format=format).divided()

    return read


def _coco(folder: Path) -> None:
    photos(folder, "1.jpg", "2.jpg")
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2)]
    captions = [{"image_id": i, "caption": f"a dog {i}"} for i in (1, 1, 2)]
    write_json(folder / "captions_val.json", {"images": images, "annotations": captions})


def _karpathy(folder: Path) -> None:
    photos(folder, "v/1.jpg", "v/2.jpg")
    images = [
        {"filename": f"{i}.jpg", "filepath": "v", "cocoid": i, "split": split, "sentences": [{"raw": f"a dog {i}"}]}
        for i, split in enumerate(("train", "val"), start=1)
    ]
    write_json(folder / "dataset.json", {"images": images})


def _lavis(folder: Path) -> None:
    photos(folder, "1.jpg", "2.jpg")
    write_json(
        folder / "a_val.json", [{"image": "1.jpg", "caption": "a dog"}, {"image": "2.jpg", "captions": ["b", "c"]}]
    )


def _flickr(folder: Path) -> None:
    photos(folder, "1.jpg", "2.jpg")
    write(folder / "a.token", "1.jpg#0\ta dog", "1.jpg#1\ta cat", "2.jpg#0\té")
    write(folder / "a_trainImages.txt", "1.jpg")
    write(folder / "a_devImages.txt", "2.jpg")


def _csv(name: str, head: str, *rows: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        photos(folder, "1.jpg", "2.jpg")
        write(folder / name, head, *rows)

    return make


def _scan(folder: Path) -> Path:
    write(folder / "dev_caps.txt", *("a", "b", "c", "d"))
    write(folder / "dev_ids.txt", "7", "8")
    np.save(folder / "dev_ims.npy", np.arange(2 * M * D, dtype=np.float32).reshape(2, M, D))
    return folder


def _vse_infinity(folder: Path) -> None:
    photos(folder, "1.jpg", "2.jpg")
    (folder / "precomp").mkdir()
    _scan(folder / "precomp")
    write_json(folder / "id_mapping.json", {"7": "1.jpg", "8": "2.jpg"})


def _entities(folder: Path) -> None:
    phrases = [{"start": 0, "end": 2, "chain": "11", "types": ["people"]}]
    record = {
        "width": 500,
        "height": 375,
        "boxes": [{"box": [0, 1, 30, 40], "chains": ["11", "12"]}],
        "sentences": [{"tokens": ["a", "dog", "runs"], "phrases": phrases}],
    }
    write(folder / "entities.jsonl", *(json.dumps({"file": f"{i}.jpg", **record}) for i in range(2)))


def _original_entities(folder: Path) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
    thing = f"<object><name>11</name>{box}</object>"
    write(
        folder / "Annotations/1.xml",
        f"<annotation><size><width>500</width><height>375</height></size>{thing}</annotation>",
    )
    write(folder / "Sentences/1.txt", "[/EN#11/people/other Two dogs] look at [/EN#0/notvisual each other] .")


def _tsv(folder: Path) -> None:
    from base64 import b64encode

    def code(width: int, kind: type = np.float32) -> str:
        return b64encode(np.ones((M, width), kind).tobytes()).decode()

    whole = code(1, np.int64)
    write(folder / "a.tsv", "\t".join(("1", "640", "480", str(M), code(4), code(D))))
    lxmert = ("2", "480", "640", whole, code(1), whole, code(1), str(M), code(4), code(D))
    write(folder / "b.tsv", "\t".join(lxmert))


def _npz(folder: Path) -> None:
    fields = {"x": np.ones((M, D), np.float32), "bbox": np.ones((M, 4), np.float32), "num_bbox": M}
    np.savez_compressed(folder / "1.npz", **fields, image_h=480, image_w=640)


def _features(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        if not FEATURE_FORMATS[name].recognises(folder):
            return None
        _, images = FEATURE_FORMATS[name].images(folder, None)
        return [image.load() for image in images]

    return read


def _text(name: str, *texts: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).write_text("\n".join(texts))

    return make


def _read_text(folder: Path, name: str = "text.txt") -> str:
    """As an argument of the command line comes in."""
    return (folder / name).read_bytes().decode("utf-8", "surrogateescape")


def _without_checksums(folder: Path) -> None:
    """As models were saved before they had checksums, so that what is spoiled is read."""
    (folder / "checksums.json").unlink(missing_ok=True)


def _model(folder: Path) -> None:
    make_model(folder)
    calibration = {"slope": 2.0, "intercept": 0.0, "threshold": 0.5, "precision": 1.0, "recall": 1.0, "error": 0.0}
    calibration |= {"reliability": [{"probability": 0.5, "right": 0.5, "pairs": 2}], "answered_without": 0.0}
    counts = dict.fromkeys(("photos", "sentences", "shown", "pairs"), 2)
    Calibration(**calibration, **counts, split="dev", model=folder_hash(folder)).write(folder)
    TextMap(torch.eye(16), torch.zeros(16)).write(folder, model=folder_hash(folder))
    _without_checksums(folder)


def _calibration(folder: Path) -> None:
    found = Calibration.read(folder)
    if found is not None:
        assert np.isfinite(found.probability([-1.0, 0.0, 1.0], among=3)).all()


def _detector(folder: Path) -> None:
    from tiny_detector import tiny_network

    network = tiny_network()
    save_detector(folder, network.config, network.learned(), card="")
    _without_checksums(folder)


def _text_encoder(folder: Path) -> None:
    PretrainedText(Vocabulary.from_sentences(["a dog"]), {"a": torch.ones(2)}).save(folder)
    _without_checksums(folder)


def _run_config(folder: Path) -> None:
    (folder / "training").mkdir()
    (folder / "training/config.json").write_text(TrainingConfig().model_dump_json())


def _state() -> RunState:
    weights = {"weight": torch.ones(2, 2, requires_grad=True)}
    return RunState(weights, torch.optim.AdamW(weights.values()), {"photos": 2})


def _checkpoint(folder: Path) -> None:
    state = _state()
    (state.weights["weight"].sum() * 2).backward()
    state.optimizer.step()
    state.step = 1
    state.save(folder)
    _without_checksums(folder / "checkpoint-000000001")


def _results(folder: Path) -> None:
    images, captions = ["a", "b"], ["a#0", "b#0", "b#1"]
    ways: dict[str, Any] = {
        "image_to_text": {"id": images, "image": images, "fold": [0, 0], "rank": [1, 2]},
        "text_to_image": {"id": captions, "image": ["a", "b", "b"], "fold": [0, 0, 0], "rank": [1, 2, 1]},
    }
    for way in ways.values():
        way["AP@R"] = way["R-Precision"] = [1 / rank for rank in way["rank"]]
    for name in ("a.json", "b.json"):
        write_json(folder / name, {"model": "m", "queries": ways})


def _compare(folder: Path) -> object:
    (_, a), (_, b) = (read_results(folder / name) for name in ("a.json", "b.json"))
    found = compare(a, b, resamples=5)
    assert all(np.isfinite([row.a, row.b, row.low, row.high, row.p_value]).all() for row in found)
    return found


def _vectors(folder: Path) -> object:
    frequent_words(folder / "vectors.txt", count=10)
    vectors, _ = word_vectors(("dog", "cat"), source=folder / "vectors.txt")
    assert np.isfinite(vectors).all()
    return vectors


def _table_files(folder: Path) -> None:
    files = {name: hashes.FileHashes(4, "0" * 32, None) for name in ("data/a.lance", "_deletions/b")}
    for name in (*files, hashes.manifest_path(folder, 1), "_hashes/1.json"):
        write(folder / name, "abc")
    found = {name: hashes.hash_file(folder / name, whole=True) for name in files}
    write_json(folder / "_hashes/1.json", asdict(hashes.VersionHashes("0" * 32, found)))


def _check_table_files(folder: Path) -> object:
    found = hashes.read_hashes(folder, 1)
    damage = [hashes.quick_check(folder, name, each) for name, each in found.files.items()]
    return [hashes.check_manifest(folder, 1, found), *damage]


@cache
def _index(folder: Path) -> Any:
    from tiny_index import make_photos, update

    from han_retrieval.search import Index

    update(make_photos(folder / "photos", 2), folder / "index", make_model(folder / "model"))
    return Index.open(folder / "index")


@cache
def _server(folder: Path) -> Any:
    from served import client, make_index

    from han_retrieval.serve import SearchService

    return client(SearchService(make_index(folder, photos=2)))


def _request(folder: Path) -> None:
    """A request whose path and parameters, or whose form, come from a file."""
    server = _server(folder)
    kind, _, text = _read_text(folder).partition("\n")
    text = text.encode("utf-8", "replace").decode()[:20_000]
    if kind == "form":
        answer = server.post(
            "/api/captions", content=text.encode(), headers={"content-type": "multipart/form-data; boundary=x"}
        )
    else:
        name, _, value = text.partition("=")
        answer = server.get(f"/api/{'search' if kind == 'search' else 'photos'}", params={"q": "a dog", name: value})
    assert answer.status_code < 500, (answer.status_code, answer.text)
    assert len(answer.content) < 10_000, answer.text


PARSERS = {
    "coco": Parser(_coco, ("captions_val.json",), _dataset("captions_val.json", "coco")),
    "karpathy": Parser(_karpathy, ("dataset.json",), _dataset("dataset.json", "karpathy")),
    "lavis": Parser(_lavis, ("a_val.json",), _dataset("a_val.json", "lavis")),
    "flickr": Parser(_flickr, ("a.token", "a_trainImages.txt"), _dataset("a.token", "flickr")),
    "flickr csv": Parser(
        _csv("captions.txt", "image,caption", "1.jpg,a dog", '2.jpg,"a, b"'),
        ("captions.txt",),
        _dataset("captions.txt", "flickr"),
    ),
    "metadata csv": Parser(
        _csv("metadata.csv", "file_name;captions;split", '1.jpg;"[""a dog"", ""b""]";train', "2.jpg;['a', 'b'];dev"),
        ("metadata.csv",),
        _dataset("metadata.csv", "metadata"),
    ),
    "metadata jsonl": Parser(
        _csv(
            "metadata.jsonl",
            '{"file_name": "1.jpg", "captions": ["a", "b"], "split": "train"}',
            '{"image": "2.jpg", "captions": "[\'a\']", "split": "dev"}',
        ),
        ("metadata.jsonl",),
        _dataset("metadata.jsonl", "metadata"),
    ),
    "recognise": Parser(_coco, ("captions_val.json",), _dataset("captions_val.json", None)),
    "scan": Parser(_scan, ("dev_caps.txt", "dev_ids.txt", "dev_ims.npy"), _dataset(".", "scan")),
    "vse-infinity": Parser(_vse_infinity, ("id_mapping.json", "precomp/dev_ids.txt"), _dataset(".", "vse-infinity")),
    "sentences": Parser(
        _text("a.txt", "a dog", "", "a cat"), ("a.txt",), lambda folder: read_sentences(folder / "a.txt")
    ),
    "captions": Parser(
        _text("a.jsonl", '{"captions": ["a dog", "b"]}', '{"captions": []}'),
        ("a.jsonl",),
        lambda folder: read_captions(folder / "a.jsonl"),
    ),
    "entities": Parser(_entities, ("entities.jsonl",), lambda folder: read_entities(folder / "entities.jsonl")),
    "entities xml": Parser(_original_entities, ("Annotations/1.xml", "Sentences/1.txt"), read_entities),
    "features npy": Parser(_scan, ("dev_ims.npy", "dev_ids.txt"), _features("scan-npy")),
    "features tsv": Parser(_tsv, ("a.tsv", "b.tsv"), _features("bottom-up-tsv")),
    "features npz": Parser(_npz, ("1.npz",), _features("bottom-up-npz")),
    "configuration": Parser(
        _text("a.toml", "epochs = 3", 'optimizer = "adam"', "power = inf", "[model]", "blocks = 2", "word_size = 8"),
        ("a.toml",),
        lambda folder: load_config(TrainingConfig, folder / "a.toml"),
    ),
    "detector configuration": Parser(
        _text("a.toml", "epochs = 3", "smallest = 64", "largest = 96", "crop = 0.5"),
        ("a.toml",),
        lambda folder: load_config(DetectorTrainingConfig, folder / "a.toml"),
    ),
    "override": Parser(
        _text("text.txt", "model.blocks=2"),
        ("text.txt",),
        lambda folder: load_config(TrainingConfig, overrides=[_read_text(folder)]),
    ),
    "model": Parser(_model, ("config.json", "vocabulary.json", "model.safetensors"), load_matcher, share=0.3),
    "vocabulary": Parser(
        lambda folder: Vocabulary.from_sentences(["a dog", "a cat"]).save(folder / "vocabulary.json"),
        ("vocabulary.json",),
        lambda folder: Vocabulary.load(folder / "vocabulary.json"),
    ),
    "vocabulary of SCAN": Parser(
        lambda folder: write_json(
            folder / "vocabulary.json",
            {"word2idx": {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "dog": 4}, "idx2word": {"0": "<pad>"}},
        ),
        ("vocabulary.json",),
        lambda folder: Vocabulary.load(folder / "vocabulary.json"),
    ),
    "word vectors": Parser(
        _text("vectors.txt", "3 2", "dog 0.1 0.2", "cat 1e-3 -2", "bird 0 1", ""), ("vectors.txt",), _vectors
    ),
    "calibration": Parser(_model, ("calibration.json",), _calibration),
    "candidates": Parser(
        _model,
        ("candidates.safetensors",),
        lambda folder: TextMap.read(folder, model=folder_hash(folder), size=16),
    ),
    "checksums.json": Parser(make_model, ("checksums.json",), load_matcher, share=0.5),
    "detector": Parser(_detector, ("config.json", "model.safetensors"), load_network, share=0.003),
    "text encoder": Parser(
        _text_encoder,
        ("vocabulary.json", "text_encoder.safetensors"),
        load_pretrained_text,
    ),
    "index.json": Parser(
        lambda folder: Settings(table="photos-1", model="m", roots={"/a": Patterns(include=("*.jpg",))}).write(folder),
        ("index.json",),
        Settings.read,
    ),
    "hashes of a table": Parser(_table_files, ("_hashes/1.json",), _check_table_files),
    "broken.jsonl": Parser(
        _text("broken.jsonl", '{"root": "/a", "path": "b.jpg", "size": 1, "mtime": 2, "reason": "no photo"}'),
        ("broken.jsonl",),
        lambda folder: sorted(read_broken(folder).items(), key=lambda item: item[0]),
    ),
    "skipped.jsonl": Parser(
        _text("skipped.jsonl", '{"photo": "a", "reason": "no photo"}', '{"photo": "b", "reason": "none"}'),
        ("skipped.jsonl",),
        lambda folder: _read_skipped(folder, {"a", "b"}),
    ),
    "run configuration": Parser(
        _run_config,
        ("training/config.json",),
        lambda folder: check_folder(folder, TrainingConfig(), resume=True),
    ),
    "metrics.jsonl": Parser(
        _text("metrics.jsonl", '{"step": 1, "loss": 2.5}', '{"step": 2, "epoch": 1, "dev": {"rsum": 3}}'),
        ("metrics.jsonl",),
        lambda folder: [record["step"] <= 1 for record in read_log(folder / "metrics.jsonl")],
    ),
    "checkpoint": Parser(
        _checkpoint,
        ("checkpoint-000000001/state.json", "checkpoint-000000001/tensors.safetensors"),
        lambda folder: _state().resume(folder),
        share=0.5,
    ),
    "compare": Parser(_results, ("a.json", "b.json"), _compare, share=0.5),
    "query": Parser(
        _text("text.txt", '2 * "a dog" - 0.5 * "a leash" + "snow"'),
        ("text.txt",),
        lambda folder: parse_query(_read_text(folder)),
    ),
    "where": Parser(
        _text("text.txt", "date >= '2024' and (width > height * 2 or path like '%.jpg') and not size in (1, 2)"),
        ("text.txt",),
        lambda folder: _index(folder).filter(_read_text(folder)),
        share=0.5,
    ),
    "server": Parser(
        _text("text.txt", "photos", "where=width > 2 and date is null"), ("text.txt",), _request, share=0.05
    ),
    "server form": Parser(
        _text(
            "text.txt",
            "form",
            "--x",
            'Content-Disposition: form-data; name="sentences"',
            "",
            "a red dog",
            "--x",
            'Content-Disposition: form-data; name="id"',
            "",
            "0123",
            "--x--",
        ),
        ("text.txt",),
        _request,
        share=0.05,
    ),
}
