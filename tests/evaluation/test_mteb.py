"""A model on tasks of mteb, run by mteb itself."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from drawn_photos import ColourDetector, write_drawn_photos
from training_data import small_config

from han_retrieval.data import CaptionedPhotos, read_dataset
from han_retrieval.errors import ConfigError, DataError
from han_retrieval.evaluation import evaluate
from han_retrieval.evaluation.mteb import SearchModel
from han_retrieval.matchers import load_matcher
from han_retrieval.regions import RegionStore, extract
from han_retrieval.retriever import Retriever
from han_retrieval.text import EncodedSentence
from han_retrieval.training import train

# mteb takes seconds to import
pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("mteb") is None, reason="mteb is not installed")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn photos, their features, and a HAN that learned a little of them."""
    folder = tmp_path_factory.mktemp("mteb")
    write_drawn_photos(folder / "photos", train=40, dev=21)
    dataset = read_dataset(folder / "photos")
    extract(dataset, ColourDetector(), folder / "features")
    store = RegionStore.open(folder / "features")
    train(small_config(epochs=4), dataset, store, folder / "model", progress=False)
    return folder


@pytest.fixture
def retriever(folder: Path) -> Retriever:
    return Retriever(load_matcher(folder / "model"), name=str(folder / "model"), detector=ColourDetector())


def dev_photos(folder: Path) -> CaptionedPhotos:
    """The dev split, each sentence once: where two documents score the same, mteb's order is by their names."""
    dev, seen = read_dataset(folder / "photos").split("dev"), set()
    kept = []
    for photo in dev.photos:
        kept.append(replace(photo, captions=tuple(each for each in photo.captions if each not in seen)))
        seen |= set(photo.captions)
    return replace(dev, photos=tuple(kept))


def make_task(folder: Path, category: str, **fields: object) -> Any:
    """The dev split as mteb has Flickr30k: photos and each of their captions, with an id."""
    from datasets import Dataset, Image
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    dev = dev_photos(folder).photos
    images = Dataset.from_dict({"id": [p.id for p in dev], "image": [str(p.path) for p in dev]})
    images = images.cast_column("image", Image())
    pairs = [(photo.id, f"{photo.id}#{k}", caption) for photo in dev for k, caption in enumerate(photo.captions)]
    texts = Dataset.from_dict({"id": [name for _, name, _ in pairs], "text": [caption for *_, caption in pairs]})
    relevant: dict[str, dict[str, int]] = {}
    for photo, caption, _ in pairs:
        query, document = (caption, photo) if category == "t2i" else (photo, caption)
        relevant.setdefault(query, {})[document] = 1
    queries, corpus = (texts, images) if category == "t2i" else (images, texts)

    class Drawn(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=f"Drawn{category.upper()}Retrieval", description="Drawn photos.", reference=None, category=category,
            dataset={"path": "none/none", "revision": "1"}, type="Any2AnyRetrieval", eval_splits=["dev"],
            eval_langs=["eng-Latn"], main_score="ndcg_at_10", modalities=["text", "image"], date=None, domains=None,
            task_subtypes=None, license=None, annotations_creators=None, dialect=None, sample_creation=None,
            bibtex_citation=None,
        )  # fmt: skip

    task = Drawn()
    parts = {"corpus": corpus, "queries": queries, "relevant_docs": relevant, "top_ranked": None, **fields}
    task.dataset, task.data_loaded = {"default": {"dev": parts}}, True
    return task


@pytest.mark.parametrize(("category", "way"), [("t2i", "text_to_image"), ("i2t", "image_to_text")])
def test_mteb_finds_what_han_evaluate_finds(folder: Path, retriever: Retriever, category: str, way: str) -> None:
    import mteb

    model = SearchModel(retriever, photos_at_once=8)
    found = mteb.evaluate(model, make_task(folder, category), cache=None, show_progress_bar=False)
    (scores,) = found.task_results[0].scores["dev"]
    ours = evaluate(retriever.model, dev_photos(folder), RegionStore.open(folder / "features"), progress=False).metrics[
        way
    ]
    assert 5 < ours["nDCG@10"] < 95
    assert 100 * scores["ndcg_at_10"] == pytest.approx(ours["nDCG@10"], abs=0.01)
    for k in (1, 5, 10):  # mteb's recall is of all relevant documents; a hit is one among the first k
        assert 100 * scores[f"hit_rate_at_{k}"] == pytest.approx(ours[f"R@{k}"], abs=0.01)


