"""Every parser of what comes from outside: valid files, and the function that reads them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import valid_files as valid
from dataset_files import write_json
from packed_files import write_benchmark
from PIL import Image
from tiny_index import make_model
from written_about import XMP

from han_retrieval.config import load_config
from han_retrieval.data import open_photo, read_dataset, read_entities, read_sentences
from han_retrieval.data.written import read_text
from han_retrieval.errors import DataError
from han_retrieval.evaluation import compare
from han_retrieval.evaluation.report import read_results
from han_retrieval.matchers import load_matcher
from han_retrieval.matchers.saving import folder_hash
from han_retrieval.regions.bottom_up.saving import load_network
from han_retrieval.regions.boxes_file import FileBoxes
from han_retrieval.regions.extraction import _read_skipped
from han_retrieval.regions.feature_files import FEATURE_FORMATS
from han_retrieval.search import Calibration, parse_query
from han_retrieval.search.pooling import TextMap
from han_retrieval.search.settings import Patterns, Settings
from han_retrieval.search.table import read_broken
from han_retrieval.storage import hashes
from han_retrieval.text import Vocabulary, word_vectors
from han_retrieval.text.sentence_pooling import SentencePooling
from han_retrieval.text.vectors import frequent_words
from han_retrieval.training import TrainingConfig
from han_retrieval.training.detector.config import DetectorTrainingConfig
from han_retrieval.training.log import read_log
from han_retrieval.training.pretraining import read_captions
from han_retrieval.training.run_folder import check_folder
from han_retrieval.training.text_weights import load_pretrained_text


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


def _packed(file: str) -> Callable[[Path], object]:
    """As ``_dataset``, and what its photos' containers give."""

    def read(folder: Path) -> object:
        photos = read_dataset(folder / file).photos
        for photo in photos[:5]:
            with suppress(DataError):  # of a photo alone, which is skipped
                assert photo.packed is not None
                open_photo(photo.packed.read())
        return photos

    return read


