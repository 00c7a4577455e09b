"""A small index of drawn photos, and a server of it."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from fastapi.testclient import TestClient
from PIL import Image, ImageDraw
from tiny_index import make_model, update

from han_retrieval.matchers.saving import folder_hash
from han_retrieval.search import Calibration
from han_retrieval.serve import Limits, SearchService, create_app, listen
from han_retrieval.serve.run import make_server

NAMES = ("a.jpg", "trips/2024/été à la mer.jpg", "trips/2024/写真.jpg", "trips/b's.jpg", "trips_not/c.jpg", "d%_.png")
SIZES = ((60, 40), (40, 60), (90, 30), (50, 50), (64, 48), (48, 64))
SENTENCE = "a red dog"


def make_picture(path: Path, seed: int, *, date: str | None = None, **options: object) -> Path:
    """A photo of its own colours and size, taken on a day ("2024:01:31 12:00:00") or at none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = SIZES[seed % len(SIZES)]
    photo = Image.new("RGB", (width * 4, height * 4), (40 * seed % 256, 90 * seed % 256, 200 - 30 * seed % 200))
    ImageDraw.Draw(photo).ellipse((20, 20, 60 + seed, 80), fill=(250 - seed, 200, 20 * seed % 256))
    exif = Image.Exif()
    if date is not None:
        exif.get_ifd(0x8769)[0x9003] = date
    photo.save(path, exif=exif, **options)
    return path


def make_index(folder: Path, *, photos: int = len(NAMES)) -> Path:
    """An index of some photos, those with an even number taken on the first of January, March, ... 2024."""
    for i in range(photos):
        name = NAMES[i] if i < len(NAMES) else f"more/{i:03}.jpg"
        make_picture(folder / "photos" / name, i, date=None if i % 2 else f"2024:{i % 12 + 1:02}:01 12:00:00")
    model = make_model(folder / "model")
    update(folder / "photos", folder / "index", model)
    return folder / "index"


def jpeg(seed: int, *, size: tuple[int, int] = (64, 48)) -> bytes:
    """A photo's file that is in no index."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (seed % 256, 7 * seed % 256, 3)).save(buffer, "JPEG")
    return buffer.getvalue()


def calibrate(model: Path, *, threshold: float, photos: int) -> None:
    """Make probabilities of a model's scores: sigmoid(2 * score) among so many photos."""
    facts = {"precision": 1, "recall": 1, "answered_without": 0, "error": 0, "reliability": [], "split": None}
    facts |= {"photos": photos, "sentences": 1, "shown": 1, "pairs": 1, "model": folder_hash(model)}
    Calibration(slope=2.0, intercept=0.0, threshold=threshold, **facts).write(model)


def client(service: SearchService, *, limits: Limits | None = None, **options: object) -> TestClient:
    """A client on this machine."""
    return TestClient(create_app(service, limits=limits, **options), base_url="http://127.0.0.1:8080")


@contextlib.contextmanager
def running(app: object) -> Iterator[tuple[str, int]]:
    """The address of a server of an application, as ``han serve`` runs it but for signals, in a thread."""
    listener = listen("127.0.0.1", 0)
    server = make_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def ids(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def error(answer, status: int) -> str:
    assert answer.status_code == status, answer.text
    (line,) = answer.json().values()
    assert list(answer.json()) == ["error"]
    assert "\n" not in line
    return line


def names(answer) -> set[str]:
    return {hit["name"] for hit in answer.json()["hits"]}
