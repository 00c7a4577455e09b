"""A training learns, writes where nothing else is, goes on with the same data alone, and says what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from damaging import without_checksums
from safetensors.torch import load_file
from training_data import EVERY_STEP, augmentation, make_data, same_run, small_config

from han_retrieval.errors import HANError
from han_retrieval.evaluation import evaluate
from han_retrieval.matchers import HAN
from han_retrieval.regions import RegionRow, RegionStore
from han_retrieval.storage.locks import WriterLock
from han_retrieval.training import train
from han_retrieval.training.log import read_log
from han_retrieval.training.trainer import MatcherTraining


def test_learns(data, tmp_path):
    result = train(small_config(epochs=12, power_warm_up=0.2), *data, tmp_path / "model", progress=False)
    records = read_log(tmp_path / "model/training/metrics.jsonl")
    losses = [record["loss"] for record in records if "loss" in record]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert result.rsum > 250  # of 600; by chance among 10 photos and their 20 captions some 230
    model = HAN.from_pretrained(tmp_path / "model")
    assert model.config.detector_fingerprint == "made-up-1"
    card = (tmp_path / "model/README.md").read_text()
    assert "made-up-1" in card
    assert "Seed 0" in card
    assert "among 10 photos of split `dev`, after epoch" in card


def test_an_expanded_vocabulary_changes_no_other_word(data, tmp_path):
    dataset, _ = data
    heard = sorted({word for photo in dataset.photos for caption in photo.captions for word in caption.split()})
    vectors = tmp_path / "vectors.txt"
    numbers = np.random.default_rng(0).normal(size=(len(heard) + 1, 3)).round(3)
    lines = [f"{word} {' '.join(map(str, row))}" for word, row in zip([*heard, "unheard"], numbers, strict=True)]
    vectors.write_text("\n".join(lines) + "\n", encoding="utf-8")
    plain, more = (
        small_config(epochs=1, word_vectors=str(vectors), vocabulary_expansion=count) for count in (0, 10**6)
    )
    for config, name in ((plain, "plain"), (more, "more")):
        train(config, *data, tmp_path / name, progress=False)
    before, after = (HAN.from_pretrained(tmp_path / name) for name in ("plain", "more"))
    assert "unheard" in after.vocabulary
    assert "unheard" not in before.vocabulary
    assert after.vocabulary.words[: len(before.vocabulary)] == before.vocabulary.words
    tokens = [model.encode_texts(*model.words([" ".join(heard[:3])])) for model in (before, after)]
    assert torch.equal(*tokens)
    assert after.encode_texts(*after.words(["unheard"])).isfinite().all()
    said = "of the model before the vocabulary expansion"
    assert [said in (tmp_path / name / "README.md").read_text() for name in ("plain", "more")] == [False, True]


def test_a_folder_with_a_run_is_not_overwritten(data, unbroken):
    with pytest.raises(HANError, match="--resume"):
        train(small_config(checkpoint_minutes=EVERY_STEP), *data, unbroken, progress=False)
    with pytest.raises(HANError, match=r"another configuration .*: .*epochs was 3 and is 9\); resume with that one"):
        train(small_config(epochs=9), *data, unbroken, resume=True, progress=False)


@pytest.mark.parametrize("name", ["README.md", "training/metrics.jsonl"])
@pytest.mark.parametrize("resume", [False, True])
def test_what_others_wrote_is_not_overwritten(data, tmp_path, name, resume):
    file = tmp_path / "model" / name
    file.parent.mkdir(parents=True)
    file.write_text("somebody's")
    with pytest.raises(HANError, match=rf"holds other things, such as {name}; choose a new folder"):
        train(small_config(), *data, tmp_path / "model", resume=resume, progress=False)
    assert file.read_text() == "somebody's"
    for out in (file, file / "model"):
        with pytest.raises(HANError, match=f"{file.name}"):
            train(small_config(), *data, out, progress=False)


def test_one_process_at_a_time_writes(data, unbroken, tmp_path):
    shutil.copytree(unbroken, tmp_path / "model")
    lock = WriterLock(tmp_path / "model/training")
    with pytest.raises(HANError, match=f"process {os.getpid()} is writing"):
        train(small_config(checkpoint_minutes=EVERY_STEP), *data, tmp_path / "model", resume=True, progress=False)
    lock.close()
    for _ in range(2):  # it lets go of the folder itself
        train(small_config(checkpoint_minutes=EVERY_STEP), *data, tmp_path / "model", resume=True, progress=False)


def test_other_data_do_not_resume(unbroken, tmp_path):
    dataset, store = make_data(tmp_path, photos=24)
    with pytest.raises(HANError, match="begun on other data"):
        train(small_config(checkpoint_minutes=EVERY_STEP), dataset, store, unbroken, resume=True, progress=False)


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize("word", ["ball", "unheard"])
def test_other_captions_as_many_do_not_resume(data, unbroken, split, word):
    dataset, store = data
    other = dataset.split(split).photos[0]
    other = replace(other, captions=tuple(f"{caption} {word}" if caption else "" for caption in other.captions))
    changed = replace(dataset, photos=tuple(other if photo.id == other.id else photo for photo in dataset.photos))
    with pytest.raises(HANError, match="begun on other data"):
        train(small_config(checkpoint_minutes=EVERY_STEP), changed, store, unbroken, resume=True, progress=False)


def test_the_same_data_in_another_place_resume(data, unbroken, tmp_path):
    out = shutil.copytree(unbroken, tmp_path / "model")
    moved = replace(data[0], source=tmp_path / "elsewhere")
    assert train(small_config(checkpoint_minutes=EVERY_STEP), moved, data[1], out, resume=True, progress=False).steps


def test_what_an_earlier_version_called_views_resumes(data, tmp_path):
    other = augmentation(data[1], tmp_path / "other", photos=20)
    out = tmp_path / "model"
    train(small_config(), *data, out, augmentations=[other], progress=False)
    (file,) = (out / "training").glob("checkpoint-*/state.json")
    state = json.loads(file.read_text())
    state["facts"]["views"] = state["facts"].pop("augmentations")
    file.write_text(json.dumps(state))
    without_checksums(file.parent)
    with pytest.raises(HANError, match="begun on other data"):
        train(small_config(), *data, out, resume=True, progress=False)
    assert train(small_config(), *data, out, augmentations=[other], resume=True, progress=False).best_epoch >= 1


def test_another_detectors_features_do_not_resume(data, unbroken, tmp_path):
    dataset, store = data
    with RegionStore.create(tmp_path / "other", fingerprint="other-1", feature_size=12) as other:
        other.append(
            RegionRow(id_, None, regions) for id_, regions in zip(store.ids, store.read(store.ids), strict=True)
        )
    with pytest.raises(HANError, match=r"made-up-1.*other-1"):
        train(small_config(checkpoint_minutes=EVERY_STEP), dataset, other, unbroken, resume=True, progress=False)


def test_an_augmentation_is_used_and_resumed_with_alone(data, tmp_path):
    other = augmentation(data[1], tmp_path / "other", photos=20)
    config = small_config(checkpoint_minutes=EVERY_STEP)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(config, *data, whole, augmentations=[other], progress=False)
    assert (
        "- Augmentation: features of `made-up-1-mirrored` for 15 of the training photos."
        in (whole / "README.md").read_text()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("han_retrieval.training.loop.CollapseWatch.see", _interrupt_at(5))
        with pytest.raises(KeyboardInterrupt):
            train(config, *data, broken, augmentations=[other], progress=False)
    with pytest.raises(HANError, match="other"):
        train(config, *data, broken, resume=True, progress=False)
    train(config, *data, broken, augmentations=[other], resume=True, progress=False)
    assert same_run(whole, broken)


def _interrupt_at(step: int):
    left = [step]

    def see(*_args, **_kwargs):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    return see


def test_two_augmentations_by_one_detector_are_two(data, tmp_path):
    others = [augmentation(data[1], tmp_path / name, photos=photos) for name, photos in (("one", 20), ("two", 12))]
    train(small_config(epochs=1), *data, tmp_path / "model", augmentations=others, progress=False)
    card = (tmp_path / "model/README.md").read_text()
    assert card.count("features of `made-up-1-mirrored`") == 2
    assert "for 15 of the training photos" in card
    with pytest.raises(HANError, match="begun on other data"):
        train(small_config(epochs=1), *data, tmp_path / "model", augmentations=others[:1], resume=True, progress=False)


def test_augmentations_that_do_not_fit(data, tmp_path):
    with augmentation(data[1], tmp_path / "another", photos=4, fingerprint="made-up-2-mirrored") as other:
        pass
    with pytest.raises(HANError, match=r"made by 'made-up-2-mirrored'.*--horizontal-flip"):
        train(small_config(), *data, tmp_path / "model", augmentations=[other], progress=False)
    with augmentation(data[1], tmp_path / "empty", photos=0) as other:
        pass
    with pytest.raises(HANError, match="none of the training photos"):
        train(small_config(), *data, tmp_path / "model", augmentations=[other], progress=False)
    assert not (tmp_path / "model").exists()


def test_splits_and_features_that_are_not_there(data, tmp_path):
    dataset, store = data
    with pytest.raises(HANError, match=r"split 'training'; splits there: train \(30\), dev \(10\)"):
        train(small_config(train_split="training"), dataset, store, tmp_path / "a", progress=False)
    with RegionStore.create(tmp_path / "empty", fingerprint="x", feature_size=12) as empty, pytest.raises(HANError):
        train(small_config(), dataset, empty, tmp_path / "b", progress=False)
    assert not (tmp_path / "a").exists()


def test_dev_photos_without_regions_or_captions(data, tmp_path, capsys):
    dataset, store = data
    dev = [photo.id for photo in dataset.split("dev").photos]
    with RegionStore.create(tmp_path / "few", fingerprint="made-up-1", feature_size=12) as few:
        kept = [id_ for id_ in store.ids if id_ not in dev[3:]]
        few.append(RegionRow(id_, None, regions) for id_, regions in zip(kept, store.read(kept), strict=True))
    train(small_config(epochs=1), dataset, few, tmp_path / "model", progress=False)
    assert "warning: 7 of the 10 photos of split 'dev' have no regions" in capsys.readouterr().err
    assert "among 3 photos of split `dev`" in (tmp_path / "model/README.md").read_text()

    mute = replace(dataset, photos=tuple(replace(p, captions=("?",)) if p.id in dev else p for p in dataset.photos))
    with pytest.raises(HANError, match=r"split 'dev' have no captions; .*dev_split=''"):
        train(small_config(), mute, store, tmp_path / "mute", progress=False)
    assert not (tmp_path / "mute").exists()


def test_training_photos_without_regions_are_named(data, tmp_path, capsys):
    dataset, store = data
    with RegionStore.create(tmp_path / "few", fingerprint="made-up-1", feature_size=12) as few:
        kept = store.ids[8:]
        few.append(RegionRow(id_, None, regions) for id_, regions in zip(kept, store.read(kept), strict=True))
    train(small_config(epochs=1, dev_split=""), dataset, few, tmp_path / "model", progress=False)
    said = capsys.readouterr().err
    assert f"warning: 6 of the 30 photos of split 'train' have no regions in {few.path} and are left out\n" in said
    assert "6 more photos had no regions" in (tmp_path / "model/README.md").read_text()


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_caption_that_is_too_long_is_refused_at_once(data, tmp_path, split):
    dataset, store = data
    long = dataset.split(split).photos[0]
    long = replace(long, captions=("a ball", "red " * 501))
    changed = replace(dataset, photos=tuple(long if photo.id == long.id else photo for photo in dataset.photos))
    with pytest.raises(HANError, match=rf"{long.id}.*501 words"):
        train(small_config(), changed, store, tmp_path / "model", progress=False)
    assert not (tmp_path / "model").exists()


def test_adam_is_adamw_without_decay_watched_by_a_sample(data, tmp_path):
    train(small_config(optimizer="adam", weight_decay=0.5, dev_photos=4), *data, tmp_path / "a", progress=False)
    train(small_config(weight_decay=0.0, dev_photos=4), *data, tmp_path / "b", progress=False)
    assert same_run(tmp_path / "a", tmp_path / "b")
    assert "among 4 photos of split `dev`, after epoch" in (tmp_path / "a/README.md").read_text()


def reach(monkeypatch, *rsums):
    """Let evaluations give these rSums, one after another."""
    left = iter(rsums)
    monkeypatch.setattr(
        "han_retrieval.training.trainer.evaluate",
        lambda *args, **options: SimpleNamespace(**vars(evaluate(*args, **options)), rsum=next(left)),
    )


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("last", 3)])
def test_the_weights_that_are_kept(data, tmp_path, monkeypatch, keep, epoch):
    reach(monkeypatch, 3.0, 1.0, 2.0)
    result = train(small_config(keep=keep), *data, tmp_path / "model", progress=False)
    assert (result.best_epoch, result.rsum) == (epoch, {1: 3.0, 3: 2.0}[epoch])
    assert f"after epoch {epoch} of 3" in (tmp_path / "model/README.md").read_text()


@pytest.mark.parametrize(("patience", "epochs", "last"), [(0, 6, 6), (1, 6, 2), (2, 6, 5), (2, 5, 5), (3, 6, 6)])
def test_a_training_ends_when_dev_rsum_has_not_risen_for_so_long(
    data, tmp_path, monkeypatch, capsys, patience, epochs, last
):
    reach(monkeypatch, 2.0, 1.0, 3.0, 3.0, 2.0, 4.0)
    config = small_config(epochs=epochs, patience=patience)
    result = train(config, *data, tmp_path / "model")
    kept = {2: 1, 5: 3, 6: 6}[last]
    end = read_log(tmp_path / "model/training/metrics.jsonl")[-1]
    assert (result.best_epoch, end["epoch"], end["step"]) == (kept, last, result.steps)
    ended = [f"ended after epoch {last} of {epochs}: dev rSum was greatest after epoch {kept} (patience)"]
    ended = ended if last < epochs else []
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("ended")] == ended
    again = train(config, *data, tmp_path / "model", resume=True)  # there is nothing left to do
    assert (again.steps, again.best_epoch, again.rsum) == (result.steps, kept, result.rsum)
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("ended")] == ended


def test_a_loss_that_is_not_finite_ends_the_training(data, tmp_path, monkeypatch):
    loss = MatcherTraining.loss

    def broken(task, batch, *, step, steps):
        if step == 12:  # in the second epoch
            with torch.no_grad():
                task.module.image_encoder.projection.weight[0, 0] = torch.nan
        return loss(task, batch, step=step, steps=steps)

    monkeypatch.setattr(MatcherTraining, "loss", broken)
    with pytest.raises(HANError, match=r"the loss is nan at step 12: .*; the last checkpoint stands"):
        train(small_config(power=4.0), *data, tmp_path / "model", progress=False)
    weights = load_file(tmp_path / "model/model.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())


def test_tensorboard_that_is_missing_leaves_nothing(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(HANError, match="pip install"):
        train(small_config(), *data, tmp_path / "model", tensorboard=True, progress=False)
    assert not (tmp_path / "model").exists()


def test_starts_from_word_vectors(data, tmp_path):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("red 1 2 3\nball -1 0 1\nunseen 5 5 5\n")
    config = small_config(word_vectors=str(vectors), epochs=1, learning_rate=1e-12)
    train(config, *data, tmp_path / "model", progress=False)
    model = HAN.from_pretrained(tmp_path / "model")
    (ids, _) = model.words(["red ball"])
    start = model.text_encoder.embedding.weight[ids[0], :3].detach()
    expected = torch.tensor([[1.0, 2, 3], [-1, 0, 1]])
    ratio = start / expected.where(expected != 0, torch.nan)
    assert ratio.nan_to_num(ratio.nanmean().item()).allclose(ratio.nanmean(), rtol=1e-3)
    (tmp_path / "others.txt").write_text("unseen 5 5 5\n<unk> 1 2 3\n")
    with pytest.raises(HANError, match=r"others\.txt: has none of the .* words of the captions"):
        train(small_config(word_vectors=str(tmp_path / "others.txt")), *data, tmp_path / "b", progress=False)
    with pytest.raises(HANError, match=r"more than model\.word_size"):
        train(small_config(word_vectors=str(vectors), model={"word_size": 2}), *data, tmp_path / "b", progress=False)


def test_records_are_json_lines_without_repeats(unbroken):
    records = [json.loads(line) for line in (unbroken / "training/metrics.jsonl").read_text().splitlines()]
    steps = [record["step"] for record in records if "loss" in record]
    assert steps == list(range(1, len(steps) + 1))
    assert [record["epoch"] for record in records if "epoch" in record] == [1, 2, 3]


def test_a_gradient_that_is_not_finite_reaches_neither_weights_nor_a_checkpoint(data, tmp_path, monkeypatch):
    loss = MatcherTraining.loss

    def broken(task, batch, *, step, steps):
        found = loss(task, batch, step=step, steps=steps)
        if step == 12:
            weight = task.module.image_encoder.projection.weight
            return replace(found, total=found.total + (weight.sum() * 0).sqrt())  # 0, with a gradient of 0 * inf
        return found

    monkeypatch.setattr(MatcherTraining, "loss", broken)
    with pytest.raises(HANError, match=r"the gradient's norm is nan at step 12: .*; the last checkpoint stands"):
        train(small_config(checkpoint_minutes=EVERY_STEP), *data, tmp_path / "model", progress=False)
    monkeypatch.setattr(MatcherTraining, "loss", loss)
    train(small_config(checkpoint_minutes=EVERY_STEP), *data, tmp_path / "model", resume=True, progress=False)


def test_a_run_that_failed_before_its_first_checkpoint_does_not_block_its_folder(data, tmp_path, monkeypatch):
    def out_of_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(MatcherTraining, "loss", out_of_memory)
        with pytest.raises(torch.OutOfMemoryError):
            train(small_config(batch_size=16), *data, tmp_path / "model", progress=False)
    assert train(small_config(), *data, tmp_path / "model", progress=False).steps > 0


def test_a_run_that_began_while_the_data_were_read_is_not_taken_over(data, tmp_path, monkeypatch):
    made = MatcherTraining.__init__

    def slow(task, config, *given, **options):
        made(task, config, *given, **options)
        if config.epochs == 2:
            train(small_config(epochs=1), *data, tmp_path / "model", progress=False)

    monkeypatch.setattr(MatcherTraining, "__init__", slow)
    with pytest.raises(HANError, match="holds a training run already"):
        train(small_config(epochs=2), *data, tmp_path / "model", progress=False)
    assert json.loads((tmp_path / "model/training/config.json").read_text())["epochs"] == 1


def test_a_warm_up_longer_than_the_training_is_said(data, tmp_path, capsys):
    train(small_config(epochs=1, warm_up_steps=500), *data, tmp_path / "model")
    assert "warning: warm_up_steps is 500 and the training has " in capsys.readouterr().err
