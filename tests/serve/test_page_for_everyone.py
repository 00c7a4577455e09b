"""What the page shows at first, below a line, for a slip of the pen, to take away, and whether anyone can use it."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import wait_for_search

pytestmark = pytest.mark.browser


def test_the_page_begins_with_months_and_examples(open_page):
    page = open_page()
    page.locator("#grid .heading").first.wait_for()
    headings = page.locator("#grid .heading").all_inner_texts()
    dates = page.evaluate("async () => (await (await fetch('/api/photos?k=60')).json()).hits.map(hit => hit.date)")
    months = list(dict.fromkeys(date and date[:7] for date in dates))
    assert len(headings) == len(months) > 1
    assert headings[0].endswith(months[0][:4])
    assert "Without a date" not in headings[:-1]
    assert [link.inner_text() for link in page.locator("#status .link").all()] == page.evaluate(
        "async () => (await (await fetch('/api/facets')).json()).examples"
    )


def test_weak_matches_stand_below_a_line(open_page):
    page = open_page("?q=a+red+dog")
    page.locator("#grid[aria-busy=false]").wait_for()
    assert page.locator(".heading").is_hidden()  # the calibration of these tests calls nothing weak
    page.evaluate(
        """async () => {
          const { Grid } = await import("/static/grid.js");
          const list = document.getElementById("grid");
          const { hits } = await (await fetch("/api/search?q=a+red+dog&k=6")).json();
          const grid = new Grid(list, { address: (hit) => `?photo=${hit.id}`, open() {} });
          grid.clear();
          grid.add(hits.map((hit, place) => ({ ...hit, match: place < 2 ? "likely" : "weak" })));
        }"""
    )
    line = page.locator(".heading").bounding_box()
    tops = [tile["y"] for tile in (tile.bounding_box() for tile in page.locator("#grid li:not(.heading)").all())]
    assert max(tops[:2]) < line["y"] < min(tops[2:])
    assert page.locator(".badge:visible").count() == 2


def test_a_known_word_is_offered_for_one_that_is_spelt_alike(open_page):
    page = open_page("?q=a+redd+dog")
    page.get_by_role("button", name="a red dog").click()
    wait_for_search(page, "a red dog")
    assert page.locator("#q").input_value() == "a red dog"


def test_unknown_words_are_crossed_out_and_what_is_known_is_said(open_page):
    page = open_page("?q=a+red+zebra")
    page.locator("#grid a").first.click()
    page.locator(".chip").nth(2).wait_for()

    def style(chip: int, name: str) -> str:
        return page.locator(".chip").nth(chip).evaluate(f"chip => getComputedStyle(chip)['{name}']")

    assert [style(i, "text-decoration-line") for i in range(3)] == ["none", "none", "line-through"]
    assert style(2, "background-color") == style(2, "border-bottom-color") == "rgba(0, 0, 0, 0)"
    assert style(1, "background-color") != "rgba(0, 0, 0, 0)"
    page = open_page("?q=a+zebra+quagga")
    page.locator("#status", has_text="It knows the words of its training captions").wait_for()
    assert page.locator(".badge").first.get_attribute("title") == ""


def test_a_photo_can_be_downloaded(open_page, folder):
    page = open_page("?q=a+red+dog")
    page.locator("#grid a").first.click()
    page.locator("dialog[open] .chip").first.wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download this photo").click()
    name = download.value.suggested_filename
    (there,) = (folder / "photos").rglob(name)
    assert Path(download.value.path()).read_bytes() == there.read_bytes()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_nothing_serious_stands_in_the_way_of_anyone(open_page, scheme, size):
    page = open_page("?q=a+redd+dog", color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
    page.locator("#grid .loaded").first.wait_for()
    found = serious(page)
    page.locator("#grid a").first.click()
    page.locator("dialog[open] .chip").first.wait_for()
    page.wait_for_function("document.querySelector('#photo img').complete")
    assert found + serious(page) == []


def serious(page) -> list[str]:
    """What axe finds that is serious or worse, and where."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