def test_only_the_best_and_only_those_that_are_asked_for(folder: Path, retriever: Retriever) -> None:
    task = make_task(folder, "t2i")
    parts = task.dataset["default"]["dev"]
    names = parts["queries"]["id"]
    ranked = {name: list(parts["corpus"]["id"][row % 5 : row % 5 + 3]) for row, name in enumerate(names)}

    def search(photos_at_once: int, **options: object) -> dict[str, dict[str, float]]:
        model = SearchModel(retriever, photos_at_once=photos_at_once)
        model.index(parts["corpus"], task_metadata=task.metadata)
        options = {"task_metadata": task.metadata, "encode_kwargs": {"show_progress_bar": False}, **options}
        return model.search(parts["queries"], **options)

    everything = search(100, top_k=1000)
    assert all(len(found) == 21 for found in everything.values())
    for found in (search(8, top_k=4), search(8, top_k=2, top_ranked=ranked)):
        for name, documents in found.items():
            allowed = ranked[name] if len(documents) == 2 else everything[name]
            wanted = sorted((everything[name][document] for document in allowed), reverse=True)[: len(documents)]
            assert list(documents.values()) == pytest.approx(wanted, abs=1e-6)
            assert all(everything[name][document] == pytest.approx(score) for document, score in documents.items())


def test_results_are_kept_under_the_weights(retriever: Retriever) -> None:
    first = SearchModel(retriever).mteb_model_meta
    assert first.name == "han-retrieval/model"
    assert first.revision == SearchModel(retriever).mteb_model_meta.revision
    next(retriever.model.parameters()).data.add_(1)
    assert SearchModel(retriever).mteb_model_meta.revision != first.revision


def test_words_are_counted_by_the_model_s_own_tokenizer(
    folder: Path, retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Letters:
        """Each letter is a word, as a sub-word is in scripts without spaces."""

        def encode(self, sentence: str) -> EncodedSentence:
            spans = tuple((place, place + 1) for place in range(len(sentence)))
            return EncodedSentence([4] * len(sentence), tuple(sentence), (True,) * len(sentence), spans)

    monkeypatch.setattr(retriever.model.text_encoder, "tokenizer", Letters(), raising=False)
    task = make_task(folder, "i2t")
    parts = task.dataset["default"]["dev"]
    corpus = (
        parts["corpus"].select([0, 1]).map(lambda row, place: {"text": "\u72d7" * (3, 501)[place]}, with_indices=True)
    )
    model = SearchModel(retriever)
    model.index(corpus, task_metadata=task.metadata)
    options = {"task_metadata": task.metadata, "top_k": 3, "encode_kwargs": {"show_progress_bar": False}}
    found = model.search(parts["queries"], **options)
    assert all(list(documents) == [corpus["id"][0]] for documents in found.values())


def test_what_a_matcher_cannot_score_is_refused(folder: Path, retriever: Retriever) -> None:
    task = make_task(folder, "t2i")
    with pytest.raises(ConfigError, match=r"Drawn.*: its category is 'i2i'"):
        SearchModel(retriever).index(None, task_metadata=task.metadata.model_copy(update={"category": "i2i"}))
    queries = task.dataset["default"]["dev"]["queries"].select([0, 1]).map(lambda row: {"text": "!"})
    model = SearchModel(retriever)
    model.index(task.dataset["default"]["dev"]["corpus"], task_metadata=task.metadata)
    with pytest.raises(DataError, match=r"query 'dev/000.png#0' has no word"):
        model.search(queries, task_metadata=task.metadata, top_k=3, encode_kwargs={})
