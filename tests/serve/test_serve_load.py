"""Many clients at once: each gets what it would get alone, and none is refused."""

from __future__ import annotations

import http.client
import json
import shutil
import threading

import numpy as np
import pytest
from served import make_index, make_picture, running
from tiny_index import FakeDetector, update

from han_retrieval.serve import SearchService, create_app
from han_retrieval.serve import service as service_module
from serve_load import Answer, ask, load, mixed_paths

SENTENCES = ["a red dog", "a blue cat", "a dog", "blue", '"red" - "a cat"', "a cat dog blue"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(service_module, "_CHECK_SECONDS", 0.1)
    make_index(tmp_path, photos=12)
    return tmp_path


def content(answer: Answer) -> object:
    """What an answer says, but for how long it took."""
    if "/api/" not in answer.path:
        return answer.body
    said = json.loads(answer.body)
    said.pop("seconds", None)
    return said


@pytest.mark.parametrize("seconds", [1, pytest.param(60, marks=pytest.mark.slow)])
def test_64_clients_get_what_each_would_get_alone(folder, seconds):
    with running(create_app(SearchService(folder / "index", detector=FakeDetector()))) as address:
        listed = ask(http.client.HTTPConnection(*address), "/api/photos").body
        paths = mixed_paths(SENTENCES, [hit["id"] for hit in json.loads(listed)["hits"]])
        alone = {path: ask(http.client.HTTPConnection(*address), path) for path in set(paths)}
        answers = load(address, paths, clients=64, seconds=seconds)
        while len(answers) < 64:  # a busy machine takes longer
            answers += load(address, paths, clients=64, seconds=seconds)
    assert {answer.status for answer in (*alone.values(), *answers)} == {200}
    assert all(content(answer) == content(alone[answer.path]) for answer in answers)
    assert np.percentile([answer.seconds for answer in answers], 95) < 10


def test_an_index_that_goes_and_comes_back_under_load_is_a_clear_503_until_then(folder):
    with running(create_app(SearchService(folder / "index", detector=FakeDetector()))) as address:
        listed = ask(http.client.HTTPConnection(*address), "/api/photos").body
        paths = mixed_paths(SENTENCES, [hit["id"] for hit in json.loads(listed)["hits"]])
        answers: list[Answer] = []
        asking = threading.Thread(target=lambda: answers.extend(load(address, paths, clients=8, seconds=3)))
        asking.start()
        for again in range(2):
            (folder / "index").rename(folder / "gone")
            shutil.rmtree(folder / "gone")
            ready = ask(http.client.HTTPConnection(*address), "/ready")
            while ready.status == 200:
                ready = ask(http.client.HTTPConnection(*address), "/ready")
            assert "no such index" in json.loads(ready.body)["error"]
            make_picture(folder / "photos" / f"new {again}.jpg", 70 + again)
            update(folder / "photos", folder / "index", folder / "model")
            while json.loads(ready.body).get("photos") != 13 + again:
                ready = ask(http.client.HTTPConnection(*address), "/ready")
        asking.join()
        assert ask(http.client.HTTPConnection(*address), "/api/search?q=dog").status == 200
    # The new index is there before all of its photos are.
    assert {answer.status for answer in answers} <= {200, 404, 503}
    for answer in answers:
        if answer.status == 503:
            (line,) = json.loads(answer.body).values()
            assert "\n" not in line
