"""The command as a whole: help, typos, one line an error."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import click
import pytest
from commands import run_han as run
from PIL import Image
from tiny_detector import tiny_network

from han_retrieval.cli.json_output import print_json
from han_retrieval.cli.main import COMMANDS, cli
from han_retrieval.cli.options import FOLDER, SOURCE
from han_retrieval.matchers import HAN, VSE, HANConfig, VSEConfig
from han_retrieval.regions.bottom_up import save_detector


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_has_help(capsys, verb):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert out.startswith(f"Usage: han {verb}")


def test_a_typo_gets_a_hint(capsys):
    code, out, err = run(capsys, "evalute")
    assert (code, out) == (2, "")
    assert err == "han: error: no command is called 'evalute'; did you mean 'han evaluate'?\n"


@pytest.mark.parametrize(
    "args",
    [
        ("train",),
        ("train", "nowhere", "--features", "no", "--out", "x"),
        ("train", ".", "--features", "no", "--out", "x", "--set", "epochs=0"),
        ("evaluate", "no-model", "no-data", "--features", "no", "--split", "dev"),
        ("info", "nowhere"),
        ("extract", "nowhere", "--out", "x"),
        ("explain", "no.jpg", "a dog", "--model", "no"),
        ("compare", "a.json", "b.json"),
    ],
    ids=lambda args: args[0],
)
def test_what_is_wrong_is_one_line_and_code_2(capsys, tmp_path, monkeypatch, args):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *args)
    assert code == 2
    assert out == ""
    assert err.startswith("han: error: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_info_tells_a_model(capsys, tmp_path):
    HAN(HANConfig(region_size=5, vocabulary_size=9, joint_size=8)).save_pretrained(tmp_path / "model")
    code, out, _ = run(capsys, "info", tmp_path / "model")
    assert code == 0
    assert "joint_size" in out
    (tmp_path / "model" / "model.safetensors").unlink()
    code, _, err = run(capsys, "info", tmp_path / "model")
    assert code == 2
    assert "model.safetensors is missing" in err


def test_info_tells_the_matcher(capsys, tmp_path):
    VSE(VSEConfig(region_size=5, vocabulary_size=9, joint_size=8)).save_pretrained(tmp_path / "model")
    assert json.loads(run(capsys, "info", tmp_path / "model", "--json")[1])["matcher"] == "vse++"


def test_info_tells_a_detector(capsys, tmp_path):
    network, folder = tiny_network(), tmp_path / "detector"
    save_detector(folder, network.config, network.learned(), card="# A card\n")
    found = json.loads(run(capsys, "info", folder, "--json")[1])
    names = network.config.names
    assert (found["kind"], found["nouns"], found["attributes"]) == ("detector", len(names.nouns), len(names.attributes))
    assert found["size"] == network.config.size
    (folder / "config.json").write_text('{"names": [1]}')
    code, _, err = run(capsys, "info", folder)
    assert (code, err.count("\n")) == (2, 1)
    assert "config.json: not the configuration of a detector" in err


def test_info_tells_the_photos_of_a_pattern(capsys, tmp_path):
    for name in ("a1.png", "a2.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    code, out, err = run(capsys, "info", tmp_path / "a*.png", "--json")
    assert code == 0, err
    assert (json.loads(out)["kind"], json.loads(out)["photos"]) == ("dataset", 2)
    for name in (tmp_path / "c*.png", f"hf:{tmp_path}/none"):
        code, out, err = run(capsys, "info", name)
        assert (code, out, err.count("\n")) == (2, "", 1)


def test_train_takes_a_matcher_by_its_name(capsys, tmp_path):
    paths = ("data", "--features", "features", "--out", "model", "--show-config")
    code, out, _ = run(capsys, "train", *paths, "--matcher", "scan", "--set", "model.pooling=lse")
    assert (code, json.loads(out)["model"]["matcher"], json.loads(out)["model"]["pooling"]) == (0, "scan", "lse")
    assert json.loads(run(capsys, "train", *paths)[1])["model"]["matcher"] == "han"
    code, out, err = run(capsys, "train", *paths, "--matcher", "clip")
    assert (code, out) == (2, "")
    assert "han, maxsim, pooled, scan, vse++, vse-infinity" in err


def test_doctor_finds_nothing_wrong(capsys):
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert "detector: ok" in out
    assert "both scorers agree: ok" in out


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_model_is_given_as_text(verb):
    command = cli.get_command(click.Context(cli), verb)
    for parameter in command.params:
        if parameter.name == "model":  # as a Path, "./default" could not be told from "default", which ships
            assert parameter.type_cast_value(click.Context(command), "./default") == "./default"


def test_without_a_verb_the_help_is_shown(capsys):
    code, out, err = run(capsys)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: han [OPTIONS] COMMAND")
    assert "Index folders of photos" in err


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (PermissionError(13, "Permission denied", "a.jpg"), "a.jpg: Permission denied"),
    ],
)
def test_what_the_system_has_against_it_is_one_line(capsys, monkeypatch, error, says):
    def info(*_):
        raise error

    monkeypatch.setattr("han_retrieval.cli.info._facts", info)
    assert run(capsys, "info", "default") == (2, "", f"han: error: {says}\n")


def test_help_needs_no_torch():
    program = (
        "import sys; from han_retrieval.cli.main import cli; "
        "cli(['--help'], standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_json_has_as_many_digits_as_mean_something(capsys):
    print_json({"share": 1 / 3, "rows": [{"size": 123_456_789, "score": -12345.678901}], "ö": (None, True, "é")})
    assert capsys.readouterr().out == (
        '{"share": 0.333333, "rows": [{"size": 123456789, "score": -12345.7}], "ö": [null, true, "é"]}\n'
    )


def test_json_is_ascii_where_the_output_is_not_utf_8(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="cp1252", errors="backslashreplace"))
    print_json({"title": "Café 😀"})
    sys.stdout.flush()
    assert json.loads(written.getvalue().decode("ascii")) == {"title": "Café 😀"}


def test_a_tilde_in_a_path_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for kind in (FOLDER, SOURCE):  # as in --out=~/features, which shells leave as it is
        assert kind.convert("~/features", None, None) == tmp_path / "features"
