"""An index that is served, a client of the server, and the page in Chromium, which may not complain."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from pages import PHOTOS
from served import calibrate, client, make_index
from tiny_index import FakeDetector, make_model, update

from han_retrieval.serve import SearchService, create_app
from han_retrieval.serve import service as service_module

SHIFTS = (
    "new PerformanceObserver(l => { for (const e of l.getEntries()) window.shifted = (window.shifted ?? 0) + e.value })"
)
SHIFTS += ".observe({ type: 'layout-shift', buffered: true })"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("served"))


@pytest.fixture
def web(index):
    with client(SearchService(index)) as web:
        yield web


@pytest.fixture
def changing(tmp_path, index, monkeypatch):
    """A copy of the index's folder that may be changed, and a client that looks for changes at each request."""
    monkeypatch.setattr(service_module, "_CHECK_SECONDS", 0.0)
    photos = tmp_path / "photos"
    shutil.copytree(index.parent / "photos", photos)
    model = make_model(tmp_path / "model")
    update(photos, tmp_path / "index", model)
    with client(SearchService(tmp_path / "index")) as web:
        yield tmp_path, web


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium here")
    assert path is not None, "install chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    make_index(folder, photos=PHOTOS)
    calibrate(folder / "model", threshold=0.0, photos=10)
    return folder


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    service = SearchService(folder / "index", detector=FakeDetector())
    service.warm_up()
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture
def open_page(chromium, address) -> Iterator:
    """Opens pages; when the test is over, none of them may have complained, but of answers that it asked for."""
    complaints: list[str] = []
    contexts = []

    def open_page(path: str = "", **options: object):
        context = chromium.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.add_init_script(SHIFTS)
        page.goto(address + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [each for each in complaints if "Failed to load resource" not in each] == []
