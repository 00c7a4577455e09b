"""Parts by name: an unknown name has a hint, a broken plug-in is named and harms no other."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from han_retrieval import plugins
from han_retrieval.cli.main import main
from han_retrieval.errors import ConfigError
from han_retrieval.regions import RegionStore


@pytest.fixture
def others(tmp_path, monkeypatch):
    """Another package, with a matcher that works, one that fails to import, and names that this package has."""
    folder = tmp_path / "others-2.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 2.0\n")
    (folder / "entry_points.txt").write_text(
        "[han_retrieval.matchers]\nworking = others:Working\nhan = others:Working\nbroken = others_broken:Broken\n"
        "absent = others_absent:Absent\n[han_retrieval.datasets]\nscript = others_script:ADAPTER\n"
    )
    (tmp_path / "others_script.py").write_text("print('starting'); raise SystemExit('usage: script FILE')")
    (tmp_path / "others_broken.py").write_text("raise RuntimeError('no licence\\nwas found')")
    module = ModuleType("others")
    module.Working = object
    monkeypatch.setitem(sys.modules, "others", module)
    monkeypatch.syspath_prepend(tmp_path)
    plugins.installed.cache_clear()
    yield
    plugins.installed.cache_clear()


def test_what_ships_is_registered_as_everyone_s_parts_are():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["entry-points"]) == {f"han_retrieval.{kind}" for kind in plugins.GROUPS}
    for kind in plugins.GROUPS:
        ours = {name: part for name, part in plugins.installed(kind).items() if part.is_ours}
        assert {name: part.target for name, part in ours.items()} == project["entry-points"][f"han_retrieval.{kind}"]
        for part in ours.values():
            assert part.load() is not None
            assert part.package.startswith("han-retrieval ")


@pytest.mark.usefixtures("others")
def test_parts_of_other_packages_are_found_and_replace_none_of_ours():
    assert plugins.load("matchers", "working") is object
    assert plugins.find("matchers", "working").package == "others 2.0"
    assert plugins.find("matchers", "han").is_ours


@pytest.mark.usefixtures("others")
def test_an_unknown_name_has_the_nearest_and_all_names():
    with pytest.raises(ConfigError, match=r"no matcher is called 'workin'; did you mean 'working'\? there are: .*scan"):
        plugins.load("matchers", "workin")
    with pytest.raises(ConfigError, match=r"no text encoder is called 'xyz'; there are: bigru"):
        plugins.load("text_encoders", "xyz")


@pytest.mark.usefixtures("others")
def test_a_plug_in_that_cannot_be_imported_is_named_and_harms_no_other(capsys):
    expected = (
        "the matcher 'broken' of others 2.0 cannot be imported from others_broken:Broken (RuntimeError: no licence was "
        "found); mend or uninstall that package"
    )
    with pytest.raises(ConfigError) as error:
        plugins.load("matchers", "broken")
    assert str(error.value) == expected
    assert plugins.load("matchers", "han").__name__ == "HAN"
    main(["plugins"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["broken"].endswith("others 2.0  cannot be imported: RuntimeError: no licence was found")
    assert "ModuleNotFoundError" in lines["absent"]
    assert lines["working"].endswith("others 2.0")
    assert lines["script"].endswith("cannot be imported: SystemExit: usage: script FILE")
    assert "starting" not in lines
    assert lines["scan"].rstrip().endswith("han-retrieval 0.1.0")


@pytest.mark.usefixtures("others")
def test_what_is_no_matcher_is_refused(capsys, tmp_path):
    RegionStore.create(tmp_path / "features", fingerprint="drawn", feature_size=4).close()
    features, out = str(tmp_path / "features"), str(tmp_path / "o")
    with pytest.raises(SystemExit):
        main(["train", str(tmp_path), "--features", features, "--out", out, "--matcher", "working"])
    assert "which is no subclass of Matcher" in capsys.readouterr().err