def _features(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        if not FEATURE_FORMATS[name].recognises(folder):
            return None
        _, images = FEATURE_FORMATS[name].images(folder, None)
        return [image.load() for image in images]

    return read


def _read_text(folder: Path, name: str = "text.txt") -> str:
    """As an argument of the command line comes in."""
    return (folder / name).read_bytes().decode("utf-8", "surrogateescape")


def _written(folder: Path) -> str | None:
    """What is written in a photo whose XMP and IPTC are both the same bytes."""
    photo = Image.new("RGB", (1, 1))
    content = (folder / "text.txt").read_bytes()
    photo.info = {"xmp": content, "photoshop": {0x0404: content}}
    return read_text(photo)


def _calibration(folder: Path) -> None:
    found = Calibration.read(folder)
    if found is not None:
        assert np.isfinite(found.probability([-1.0, 0.0, 1.0], among=3)).all()


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
    "coco": Parser(valid.coco, ("captions_val.json",), _dataset("captions_val.json", "coco")),
    "karpathy": Parser(valid.karpathy, ("dataset.json",), _dataset("dataset.json", "karpathy")),
    "lavis": Parser(valid.lavis, ("a_val.json",), _dataset("a_val.json", "lavis")),
    "flickr": Parser(valid.flickr, ("a.token", "a_trainImages.txt"), _dataset("a.token", "flickr")),
    "flickr csv": Parser(
        valid.csv_file("captions.txt", "image,caption", "1.jpg,a dog", '2.jpg,"a, b"'),
        ("captions.txt",),
        _dataset("captions.txt", "flickr"),
    ),
    "metadata csv": Parser(
        valid.csv_file(
            "metadata.csv", "file_name;captions;split", '1.jpg;"[""a dog"", ""b""]";train', "2.jpg;['a', 'b'];dev"
        ),
        ("metadata.csv",),
        _dataset("metadata.csv", "metadata"),
    ),
    "metadata jsonl": Parser(
        valid.csv_file(
            "metadata.jsonl",
            '{"file_name": "1.jpg", "captions": ["a", "b"], "split": "train"}',
            '{"image": "2.jpg", "captions": "[\'a\']", "split": "dev"}',
        ),
        ("metadata.jsonl",),
        _dataset("metadata.jsonl", "metadata"),
    ),
    "recognise": Parser(valid.coco, ("captions_val.json",), _dataset("captions_val.json", None)),
    "parquet": Parser(valid.parquet, ("train.parquet",), _packed("train.parquet"), share=0.5),
    "manifest": Parser(
        valid.text_file("list.txt", "# photos", "a/1.jpg", "https://example.org/2.jpg", "file:///a%20b/3.jpg"),
        ("list.txt",),
        _dataset("list.txt", "manifest"),
    ),
    "manifest parquet": Parser(valid.path_list, ("list.parquet",), _dataset("list.parquet", "manifest")),
    "webdataset": Parser(valid.shard, ("train-0.tar",), _packed("train-0.tar")),
    "benchmark": Parser(
        write_benchmark,
        tuple(f"{name}-00000-of-00001.parquet" for name in ("query/test", "corpus/corpus", "qrels/test")),
        _packed("."),
        share=0.3,
    ),
    "scan": Parser(valid.scan, ("dev_caps.txt", "dev_ids.txt", "dev_ims.npy"), _dataset(".", "scan")),
    "vse-infinity": Parser(
        valid.vse_infinity, ("id_mapping.json", "precomp/dev_ids.txt"), _dataset(".", "vse-infinity")
    ),
    "sentences": Parser(
        valid.text_file("a.txt", "a dog", "", "a cat"),
        ("a.txt",),
        lambda folder: read_sentences(folder / "a.txt"),
    ),
    "captions": Parser(
        valid.text_file("a.jsonl", '{"captions": ["a dog", "b"]}', '{"captions": []}'),
        ("a.jsonl",),
        lambda folder: read_captions(folder / "a.jsonl"),
    ),
    "entities": Parser(valid.entities, ("entities.jsonl",), lambda folder: read_entities(folder / "entities.jsonl")),
    "entities xml": Parser(valid.original_entities, ("Annotations/1.xml", "Sentences/1.txt"), read_entities),
    "boxes": Parser(
        valid.text_file(
            "a.jsonl",
            '{"photo": "a.jpg", "boxes": [[0, 1, 20, 30.5], [4, 5, 6, 7]], "labels": ["a", "b"], "scores": [0.9, 1]}',
            '{"photo": "b.jpg", "boxes": []}',
        ),
        ("a.jsonl",),
        lambda folder: FileBoxes(folder / "a.jsonl", regions=9),
    ),
    "features npy": Parser(valid.scan, ("dev_ims.npy", "dev_ids.txt"), _features("scan-npy")),
    "features tsv": Parser(valid.tsv, ("a.tsv", "b.tsv"), _features("bottom-up-tsv")),
    "features npz": Parser(valid.npz, ("1.npz",), _features("bottom-up-npz")),
    "configuration": Parser(
        valid.text_file(
            "a.toml", "epochs = 3", 'optimizer = "adam"', "power = inf", "[model]", "blocks = 2", "word_size = 8"
        ),
        ("a.toml",),
        lambda folder: load_config(TrainingConfig, folder / "a.toml"),
    ),
    "detector configuration": Parser(
        valid.text_file("a.toml", "epochs = 3", "smallest = 64", "largest = 96", "crop = 0.5"),
        ("a.toml",),
        lambda folder: load_config(DetectorTrainingConfig, folder / "a.toml"),
    ),
    "override": Parser(
        valid.text_file("text.txt", "model.blocks=2"),
        ("text.txt",),
        lambda folder: load_config(TrainingConfig, overrides=[_read_text(folder)]),
    ),
    "model": Parser(valid.model, ("config.json", "vocabulary.json", "model.safetensors"), load_matcher, share=0.3),
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
        valid.text_file("vectors.txt", "3 2", "dog 0.1 0.2", "cat 1e-3 -2", "bird 0 1", ""),
        ("vectors.txt",),
        _vectors,
    ),
    "calibration": Parser(valid.model, ("calibration.json",), _calibration),
    "candidates": Parser(
        valid.model,
        ("candidates.safetensors",),
        lambda folder: TextMap.read(folder, model=folder_hash(folder), size=16),
    ),
    "checksums.json": Parser(make_model, ("checksums.json",), load_matcher, share=0.5),
    "detector": Parser(valid.detector, ("config.json", "model.safetensors"), load_network, share=0.003),
    "text encoder": Parser(
        valid.text_encoder,
        ("vocabulary.json", "text_encoder.json", "text_encoder.safetensors"),
        load_pretrained_text,
    ),
    "sentence encoder": Parser(
        valid.sentence_modules,
        ("modules.json", "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"),
        SentencePooling.read,
    ),
    "index.json": Parser(
        lambda folder: Settings(table="photos-1", model="m", roots={"/a": Patterns(include=("*.jpg",))}).write(folder),
        ("index.json",),
        Settings.read,
    ),
    "hashes of a table": Parser(valid.table_files, ("_hashes/1.json",), _check_table_files),
    "broken.jsonl": Parser(
        valid.text_file("broken.jsonl", '{"root": "/a", "path": "b.jpg", "size": 1, "mtime": 2, "reason": "no photo"}'),
        ("broken.jsonl",),
        lambda folder: sorted(read_broken(folder).items(), key=lambda item: item[0]),
    ),
    "skipped.jsonl": Parser(
        valid.text_file("skipped.jsonl", '{"photo": "a", "reason": "no photo"}', '{"photo": "b", "reason": "none"}'),
        ("skipped.jsonl",),
        lambda folder: _read_skipped(folder),
    ),
    "run configuration": Parser(
        valid.run_config,
        ("training/config.json",),
        lambda folder: check_folder(folder, TrainingConfig(), resume=True),
    ),
    "metrics.jsonl": Parser(
        valid.text_file("metrics.jsonl", '{"step": 1, "loss": 2.5}', '{"step": 2, "epoch": 1, "dev": {"rsum": 3}}'),
        ("metrics.jsonl",),
        lambda folder: [record["step"] <= 1 for record in read_log(folder / "metrics.jsonl")],
    ),
    "checkpoint": Parser(
        valid.checkpoint,
        ("checkpoint-000000001/state.json", "checkpoint-000000001/tensors.safetensors"),
        lambda folder: valid.make_state().resume(folder),
        share=0.5,
    ),
    "compare": Parser(valid.results, ("a.json", "b.json"), _compare, share=0.5),
    "query": Parser(
        valid.text_file("text.txt", '2 * "a dog" - 0.5 * "a leash" + a/b.jpg - photo:"c d.png" + photo:0f'),
        ("text.txt",),
        lambda folder: parse_query(_read_text(folder)),
    ),
    "written": Parser(
        valid.text_file("text.txt", *XMP.decode().split("\n")),
        ("text.txt",),
        _written,
    ),
    "where": Parser(
        valid.text_file(
            "text.txt", "date >= '2024' and (width > height * 2 or path like '%.jpg') and not size in (1, 2)"
        ),
        ("text.txt",),
        lambda folder: _index(folder).filter(_read_text(folder)),
        share=0.5,
    ),
    "server": Parser(
        valid.text_file("text.txt", "photos", "where=width > 2 and date is null"),
        ("text.txt",),
        _request,
        share=0.05,
    ),
    "server form": Parser(
        valid.text_file(
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
