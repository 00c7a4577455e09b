"""A text encoder learns from captions alone, resumes exactly, and starts a model's."""

from __future__ import annotations

import json

import pytest
import torch
from damaging import without_checksums
from PIL import Image
from safetensors.torch import load_file
from training_data import COLOURS, THINGS, interrupted_at, make_data, small_config

from han_retrieval.cli.main import main
from han_retrieval.data import read_dataset
from han_retrieval.errors import HANError
from han_retrieval.matchers import HAN, load_matcher
from han_retrieval.text import Vocabulary, WordTokenizer
from han_retrieval.training import train
from han_retrieval.training.log import read_log
from han_retrieval.training.pretraining import CaptionPairs, pretrain_text, read_captions
from han_retrieval.training.text_weights import load_pretrained_text

PHOTOS = [
    (f"a {colour} {thing} is here", f"look at the {thing} , it is {colour}", f"{colour} {thing}")
    for colour in COLOURS
    for thing in THINGS
]


def weights_of(folder):
    return load_file(folder / "text_encoder.safetensors")


def test_captions_of_one_photo_come_to_find_each_other(tmp_path):
    pretrain_text(small_config(epochs=40), PHOTOS, tmp_path / "texts", progress=False)
    losses = [record["loss"] for record in read_log(tmp_path / "texts/training/metrics.jsonl")]
    assert len(losses) == 40 * 3
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_adam_is_adamw_without_decay(tmp_path):
    pretrain_text(small_config(optimizer="adam", weight_decay=0.5), PHOTOS, tmp_path / "adam", progress=False)
    pretrain_text(small_config(weight_decay=0.0), PHOTOS, tmp_path / "adamw", progress=False)
    left, right = weights_of(tmp_path / "adam"), weights_of(tmp_path / "adamw")
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_collapse_is_warned_of(tmp_path, capsys):
    same = [("a dog", "a dog")] * 8  # no words tell one photo's from another's
    config = small_config(epochs=110, word_drop=0.0, equal_captions="negative")
    pretrain_text(config, same, tmp_path / "texts", progress=False)
    assert capsys.readouterr().err.count("warning: the loss has stood at") == 1


def test_what_it_has_no_use_for_is_refused(tmp_path):
    with pytest.raises(HANError, match="similar_captions is for photos with captions"):
        pretrain_text(small_config(similar_captions=0.8), PHOTOS, tmp_path / "texts", progress=False)
    with pytest.raises(HANError, match="patience is for photos with captions"):
        pretrain_text(small_config(patience=1), PHOTOS, tmp_path / "texts", progress=False)
    assert not (tmp_path / "texts").exists()


def caption_pairs(photos, **changes):
    tokenizer = WordTokenizer(Vocabulary.from_sentences([caption for captions in photos for caption in captions]))
    return CaptionPairs.of(photos, tokenizer, small_config(**changes))


def test_a_caption_of_several_photos_is_no_negative_of_theirs():
    photos = [("A dog.", "a cat"), ("a dog", "a bird"), ("a fish", "a bird"), ("a cow", "a horse")]
    pairs = caption_pairs(photos, batch_size=4)
    of_photos = [{s.lower().strip(".") for s in captions} for captions in photos]
    for step, (chosen, batch) in enumerate(zip(pairs._epoch(0) + pairs._epoch(1), pairs.steps(0, 2), strict=True)):
        of_one, of_other = (
            [photos[p.photo][getattr(p, n)].lower().strip(".") for p in chosen] for n in ("one", "other")
        )
        expected = [[any({row, column} <= each for each in of_photos) for column in of_other] for row in of_one]
        assert batch.matching.tolist() == expected, step
    assert next(caption_pairs(photos, equal_captions="negative", batch_size=4).steps(0, 1)).matching is None
    assert next(caption_pairs(PHOTOS).steps(0, 1)).matching is None


def test_what_is_masked_does_not_count_in_the_loss(tmp_path):
    shared = [("a dog", "a cat")] * 8  # of which no photo is told from another
    pretrain_text(small_config(epochs=1), shared, tmp_path / "texts", progress=False)
    assert [record["loss"] for record in read_log(tmp_path / "texts/training/metrics.jsonl")] == [0.0]


def test_two_different_captions_are_drawn_where_a_photo_has_two():
    pairs = caption_pairs([("a dog", "A dog!", "a dog", "a cat"), ("a bird", "a bird")], batch_size=2)
    for epoch in range(10):
        (chosen,) = pairs._epoch(epoch)
        ids = {pair.photo: [pairs.captions[pair.photo][place] for place in pair[1:]] for pair in chosen}
        assert ids[0][0] != ids[0][1]
        assert ids[1][0] == ids[1][1]  # it has no others


