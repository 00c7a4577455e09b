"""Configurations say everything that is wrong at once; schedules are functions of the step."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from han_retrieval.config import load_config
from han_retrieval.errors import HANError
from han_retrieval.matchers import SCANConfig, VSEConfig
from han_retrieval.parsing import read_toml
from han_retrieval.training import TrainingConfig
from han_retrieval.training.detector import DetectorTrainingConfig
from han_retrieval.training.schedule import learning_rate, loss_power
from han_retrieval.training.watch import CollapseWatch

ROOT = Path(__file__).parents[2]


def test_file_and_overrides(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("epochs = 3\npower = 2\n[model]\nblocks = 2\n")
    config = load_config(
        TrainingConfig, file, overrides=["power=inf", "model.joint_size=64", "word_vectors=glove-6b-50d"]
    )
    assert (config.epochs, config.power, config.model.blocks, config.model.joint_size) == (3, math.inf, 2, 64)
    assert config.word_vectors == "glove-6b-50d"


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.toml")), ids=lambda file: file.name)
def test_the_examples_are_configurations(file):
    config = load_config(TrainingConfig, file)
    written = read_toml(file)
    assert config.backbone.trained == ("backbone" in written)  # a table that did nothing would mislead
    assert not config.backbone.trained or config.backbone.head_epochs < config.epochs


@pytest.mark.parametrize("matcher", ["scan", "maxsim", "vse++", "vse-infinity"])
@pytest.mark.parametrize("name", ["paper", "minilm", "own_field"])
def test_peers_take_the_recipes_of_han(name, matcher):
    config = load_config(TrainingConfig, ROOT / f"examples/{name}.toml", overrides=[f"model.matcher={matcher}"])
    assert (config.model.matcher, config.model.joint_size) == (matcher, 256)


def test_what_a_run_writes_down_is_what_it_was_given():
    config = TrainingConfig(power=math.inf)
    assert TrainingConfig.model_validate_json(config.model_dump_json()) == config


def test_options_of_a_backbone_that_stays_frozen_are_refused():
    with pytest.raises(HANError, match=r"crop.*does nothing; set backbone.trained = true"):
        load_config(TrainingConfig, overrides=["backbone.crop=0.4"])
    off = load_config(TrainingConfig, ROOT / "examples/own_field.toml", overrides=["backbone.trained=false"])
    assert not off.backbone.trained  # the rest of the file's table may stay


def test_vectors_that_a_pretrained_text_encoder_replaces_are_refused():
    with pytest.raises(HANError, match=r"pretrained_text = 'texts': it brings its own .*; leave word_vectors out"):
        load_config(TrainingConfig, overrides=["pretrained_text=texts", "word_vectors=glove-6b-50d"])
    more = ["pretrained_text=texts", "word_vectors=glove-6b-50d", "vocabulary_expansion=9"]
    assert load_config(TrainingConfig, overrides=more).pretrained_text == "texts"


def test_everything_wrong_at_once(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('epocs = 3\nbatch_size = "many"\npower = 0.5\n[model]\njoint_sise = 2\n')
    with pytest.raises(HANError) as error:
        load_config(TrainingConfig, file)
    message = str(error.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    for part in (
        "epocs is no field (did you mean epochs?)",
        "batch_size = 'many'",
        "power = 0.5",
        "model.joint_sise is no",
    ):
        assert part in message


@pytest.mark.parametrize("other", ["keep=last", 'dev_split=""'])
def test_what_watches_nothing_cannot_be_patient(other):
    with pytest.raises(HANError, match=r"patience = 2: .*it needs a dev_split, and keep"):
        load_config(TrainingConfig, None, overrides=[other, "patience=2"])


def test_the_matcher_decides_which_options_there_are():
    assert load_config(TrainingConfig).model.matcher == "han"
    assert load_config(TrainingConfig, overrides=["model.matcher=vse++"]).model == VSEConfig()
    chosen = load_config(TrainingConfig, overrides=["model.matcher=scan", "model.pooling=lse"])
    assert chosen.model == SCANConfig(pooling="lse")
    assert TrainingConfig.model_validate_json(chosen.model_dump_json()) == chosen
    with pytest.raises(HANError) as error:
        load_config(
            TrainingConfig, overrides=["model.matcher=scan", "model.poling=lse", "model.joint_size=0", "powr=1"]
        )
    for part in ("model.poling is no field (did you mean pooling?)", "model.joint_size = 0", "powr is no field"):
        assert part in str(error.value)
    with pytest.raises(HANError, match=r"model\.blocks is no field; fields: matcher, region_size"):
        load_config(TrainingConfig, overrides=["model.matcher=vse++", "model.blocks=2"])
    with pytest.raises(
        HANError, match=r"model\.matcher = .clip.: no matcher .* maxsim, pooled, scan, vse\+\+, vse-infinity"
    ):
        load_config(TrainingConfig, overrides=["model.matcher=clip"])


def test_what_gave_the_wrong_thing_is_named(tmp_path):
    def message(text: str, *overrides: str) -> str:
        file.write_text(text)
        with pytest.raises(HANError) as error:
            load_config(TrainingConfig, file, overrides=overrides)
        return str(error.value).replace(str(file), "FILE")

    file = tmp_path / "config.toml"
    assert message("epochs = 3\n", "power=0.5").startswith("--set: power = 0.5: ")
    assert message("power = 2\n", "power=0.5", "epochs=3").startswith("--set: power = 0.5: ")
    assert message("power = 0.5\n", "epochs=3").startswith("FILE: power = 0.5: ")
    both = message("epocs = 3\n[model]\njoint_size = 0\n", "model.poling='lse'", "seed=1")
    assert both.startswith("FILE: ")
    assert both.index("epocs") < both.index("; --set: model.poling is no field")
    assert message("[model]\nmatcher = 'clip'\n", "model.joint_size=64").startswith("FILE: model.matcher = ")
    assert message("[model]\njoint_size = 8\n", "model.matcher=clip").startswith("--set: model.matcher = ")


@pytest.mark.parametrize(
    ("kind", "old", "message"),
    [
        (TrainingConfig, "average=0.9", "average is now called ema_decay"),
        (TrainingConfig, "minimum_count=2", "minimum_count is now called min_count"),
        (TrainingConfig, "text_start='texts'", "text_start is now called pretrained_text"),
        (TrainingConfig, "more_words=9", "more_words is now called vocabulary_expansion"),
        (TrainingConfig, "attention_rate=2", "attention_rate is no longer an option, leave it out"),
        (DetectorTrainingConfig, "average=0.9", "average is now called ema_decay"),
    ],
)
def test_former_names_are_refused_with_the_new_ones(tmp_path, kind, old, message):
    with pytest.raises(HANError, match=f"^--set: {message}$"):
        load_config(kind, overrides=[old])
    (tmp_path / "old.toml").write_text(old)
    with pytest.raises(HANError, match=rf"old\.toml: {message}$"):
        load_config(kind, tmp_path / "old.toml")


@pytest.mark.parametrize("override", ["epochs", "=3", "epochs.a=3"])
def test_overrides_that_are_none(override):
    with pytest.raises(HANError, match="epochs"):
        load_config(TrainingConfig, overrides=[override])


def test_files_that_are_none(tmp_path):
    with pytest.raises(HANError, match="cannot be read"):
        load_config(TrainingConfig, tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("epochs = = 3")
    with pytest.raises(HANError, match="not a TOML file"):
        load_config(TrainingConfig, tmp_path / "bad.toml")


def test_learning_rate_warms_up_and_decays():
    config = TrainingConfig(learning_rate=1.0, warm_up_steps=10, final_rate=0.1)
    rates = [learning_rate(config, step, steps=100) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[9:]))
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("power", [1.0, 4.0, math.inf])
def test_power_grows_from_one(power):
    config = TrainingConfig(power=power, power_warm_up=0.5)
    powers = [loss_power(config, step, steps=100) for step in range(100)]
    assert powers[0] == 1
    assert powers[50:] == [power] * 50
    assert all(1 <= earlier <= later for earlier, later in itertools.pairwise(powers))
    assert loss_power(TrainingConfig(power=power, power_warm_up=0), 0, steps=100) == power


def test_collapse_is_warned_of_once():
    watch = CollapseWatch(patience=20)
    assert all(watch.see(0.6 - 0.002 * i, collapsed=0.4) is None for i in range(90))  # still moving
    said = [watch.see(0.4, collapsed=0.4) for _ in range(60)]
    assert sum(warning is not None for warning in said) == 1
    assert "smaller power" in next(filter(None, said))


def test_a_loss_below_collapse_is_none():
    watch = CollapseWatch(patience=20)
    assert all(watch.see(0.35, collapsed=0.4) is None for _ in range(100))


def test_batches_without_negatives_are_no_collapse():
    watch = CollapseWatch(patience=20)
    assert all(watch.see(0.0, collapsed=0.0) is None for _ in range(100))
