"""What the command line says of Ray: options that need it, a cluster that does not answer, no Ray at all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from commands import run_han
from local_ray import ray_address  # noqa: F401
from tiny_index import make_model, make_photos

from han_retrieval.cluster import Cluster, room_for
from han_retrieval.errors import ConfigError
from han_retrieval.regions import RegionStore


@pytest.fixture
def run(capsys):
    """The error that a command ends with."""

    def run(*arguments) -> str:
        code, out, err = run_han(capsys, *arguments)
        assert (code, out) == (2, "")
        return err.strip().splitlines()[-1]

    return run


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", 4)


def test_options_of_ray_need_the_engine(tmp_path, photos, run):
    for more in (["--address", "a:1"], ["--workers", 2], ["--cpus-per-worker", 2], ["--gpus-per-worker", 1]):
        assert f"{more[0]} is for a Ray cluster: add --engine ray" in run("extract", photos, "--out", "x", *more)
    assert "--shards is for a Ray cluster" in run("serve", tmp_path, "--port", 0, "--shards", 2)


def test_a_cluster_that_does_not_answer_is_told_at_once(tmp_path, photos, run):
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for address, reason in (
        (f"127.0.0.1:{port}", f"127.0.0.1:{port}: no Ray cluster answers there"),
        (f"ray://127.0.0.1:{port}", "no Ray cluster answers there"),
        ("10.0.0..1:6379", "10.0.0..1:6379: no Ray cluster answers there"),
        ("nonsense", "'nonsense' is no address of a Ray cluster: give HOST:PORT"),
    ):
        for command in (
            ["extract", photos, "--out", tmp_path / "out", "--detector", "grid"],
            ["index", photos, "--out", tmp_path / "index"],
        ):
            assert reason in run(*command, "--engine", "ray", "--address", address)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "index").exists()


def test_what_a_cluster_has_no_use_for_is_refused(tmp_path, photos, run):
    cluster = ["--engine", "ray"]
    assert "--gpus-per-worker" in run("index", photos, "--out", tmp_path / "i", "--device", "cpu", *cluster)
    for more in (["--gpus-per-worker", 1], ["--workers", 2]):  # shards have a number of their own and score on CPUs
        assert f"No such option '{more[0]}'" in run("serve", tmp_path, *more, *cluster)
    assert "leave --engine (ray) out" in run("extract", "--preview", photos / "000.png", *cluster)


@pytest.mark.parametrize(
    ("machines", "cpus", "gpus", "room"),
    [
        ([(1, 0), (1, 0)], 2, 0, 0),
        ([(3, 0), (3, 0)], 2, 0, 2),
        ([(2, 0)], 0.2, 0, 10),
        ([(8, 1), (8, 0)], 1, 1, 1),
        ([(4, 0), (2, 0)], 1, 0, 6),
    ],
)
def test_workers_fit_on_machines(machines, cpus, gpus, room):
    nodes = [{"Alive": True, "Resources": {"CPU": c, "GPU": g}} for c, g in machines]
    nodes.append({"Alive": False, "Resources": {"CPU": 99, "GPU": 99}})
    ray = SimpleNamespace(nodes=lambda: nodes)
    if room:
        assert room_for(ray, Cluster(cpus=cpus, gpus=gpus)) == room
        assert room_for(ray, Cluster(workers=1, cpus=cpus, gpus=gpus)) == 1
    else:
        with pytest.raises(ConfigError, match="a machine of the cluster has 1 CPUs and 0 GPUs at most"):
            room_for(ray, Cluster(cpus=cpus, gpus=gpus))


def test_without_ray_the_extra_is_named(tmp_path, photos, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    command = ["extract", photos, "--out", tmp_path / "out", "--detector", "grid", "--engine", "ray"]
    assert "Ray is missing: pip install 'han-retrieval[ray]'" in run(*command)


@pytest.mark.slow
def test_the_commands_on_a_cluster(tmp_path, photos, ray_address):  # noqa: F811
    def command(*arguments) -> dict:
        where = ["--engine", "ray", "--address", ray_address, "--workers", "1", "--json"]
        result = subprocess.run(
            [sys.executable, "-m", "han_retrieval", *map(str, arguments), *where],
            capture_output=True, text=True, env=os.environ,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    (tmp_path / "list.txt").write_text("photos/000.png\nphotos/gone.png\n")
    found = command("extract", tmp_path / "list.txt", "--out", tmp_path / "out", "--detector", "grid", "--regions", 9)
    assert (found["done"], len(found["skipped"])) == (1, 1)
    assert RegionStore.open(tmp_path / "out").ids == ["photos/000.png"]
    model = make_model(tmp_path / "model", fingerprint=None)
    with pytest.raises(AssertionError, match="reads 12 numbers a region"):
        command("index", photos, "--out", tmp_path / "index", "--model", model, "--detector", "grid")
    assert command("index", photos, "--out", tmp_path / "index")["added"] == 4
