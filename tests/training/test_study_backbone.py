"""The comparisons' runs with a backbone that is trained along: each model is measured on features of its own."""

from __future__ import annotations

from drawn_photos import write_drawn_photos

from han_retrieval.data import read_dataset
from han_retrieval.matchers import load_matcher
from han_retrieval.regions import RegionStore, extract, load_detector
from research.study.runs import Study, find, hold_out
from research.study.settings import Run, Setting

SMALL = {
    "epochs": 1,
    "batch_size": 8,
    "min_count": 1,
    "word_vectors": None,
    "model.word_size": 8,
    "model.joint_size": 16,
    "backbone.trained": True,
    "backbone.head_epochs": 0,
    "backbone.frozen_stages": 8,
}


def test_tables_other_than_the_model_s_can_be_changed():
    config = Setting("x", SMALL).config(seed=0)
    assert config.backbone.trained
    assert config.model.word_size == 8
    assert "trained=True" in Setting("x", SMALL).name


def test_a_model_is_measured_on_features_by_its_own_backbone(tmp_path):
    write_drawn_photos(tmp_path / "photos", train=14, dev=4)
    dataset = hold_out(read_dataset(tmp_path / "photos"), share=0.2)
    extract(dataset, load_detector("grid+efficientnet-lite2:64", regions=5), tmp_path / "features")
    store = RegionStore.open(tmp_path / "features")
    study = Study(dataset, {"drawn": store}, None, tmp_path / "runs")
    run = Run(Setting("x", SMALL, regions=3), "drawn", 0)
    made = study.perform(run, progress=False)
    own = RegionStore.open(run.folder(study.out) / "training/features")
    assert own.fingerprint == load_matcher(run.folder(study.out)).config.detector_fingerprint != store.fingerprint
    assert sorted(own.ids) == sorted(photo.id for photo in dataset.split("dev").photos)
    assert find(run, study.out, detector=store.fingerprint)["rsum"] == made["rsum"]
