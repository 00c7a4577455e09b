"""Where phrases look is read from annotations, follows what a step leaves out, and is learned."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_data import COLOURS, THINGS, interrupted_at, small_config

from han_retrieval.cli.main import main
from han_retrieval.data import CaptionedPhoto, CaptionedPhotos, EntitiesPhoto, EntitiesSentence, Phrase
from han_retrieval.errors import HANError
from han_retrieval.evaluation import ground
from han_retrieval.matchers import HAN, HANConfig, make_matcher
from han_retrieval.regions import RegionRow, Regions, RegionStore
from han_retrieval.text import Vocabulary, WordTokenizer
from han_retrieval.training import train
from han_retrieval.training.batches import Batches
from han_retrieval.training.log import read_log
from han_retrieval.training.phrases import Span, caption_spans, id_spans, shown_regions

BOXES = np.array([[0, 0, 30, 30], [30, 0, 60, 30], [0, 0, 60, 60], [1, 0, 31, 30]], np.float32)  # 0 and 3 overlap


def annotated(folder, *, photos=24):
    """Photos of two coloured things, in regions 0 and 3 and in region 1; annotated at twice the size.

    Captions have 7 to 10 words, photos 2 to 4 regions, so that batches are padded.
    """
    random = np.random.default_rng(0)
    captioned, rows, truth = [], [], {}
    for number in range(photos):
        (one, its), (other, others) = ((random.choice(COLOURS), random.choice(THINGS)) for _ in range(2))
        name = f"{number}.jpg"
        more = ["there"] * (number % 4)
        captions = (" ".join(["A", one, its, "and a", other, others, *more]) + ".", "nobody annotated this")
        captioned.append(CaptionedPhoto(name, None, captions, "dev" if number % 4 == 3 else "train"))
        features = random.normal(size=(4, 12)).astype(np.float16)
        features[:, 0] = np.arange(4)  # says which region it is
        m = 2 + number % 3
        rows.append(RegionRow(name, None, Regions(features[:m], BOXES[:m], 60, 60)))
        phrases = (
            Phrase(0, 3, "1", ("other",), 2 * BOXES[:1]),
            Phrase(4, 7, "2", ("other",), 2 * BOXES[1:2]),
        )
        tokens = ("A", one, its, "and", "a", other, others, *more, ".")
        truth[name] = EntitiesPhoto(name, 120, 120, (EntitiesSentence(tokens, phrases),))
    with RegionStore.create(folder / "features", fingerprint="made-up-1", feature_size=12) as store:
        store.append(rows)
    return CaptionedPhotos("made-up", folder, tuple(captioned)), store, truth


def write_entities(path, truth):
    lines = []
    for photo in truth.values():
        boxes = [
            {"box": phrase.boxes[0].tolist(), "chains": [phrase.chain]}
            for sentence in photo.sentences
            for phrase in sentence.phrases
        ]
        sentences = [
            {
                "tokens": sentence.tokens,
                "phrases": [
                    {"start": p.start, "end": p.end, "chain": p.chain, "types": p.types} for p in sentence.phrases
                ],
            }
            for sentence in photo.sentences
        ]
        record = {"file": photo.id, "width": photo.width, "height": photo.height, "boxes": boxes}
        lines.append(json.dumps({**record, "sentences": sentences}))
    path.write_text("\n".join(lines), encoding="utf-8")


def test_captions_get_the_phrases_of_the_sentence_with_their_words(tmp_path):
    data, _, truth = annotated(tmp_path)
    photo = data.photos[0]
    spans = caption_spans(photo, truth, width=60, height=60)
    assert list(spans) == [photo.captions[0]]
    first, second = spans[photo.captions[0]]
    assert (first.start, first.end, second.start, second.end) == (0, 3, 4, 7)
    assert first.boxes.tolist() == BOXES[:1].tolist()  # brought from the annotation's pixels to the store's
    unknown = caption_spans(photo, truth, width=0, height=0)[photo.captions[0]]
    assert unknown[0].boxes.tolist() == (2 * BOXES[:1]).tolist()
    assert caption_spans(photo, {}, width=60, height=60) == {}


def test_regions_show_what_they_overlap(tmp_path):
    data, _, truth = annotated(tmp_path)
    spans = caption_spans(data.photos[0], truth, width=60, height=60)[data.photos[0].captions[0]]
    spans = id_spans(spans, [(word + 1, word + 2) for word in range(8)])  # behind <start>
    shown = shown_regions([spans, (), spans], [BOXES, BOXES, None], words=10, regions=5)
    assert shown.shape == (3, 10, 5)
    assert shown[0, 1:4].tolist() == [[True, False, False, True, False]] * 3
    assert shown[0, 5:8].tolist() == [[False, True, False, False, False]] * 3
    assert int(shown.sum()) == 3 * 2 + 3 * 1  # nothing else, and nothing of the other two


def test_spans_of_words_become_spans_of_ids():
    spans = [Span(start, end, BOXES[:1]) for start, end in ((0, 1), (1, 3), (2, 2), (2, 4))]
    found = id_spans(spans, [(1, 3), (3, 4), (4, 7)])  # three words; the fourth has no id
    assert [(span.start, span.end) for span in found] == [(1, 3), (3, 7)]


@pytest.mark.parametrize("boundaries", [False, True])
def test_what_is_shown_follows_the_words_and_regions_that_stay(tmp_path, boundaries):
    data, store, truth = annotated(tmp_path)
    options = HANConfig(word_size=8, joint_size=16, bos_eos=boundaries)
    config = small_config(model=options, region_drop=0.5, word_drop=0.4)
    sentences = [caption for photo in data.photos for caption in photo.captions]
    vocabulary = Vocabulary.from_sentences(sentences, min_count=1)
    batches = Batches.of(data.split("train"), store, WordTokenizer(vocabulary, boundaries), config, annotations=truth)
    assert batches.grounded_count == len(batches.photo_ids)
    seen = padded = 0
    for batch in batches.steps(0, 2 * batches.steps_per_epoch):
        assert batch.shown.shape == (*batch.words.shape, batch.regions.shape[1])
        for row in range(len(batch.words)):
            words = [vocabulary.words[i] for i in batch.words[row][batch.word_mask[row]].tolist()]
            regions = batch.regions[row, :, 0][batch.region_mask[row]].tolist()
            shown = batch.shown[row][: len(words), : len(regions)]
            assert int(batch.shown[row].sum()) == int(shown.sum())  # none at padding, though there is some
            padded += int((~batch.word_mask[row]).sum()) * int((~batch.region_mask[row]).sum())
            for word, of_word in zip(words, shown, strict=True):
                for region, is_shown in zip(regions, of_word.tolist(), strict=True):
                    if is_shown:
                        assert word in {"a", *COLOURS, *THINGS}
                        assert region in {0, 1, 3}
                        seen += 1
            # The first phrase's words come before "and", the second's behind it.
            if "and" in words:
                middle = words.index("and")
                before = [w in {"a", *COLOURS, *THINGS} for w in words[:middle]]
                expected = [[known and region in {0, 3} for region in regions] for known in before]
                assert shown[:middle].tolist() == expected
                assert not shown[middle].any()
    assert seen > 60
    assert padded > 30


def test_alignment_of_matching_pairs_is_the_one_that_is_explained():
    vocabulary = Vocabulary.from_sentences(["a red ball and a blue dog"], min_count=1)
    torch.manual_seed(0)
    options = HANConfig(word_size=8, joint_size=16)
    model = make_matcher(options, vocabulary=vocabulary, region_size=12, detector_fingerprint="x").eval()
    features, region_mask = torch.randn(2, 4, 12), torch.tensor([[True] * 4, [True, True, False, False]])
    words, word_mask = model.words(["a red ball", "dog"])
    images, texts = model.encode_images(features, region_mask), model.encode_texts(words, word_mask)
    found = model.alignment(images, region_mask, texts, word_mask)
    for pair in range(2):
        m, n = int(region_mask[pair].sum()), int(word_mask[pair].sum())
        alone = model.explain(features[pair, :m], words[pair, :n]).alignment
        torch.testing.assert_close(found[pair, :n, :m].detach(), alone)


def test_learns_where_phrases_look(tmp_path):
    data, store, truth = annotated(tmp_path, photos=40)
    found = {}
    for weight in (0.0, 1.0):
        # Many of these photos share captions: without negatives among them, the plain loss teaches little.
        config = small_config(
            epochs=12, alignment_weight=weight, dev_split="", region_drop=0.0, equal_captions="negative"
        )
        train(config, data, store, tmp_path / str(weight), annotations=truth if weight else None, progress=False)
        model = HAN.from_pretrained(tmp_path / str(weight))
        ids = [photo.id for photo in data.split("dev").photos]
        found[weight] = ground(model, truth, store, ids=ids, progress=False).overall["iou"]["model"]
    assert found[1.0] > found[0.0] + 20
    records = [record for record in read_log(tmp_path / "1.0/training/metrics.jsonl") if "alignment" in record]
    assert records[-1]["alignment"] < records[0]["alignment"]


def test_resumes_exactly_and_with_the_same_annotations_alone(tmp_path, monkeypatch):
    data, store, truth = annotated(tmp_path)
    config = small_config(alignment_weight=0.5, checkpoint_minutes=1e-9)
    train(config, data, store, tmp_path / "whole", annotations=truth, progress=False)
    with interrupted_at(5):
        train(config, data, store, tmp_path / "stopped", annotations=truth, progress=False)
    fewer = dict(list(truth.items())[:-4])
    with pytest.raises(HANError, match="other data"):
        train(config, data, store, tmp_path / "stopped", annotations=fewer, resume=True, progress=False)
    train(config, data, store, tmp_path / "stopped", annotations=truth, resume=True, progress=False)
    whole, stopped = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_refuses_half_of_it(tmp_path):
    data, store, truth = annotated(tmp_path)
    with pytest.raises(HANError, match="no Entities annotations are given"):
        train(small_config(alignment_weight=0.1), data, store, tmp_path / "out", progress=False)
    with pytest.raises(HANError, match="alignment_weight is 0 and Entities"):
        train(small_config(), data, store, tmp_path / "out", annotations=truth, progress=False)
    with pytest.raises(HANError, match="Entities file"):
        train(small_config(alignment_weight=0.1), data, store, tmp_path / "out", annotations={}, progress=False)
    pooled = small_config(alignment_weight=0.1, model={"matcher": "vse++", "word_size": 8, "joint_size": 16})
    with pytest.raises(HANError, match="learns no alignment of words"):
        train(pooled, data, store, tmp_path / "out", annotations=truth, progress=False)
    assert not (tmp_path / "out").exists()


def test_the_command_takes_annotations(tmp_path, capsys):
    data, store, truth = annotated(tmp_path)
    write_entities(tmp_path / "entities.jsonl", truth)
    records = [{"file_name": p.id, "captions": list(p.captions), "split": p.split} for p in data.photos]
    (tmp_path / "photos.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    sets = ["epochs=1", "batch_size=8", "min_count=1", "alignment_weight=0.1"]
    sets += ["model.word_size=8", "model.joint_size=16"]
    options = [word for change in sets for word in ("--set", change)]
    arguments = [
        "train",
        str(tmp_path / "photos.jsonl"),
        "--features",
        str(store.path),
        "--out",
        str(tmp_path / "model"),
    ]
    with pytest.raises(SystemExit) as refused:
        main([*arguments, *options])
    assert refused.value.code == 2
    assert "Entities" in capsys.readouterr().err
    main([*arguments, *options, "--entities", str(tmp_path / "entities.jsonl")])
    assert (tmp_path / "model/model.safetensors").exists()
