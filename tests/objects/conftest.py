"""Places in object storage that the tests of a file share."""

from __future__ import annotations

import itertools

import pytest
from object_server import has_seaweed, moto_server, seaweed_server

from han_retrieval.objects import cache

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """SeaweedFS, a real server, where it is installed; else moto's."""
    folder = tmp_path_factory.mktemp("seaweed") / "data"
    with seaweed_server(folder) if has_seaweed() else moto_server() as environment:
        yield environment


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "cache")


@pytest.fixture
def url(server, monkeypatch) -> str:
    """A place of its own in a bucket."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return f"s3://photos/test-{next(_numbers)}"
