"""The learning curve takes up what was made by the same recipe, dataset and features alone."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from training_data import make_data, small_config

import learning_curve
from han_retrieval.errors import HANError


@pytest.fixture
def curve(tmp_path, monkeypatch):
    """Runs the script without training; says on how many photos each model would have been trained."""
    dataset, store = make_data(tmp_path, photos=60)
    trained = []
    monkeypatch.setattr(learning_curve, "read_dataset", lambda _: dataset)

    def note(config, part, store, folder, **_):
        folder.mkdir(parents=True)
        trained.append(len(part.split("train")))

    monkeypatch.setattr(learning_curve, "train", note)
    monkeypatch.setattr(
        learning_curve, "figures", lambda *_: {"rsum": 300.0, "ties_at_random": 51.0, "equal_relevant": 52.0}
    )
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("epochs = 3\nlearning_rate = 1e-3")

    def run():
        words = [tmp_path, "--features", store.path, "--config", recipe, "--photos", 10, "--out", tmp_path / "curve"]
        trained.clear()
        result = CliRunner().invoke(learning_curve.main, list(map(str, words)), catch_exceptions=False)
        assert result.exit_code == 0
        return list(trained)

    return run, recipe, tmp_path


def test_what_is_done_is_taken_up(curve):
    run, _, folder = curve
    assert (run(), run()) == ([10], [])
    assert "| 10 | 6 | 300.0 | 50.0 | 51.0 | 52.0 |" in (folder / "curve/curve.md").read_text()


def test_what_another_recipe_made_is_refused(curve):
    run, recipe, folder = curve
    run()
    recipe.write_text("epochs = 3\nlearning_rate = 2e-3")
    with pytest.raises(HANError, match=r"10-0\.json: was made with another recipe; choose another --out"):
        run()
    (done,) = (folder / "curve").glob("*.json")
    done.write_text(json.dumps({"rsum": 300.0}))  # as it was written before it said what made it
    with pytest.raises(HANError, match="does not say what it was made of"):
        run()


def test_another_dataset_or_other_features_are_seen(tmp_path):
    (dataset, store), (other, other_store) = (
        make_data(tmp_path / name, photos=20, seed=n) for n, name in enumerate("ab")
    )
    made = learning_curve.made_by(small_config(), dataset, store)
    assert learning_curve.made_by(small_config(), dataset, other_store) == made
    assert learning_curve.made_by(small_config(), other, store)["dataset"] != made["dataset"]
    assert made["features"] == "made-up-1"
