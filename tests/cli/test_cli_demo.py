from __future__ import annotations

import shlex
from importlib import resources
from pathlib import Path

import pytest
from PIL import Image

from han_retrieval.cli import demo, gallery
from han_retrieval.cli.main import main
from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.regions import DEFAULT_DETECTOR, load_detector
from han_retrieval.text import Vocabulary


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that has learned nothing, and knows the words."""
    vocabulary = Vocabulary.from_sentences(demo.SENTENCES, min_count=1)
    detector = load_detector(DEFAULT_DETECTOR, regions=3)
    config = HANConfig(
        region_size=detector.feature_size,
        vocabulary_size=len(vocabulary),
        word_size=8,
        joint_size=16,
        detector_fingerprint=detector.fingerprint,
    )
    HAN(config, vocabulary=vocabulary).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_it_answers_its_sentences_with_evidence_and_credits_and_can_be_run_again(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [photo for photo in gallery.GALLERY if photo.package == "sklearn"]
    for module in (demo, gallery):
        monkeypatch.setattr(module, "GALLERY", few)
    for _ in range(2):
        main(["demo", "--model", str(model), "--out", str(tmp_path / "demo")])
        printed = capsys.readouterr().out
        assert all(f'"{sentence}"\n' in printed for sentence in demo.SENTENCES)
        assert printed.count("  flower.jpg\n") == len(demo.SENTENCES)
        assert printed.rstrip().endswith("--out index")  # not into the demo's, which the next demo makes anew
        page = (tmp_path / "demo/index.html").read_text()
        assert page.count("<figure") == len(few) * len(demo.SENTENCES)
        assert "danielbuechele" in page
    main(["search", str(tmp_path / "demo/index"), "a red cup", "--paths"])
    assert len(capsys.readouterr().out.splitlines()) == len(few)


def test_every_photo_of_the_gallery_is_there(tmp_path: Path) -> None:
    gallery.copy_gallery(tmp_path)
    for photo in gallery.GALLERY:
        with Image.open(tmp_path / photo.name) as opened:
            assert min(opened.size) >= 300
    assert len({photo.name for photo in gallery.GALLERY}) == len(gallery.GALLERY)


def test_without_the_packages_it_says_what_to_install(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def files(package: str) -> Path:
        raise ModuleNotFoundError(package)

    monkeypatch.setattr(resources, "files", files)
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--model", str(model), "--out", str(tmp_path / "demo")])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "'skimage' is missing: pip install 'han-retrieval[demo]'" in err


def test_a_folder_that_is_not_its_own_is_left_alone(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pictures/photos").mkdir(parents=True)
    (tmp_path / "pictures/photos/mine.txt").write_text("dear")
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--model", str(model), "--out", str(tmp_path / "pictures")])
    assert ended.value.code == 2
    assert "is not a folder that an earlier han demo made" in capsys.readouterr().err
    assert (tmp_path / "pictures/photos/mine.txt").read_text() == "dear"


@pytest.mark.parametrize(("called", "found", "name"), [
    (".venv/bin/han", None, ".venv/bin/han"), (".venv/bin/han", "/usr/bin/han", "han"), ("python", None, "han"),
])  # fmt: skip
def test_the_next_steps_name_a_program_that_a_shell_finds(monkeypatch, called, found, name) -> None:
    monkeypatch.setattr("sys.argv", [str(Path(called))])
    monkeypatch.setattr("shutil.which", lambda program: found)
    assert f"browser: {shlex.quote(str(Path(name)))} serve" in demo._next_steps(Path("demo"))
