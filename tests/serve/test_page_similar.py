"""Similar photos on the page: how like they are, and the pairs of regions on both."""

from __future__ import annotations

import re

import pytest
from served import make_picture
from test_page_for_everyone import serious

pytestmark = pytest.mark.browser


def test_a_similar_photo_shows_how_like_it_is_and_why(open_page):
    page = open_page()
    page.locator("#grid a").first.click()
    page.get_by_role("button", name="Similar photos").click()
    page.locator("#status", has_text="most similar first").wait_for()
    badge = page.locator(".badge").first
    assert re.fullmatch(r"\d+%", badge.inner_text())
    first = page.locator("#grid a").first
    assert first.get_attribute("aria-label").endswith(f"{badge.inner_text()} alike")
    first.click()
    page.locator("#pair-chips .chip").first.wait_for()
    assert page.locator("#like-text").inner_text() == f"{badge.inner_text()} alike"
    count = page.locator("#pair-chips .chip").count()
    assert 0 < count <= 5
    for on in ("#photo", "#like-photo"):
        assert page.locator(f"{on} .pairs g").count() == count
        assert sorted(page.locator(f"{on} .tags span").all_inner_texts()) == [str(i + 1) for i in range(count)]
        photo, regions = page.locator(f"{on} img").bounding_box(), page.locator(f"{on} svg").bounding_box()
        assert photo == pytest.approx(regions, abs=1)
    colours = "all => all.map(g => g.dataset.pair + g.style.getPropertyValue('--colour')).sort()"
    here, there = (page.locator(f"{on} .pairs g").evaluate_all(colours) for on in ("#photo", "#like-photo"))
    assert here == there
    page.locator("#pair-chips .chip").last.focus()
    lit = "all => all.filter(each => each.style.getPropertyValue('--on') === '1').map(each => each.dataset.pair)"
    assert set(page.locator("[data-pair]").evaluate_all(lit)) == {str(count - 1)}
    page.wait_for_function(
        "() => [...document.querySelectorAll('#photo img, #like-photo img')].every(each => each.complete)"
    )
    assert serious(page) == []

    page.locator("#sentence").fill("a red dog")  # words take the place of the pairs
    page.locator("#chips .chip").first.wait_for()
    assert page.locator("#like").is_hidden()
    assert page.locator("#photo .pairs").count() == 0
    page.locator("#sentence").fill("")
    page.locator("#pair-chips .chip").first.wait_for()
    assert page.locator("#chips .chip").count() == 0


def test_a_photo_of_ones_own_has_pairs_too(open_page, tmp_path):
    page = open_page()
    page.locator("#grid a").first.wait_for()
    page.locator("#file").set_input_files(make_picture(tmp_path / "mine.jpg", 200))
    page.locator("#status", has_text="90 photos, most similar first").wait_for()
    page.locator("#grid a").first.click()
    page.locator("#pair-chips .chip").first.wait_for()
    assert page.locator("#like-photo img").evaluate("image => image.src.startsWith('blob:')")
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="hidden")
    page.locator("#q").fill("a dog")  # now words count as well
    page.locator("#status", has_text="best match first").wait_for()
    assert page.locator(".badge").count() == 0
