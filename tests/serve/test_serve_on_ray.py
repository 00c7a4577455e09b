"""The server on two shards of Ray Serve: the answers of one process; a shard that is killed is missed and replaced."""

from __future__ import annotations

import os
import signal
import time

import pytest
from local_ray import ray_address  # noqa: F401
from served import SENTENCE, client, make_index

from han_retrieval.cluster import Cluster
from han_retrieval.errors import ConfigError, StoreError
from han_retrieval.serve import SearchService

pytestmark = pytest.mark.slow
REQUESTS = (
    ("/api/search", {"q": SENTENCE, "k": 5}),
    ("/api/search", {"q": '"a red dog" - 0.5 * "a cat"'}),
    ("/api/search", {"q": "a blue cat", "where": "width > height"}),
)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("served"), photos=40)


def answer(web, path: str, **params) -> dict:
    found = web.get(path, params=params)
    assert found.status_code == 200, found.text
    return {key: value for key, value in found.json().items() if key != "seconds"}


def same(one: dict, other: dict) -> bool:
    scores = [[hit.pop("score") for hit in each["hits"]] for each in (one, other)]
    return one == other and scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_two_shards_answer_as_one_process_and_a_dead_one_is_missed_and_replaced(index, ray_address):  # noqa: F811
    from han_retrieval.serve.shards_on_ray import shards_on_ray

    with (
        shards_on_ray(index, shards=2, cluster=Cluster()) as shards,
        client(SearchService(index, shards=shards)) as web,
        client(SearchService(index)) as alone,
    ):
        photo = answer(alone, "/api/photos")["hits"][3]["id"]
        for path, params in (*REQUESTS, (f"/api/photos/{photo}/similar", {"k": 9})):
            assert same(answer(web, path, **params), answer(alone, path, **params))

        pids = [shards.ready(each) for each in range(2)]
        os.kill(pids[1], signal.SIGKILL)
        found = answer(web, "/api/search", q="a blue dog")
        assert found["missing"] == 20
        assert len(found["hits"]) == 20
        end = time.monotonic() + 240
        while answer(web, "/api/search", q="a blue dog")["missing"]:
            assert time.monotonic() < end
            time.sleep(0.5)
        assert same(answer(web, "/api/search", q="a blue dog"), answer(alone, "/api/search", q="a blue dog"))
        assert shards.ready(0) == pids[0]
        assert shards.ready(1) != pids[1]
        names = shards._names
    from ray import serve

    while set(names) & set(serve.status().applications):  # which would outlive the process that began them
        assert time.monotonic() < end
        time.sleep(0.5)


def test_a_cluster_without_room_and_an_index_that_a_shard_does_not_have(index, tmp_path, ray_address):  # noqa: F811
    from han_retrieval.serve.shards_on_ray import shards_on_ray

    with pytest.raises(ConfigError, match="has room for 2 shards of 1 CPUs, not for 3"), shards_on_ray(index, shards=3):
        pass
    with (
        pytest.raises(StoreError, match=r"^worker on \S+: .*/gone: no such index"),
        shards_on_ray(tmp_path / "gone", shards=1),
    ):
        pass
