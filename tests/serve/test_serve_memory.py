"""Photos of any size take bounded memory, and leave none behind."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from PIL import Image
from tiny_index import FakeDetector, make_model, update

from han_retrieval.serve.pixels import PixelBudget


def test_few_pixels_are_decoded_at_a_time_in_order():
    async def main() -> list[int]:
        budget = PixelBudget(100)
        now: list[int] = []
        most: list[int] = []

        async def decode(pixels: int) -> None:
            async with budget.take(pixels):
                now.append(pixels)
                most.append(sum(now))
                assert sum(now) <= 100 or len(now) == 1
                await asyncio.sleep(0.001)
                now.remove(pixels)

        await asyncio.wait_for(asyncio.gather(*map(decode, [60, 30, 20, 500, 10, 10, 100] * 5)), 20)
        return most

    most = asyncio.run(main())
    assert len(most) == 35
    assert max(most) == 500
    assert 90 in most  # two at once


SCRIPT = """
import sys
sys.path[:0] = sys.argv.pop(1).split("|")
from test_serve_memory import Small
from han_retrieval.cli.main import main
from han_retrieval.serve import SearchService
SearchService.__init__.__kwdefaults__["detector"] = Small()
main()
"""


class Small(FakeDetector):
    """Looks at a photo at a small scale, as detectors do."""

    def regions(self, photo):
        found = super().regions(photo.resize((24, 16)))
        return dataclasses.replace(found, width=photo.width, height=photo.height)


def memory(process: subprocess.Popen, name: str) -> int:
    """VmRSS or VmHWM of a process in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(rf"{name}:\s+(\d+)", status)[0]) // 1024


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_the_largest_photos_take_bounded_memory_and_leave_none(tmp_path):
    large = Image.linear_gradient("L").resize((9_999, 9_999)).convert("RGB")
    (tmp_path / "photos").mkdir()
    for i in range(3):
        large.putpixel((i, i), (255, 0, 0))
        large.save(tmp_path / "photos" / f"{i}.png", compress_level=1)
    large.save(tmp_path / "mine.jpg")
    large.resize((5_000, 5_000)).convert("RGBA").save(tmp_path / "mine.png", compress_level=1)
    update(tmp_path / "photos", tmp_path / "index", make_model(tmp_path / "model"), detector=Small(), batch_size=1)

    paths = "|".join([str(Path(__file__).parent), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, paths, "serve", str(tmp_path / "index"), "--port", "0"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        before = memory(process, "VmRSS")
        ids = [hit["id"] for hit in httpx2.get(f"{address}api/photos").json()["hits"]]

        def thumbnail(photo_id: str) -> int:
            return httpx2.get(f"{address}photos/{photo_id}.jpg", timeout=120).status_code

        def upload(name: str) -> int:
            photo = {"photo": (name, (tmp_path / name).read_bytes())}
            return httpx2.post(f"{address}api/similar", files=photo, timeout=120).status_code

        with ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(thumbnail, each) for each in ids * 2]
            asked += [pool.submit(upload, name) for name in ("mine.jpg", "mine.png") * 2]
            assert {each.result() for each in asked} == {200}
        most = memory(process, "VmHWM")
        time.sleep(6)
        after = memory(process, "VmRSS")
    finally:
        process.kill()
    assert most - before < 2_800  # one of 100 million pixels for a page, and one that was sent
    assert after - before < 400
