"""Places in object storage that the tests of a file share."""

from __future__ import annotations

import itertools

import pytest
from object_server import moto_server, seaweed_server

from han_retrieval.objects import cache

_numbers = itertools.count()


@pytest.fixture(scope="module")
def moto():
    with moto_server() as environment:
        yield environment


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory):
    with seaweed_server(tmp_path_factory.mktemp("seaweed") / "data") as environment:
        yield environment


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "cache")


@pytest.fixture
def url(moto, monkeypatch) -> str:
    """A place of its own in a bucket of moto's server."""
    for name, value in moto.items():
        monkeypatch.setenv(name, value)
    return f"s3://photos/test-{next(_numbers)}"


@pytest.fixture
def real_url(seaweed, monkeypatch) -> str:
    """A place of its own in a bucket of a real server."""
    for name, value in seaweed.items():
        monkeypatch.setenv(name, value)
    return f"s3://photos/test-{next(_numbers)}"