@pytest.mark.parametrize("stop_at", [1, 4, 9])
def test_resumes_exactly(tmp_path, stop_at):
    config = small_config(checkpoint_minutes=1e-9)
    pretrain_text(config, PHOTOS, tmp_path / "whole", progress=False)

    with interrupted_at(stop_at):
        pretrain_text(config, PHOTOS, tmp_path / "stopped", progress=False)
    assert not (tmp_path / "stopped/text_encoder.safetensors").exists()
    if stop_at > 1:  # else there is no checkpoint, and nothing to go on with
        with pytest.raises(HANError, match="--resume"):
            pretrain_text(config, PHOTOS, tmp_path / "stopped", progress=False)
        with pytest.raises(HANError, match="other data"):
            pretrain_text(config, PHOTOS[:-1], tmp_path / "stopped", resume=True, progress=False)
        with pytest.raises(HANError, match="other data"):  # the same words and numbers of them
            pretrain_text(config, PHOTOS[::-1], tmp_path / "stopped", resume=True, progress=False)
    pretrain_text(config, PHOTOS, tmp_path / "stopped", resume=True, progress=False)
    whole, stopped = weights_of(tmp_path / "whole"), weights_of(tmp_path / "stopped")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_a_model_starts_from_it(tmp_path):
    texts = pretrain_text(small_config(), [*PHOTOS, ("a zebra", "the zebra")], tmp_path / "texts", progress=False)
    still = {"learning_rate": 1e-12, "warm_up_steps": 0, "weight_decay": 0.0, "epochs": 1}
    train(small_config(pretrained_text=str(texts), **still), *make_data(tmp_path), tmp_path / "model", progress=False)
    model, start = HAN.from_pretrained(tmp_path / "model"), load_pretrained_text(texts)
    assert model.vocabulary == start.vocabulary
    assert "zebra" in model.vocabulary  # no caption of the photos has it
    for name, value in model.text_encoder.state_dict().items():
        assert torch.allclose(value, start.weights[name], atol=1e-6), name
    assert "- Text encoder: pre-trained on captions alone" in (tmp_path / "model/README.md").read_text()


@pytest.mark.parametrize(("matcher", "takes_it"), [("scan", True), ("vse-infinity", True), ("vse++", False)])
def test_a_matcher_with_the_same_encoder_starts_from_it(tmp_path, matcher, takes_it):
    texts = pretrain_text(small_config(epochs=1), PHOTOS, tmp_path / "texts", progress=False)
    model = {"matcher": matcher, "word_size": 8, "joint_size": 16}
    config = small_config(pretrained_text=str(texts), learning_rate=1e-12, epochs=1, model=model)
    if takes_it:
        train(config, *make_data(tmp_path), tmp_path / "model", progress=False)
        weights = load_matcher(tmp_path / "model").text_encoder.state_dict()
        assert all(torch.allclose(value, weights[name], atol=1e-6) for name, value in weights_of(texts).items())
    else:
        with pytest.raises(HANError, match=r"a vse\+\+ takes none"):
            train(config, *make_data(tmp_path), tmp_path / "model", progress=False)


def test_bad_input_says_what_is_wrong(tmp_path):
    data = make_data(tmp_path)
    with pytest.raises(HANError, match="han train-text"):
        train(small_config(pretrained_text=str(tmp_path)), *data, tmp_path / "model", progress=False)
    texts = pretrain_text(small_config(epochs=1), PHOTOS, tmp_path / "texts", progress=False)
    wide = {"word_size": 9, "joint_size": 16}
    with pytest.raises(HANError, match=r"model\.word_size"):
        train(small_config(pretrained_text=str(texts), model=wide), *data, tmp_path / "model", progress=False)
    with pytest.raises(HANError, match="text encoder of a HAN"):
        pretrain_text(small_config(model={"matcher": "vse++"}), PHOTOS, tmp_path / "other", progress=False)
    with pytest.raises(HANError, match="two captions"):
        pretrain_text(small_config(), [("one",), ("two",), ()], tmp_path / "other", progress=False)
    with pytest.raises(HANError, match="photo 1: 501 words; a sentence may have 500"):
        pretrain_text(small_config(), [("one", "two"), ("a", "b " * 501)], tmp_path / "other", progress=False)
    (texts / "text_encoder.safetensors").write_bytes(b"half")
    with pytest.raises(HANError, match=r"text_encoder\.safetensors: is cut off or was changed: 4 of "):
        load_pretrained_text(texts)
    without_checksums(texts)
    with pytest.raises(HANError, match="not a whole safetensors file"):
        load_pretrained_text(texts)


def test_the_command(tmp_path, capsys):
    lines = tmp_path / "captions.jsonl"
    lines.write_text("".join(json.dumps({"id": "x", "captions": captions}) + "\n" for captions in PHOTOS))
    assert read_captions(lines) == PHOTOS
    sizes = ["--set", "model.word_size=8", "--set", "model.joint_size=16"]
    main(["train-text", str(lines), "--out", str(tmp_path / "texts"), "--set", "epochs=1", *sizes])
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "texts")
    assert f"{len(PHOTOS)} photos, {3 * len(PHOTOS)} captions" in captured.err
    assert len(load_pretrained_text(tmp_path / "texts").vocabulary) > len(COLOURS)

    lines.write_text('{"captions": ["a dog"]}\n{"captions": "a cat"}\n')
    with pytest.raises(SystemExit) as stopped:
        main(["train-text", str(lines), "--out", str(tmp_path / "more")])
    assert stopped.value.code == 2
    assert "captions.jsonl, line 2" in capsys.readouterr().err


def test_the_command_divides_a_dataset_without_splits(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    rows = ["file,caption"]
    for number, captions in enumerate(PHOTOS):
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / f"{number}.png")
        rows += [f'{number}.png,"{caption}"' for caption in captions]
    (tmp_path / "photos" / "captions.csv").write_text("\n".join(rows))
    options = ["--set", "model.word_size=8", "--set", "model.joint_size=16", "--set", "epochs=1"]
    main(["train-text", str(tmp_path / "photos"), "--out", str(tmp_path / "texts"), *options])
    train = read_dataset(tmp_path / "photos").divided().splits["train"]
    assert f"{train} photos, {3 * train} captions" in capsys.readouterr().err
