from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from made_up import made_up
from PIL import Image

from han_retrieval.evidence import PageTable, PhotoResult, QueryResults, evidence_page

NASTY = "</script><script>alert(1)</script>\"'<img src=x onerror=alert(2)>&amp;"
VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Collects elements and their text; refuses what is not nested."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.text.setdefault(self._open[-1], []).append(data)

    def all(self, tag: str, **wanted: Any) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag and wanted.items() <= attrs.items()]


@pytest.fixture(scope="module")
def page() -> str:
    photo = Image.new("RGB", (200, 150), (90, 120, 60))
    results = [PhotoResult(NASTY, made_up(seed=seed, photo=photo), note=NASTY) for seed in range(3)]
    table = PageTable(NASTY, ["", "R@1"], [[NASTY, "31.2"]])
    queries = [QueryResults(NASTY, results, note=NASTY), QueryResults("no photo", [])]
    return evidence_page(NASTY, queries, intro=NASTY, tables=[table], commands=["han x | y", NASTY])


def test_it_is_well_formed_and_nothing_of_the_data_becomes_markup(page: str) -> None:
    reader = Reader(page)
    assert len(reader.all("script")) == 1
    assert len(reader.all("img")) == 3
    assert not any("onerror" in attrs for _, attrs in reader.elements)
    assert reader.text["h1"] == [NASTY]
    assert reader.text["title"] == [NASTY]
    assert reader.text["h2"][0] == NASTY


def test_it_needs_no_other_file_and_lets_only_its_own_script_run(page: str) -> None:
    reader = Reader(page)
    assert all(str(attrs["src"]).startswith("data:image/jpeg;base64,") for attrs in reader.all("img"))
    assert not reader.all("link")
    assert not any(name in attrs for _, attrs in reader.elements for name in ("href", "srcset", "action"))
    assert "url(" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    (policy,) = (attrs["content"] for attrs in reader.all("meta") if "http-equiv" in attrs)
    (script,) = reader.text["script"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in str(policy)
    assert "default-src 'none'" in str(policy)
    # Handlers and styles in attributes: the first would be blocked, the second hold numbers and palette colours only.
    assert not any(name.startswith("on") for _, attrs in reader.elements for name in attrs)
    styles = {str(attrs["style"]) for _, attrs in reader.elements if "style" in attrs}
    assert all(re.fullmatch(r"[-a-z0-9:;#.%]+", style) for style in styles)


def test_words_regions_and_weights_are_all_there(page: str) -> None:
    reader = Reader(page)
    figures = reader.all("figure")
    assert len(figures) == 3
    words = 0
    for seed, figure in enumerate(figures):
        alignment = np.array(json.loads(str(figure["data-alignment"])))
        assert np.allclose(alignment, made_up(seed=seed).alignment, atol=6e-4)
        words += len(alignment)
    chips = reader.all("button", type="button")
    assert len(chips) == words
    assert all(chip["aria-label"] for chip in chips)
    assert len(reader.all("g")) == 3 * 6
    assert len(reader.all("rect")) == 2 * 3 * 6
    for name, attrs in reader.elements:
        if name == "rect" and attrs.get("role") == "img":
            assert str(attrs["aria-label"]).startswith("region aligned with ")
    assert any(attrs.get("role") == "img" for attrs in reader.all("rect"))


def test_photos_are_made_small_and_left_alone() -> None:
    photo = Image.effect_noise((3000, 2000), 80).convert("RGB")
    page = evidence_page("one", [QueryResults("q", [PhotoResult("large", made_up(size=(3000, 2000), photo=photo))])])
    assert len(page) < 600_000
    assert photo.size == (3000, 2000)
