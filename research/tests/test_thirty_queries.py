"""What thirty queries show is printed, for whatever photos are there."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from served import calibrate, make_index

from research import thirty_queries


def run(*arguments: object) -> str:
    result = CliRunner().invoke(thirty_queries.main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_photos_of_installed_packages_are_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "packages" / "someone"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('not to be run')")
    Image.new("RGB", (300, 200)).save(package / "photo.png")
    Image.new("RGB", (16, 16)).save(package / "icon.png")
    with zipfile.ZipFile(package / "more.zip", "w") as packed:
        packed.write(package / "photo.png", "folder/Düsseldorf.png")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setattr(thirty_queries, "SOURCES", (("someone", "*.png"), ("someone", "*.zip"), ("no_such_one", "*")))
    run("gather", tmp_path / "photos")
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == ["Düsseldorf.png", "photo.png"]


def test_each_query_says_what_is_shown(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    calibrate(tmp_path / "model", threshold=0.0, photos=6)
    printed = run("show", index, "--sheet", tmp_path / "sheet.png")
    lines = printed.splitlines()
    queries = [line for line in lines if not line.startswith(" ")]
    assert queries == [f"{i}. {query}" for i, query in enumerate(thirty_queries.QUERIES, start=1)]
    dog = lines[lines.index("2. a dog") + 1 :][: 1 + thirty_queries.SHOWN]
    assert sum(int(part.split()[0]) for part in dog[0].split(", ")) == 6
    assert all(Path(line.rpartition(" ")[2]).suffix for line in dog[1:])
    assert "  refused: " in printed  # what the tiny model knows no word of
    assert "  unknown: " in printed
    assert Image.open(tmp_path / "sheet.png").width > 1000
