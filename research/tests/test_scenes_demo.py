from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from han_retrieval.cli.main import main
from han_retrieval.errors import HANError
from han_retrieval.evaluation import Relevance
from research.scenes import demo


def run(*arguments: object) -> None:
    demo.main([str(argument) for argument in arguments], standalone_mode=False)


def test_a_folder_that_is_not_its_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "mine.txt").write_text("dear")
    with pytest.raises(HANError, match="choose another with --out"):
        run("--out", tmp_path)
    assert (tmp_path / "scenes" / "mine.txt").read_text() == "dear"


def test_recall_by_chance_is_that_of_all_orders() -> None:
    relevance = Relevance.of(["a", "b", "c"], [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)])
    chances = demo._chance(relevance)
    for place, k in enumerate(demo.RECALLS):
        hits = [
            np.isin(relevance.caption_image[list(order[:k])], image).any()
            for order in itertools.permutations(range(5))
            for image in range(3)
        ]
        assert chances["image to text"][place] == pytest.approx(100 * np.mean(hits))
        assert chances["text to image"][place] == pytest.approx(100 * min(1, k / 3))


@pytest.mark.slow
def test_it_ends_with_figures_pictures_and_a_page_and_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "TRAIN", 60)
    monkeypatch.setattr(demo, "DEV", 20)
    out = tmp_path / "demo"
    for _ in range(2):
        run("--out", out, "--seconds", 30)
        printed = capsys.readouterr().out
        assert "text to image, by chance" in printed
        assert "Grounding of" in printed
        assert {path.name for path in out.glob("*.*")} == {
            "demo.json",
            "evidence-1.png",
            "evidence-2.png",
            "index.html",
        }
    scenes, model = str(out / "scenes"), str(out / "model")
    main(["evaluate", model, scenes, "--features", str(out / "features"), "--split", "dev"])
    assert "rSum" in capsys.readouterr().out
