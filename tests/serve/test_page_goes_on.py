"""What the page does after something is gone: an answer, a photo, what had the focus, the place in a list."""

from __future__ import annotations

import re

import pytest
from pages import PHOTOS, tiles, wait_for_search

pytestmark = pytest.mark.browser

MORE = re.compile(r"/api/photos\?.*first=60")


def opened_at(page, place: int) -> None:
    page.locator("#place", has_text=f"{place} of {PHOTOS}").wait_for()


def test_keys_work_where_the_focus_went_with_the_photo(open_page):
    page = open_page("?q=a+red+dog")
    page.locator("#grid a").first.click()
    page.locator(".chip").first.click()
    for place in (2, 3, 4):
        page.keyboard.press("ArrowRight")
        opened_at(page, place)
    page.locator("#previous").focus()
    for place in (3, 2, 1):
        page.keyboard.press("Enter")
        opened_at(page, place)
    page.keyboard.press("ArrowRight")
    opened_at(page, 2)


def test_an_image_that_fails_late_does_not_hide_the_next_photo(open_page):
    page = open_page()
    page.locator("#grid a").first.wait_for()
    first, held = tiles(page)[0], []
    page.route(re.compile(rf"/photos/{first}\.jpg"), lambda route: held.append(route))
    page.locator("#grid a").first.click()
    opened_at(page, 1)
    page.keyboard.press("ArrowRight")
    opened_at(page, 2)
    page.wait_for_function("() => document.querySelector('#photo img').complete")
    assert len(held) == 1
    with page.expect_event("requestfailed"):
        held[0].abort()
    page.wait_for_timeout(200)
    assert page.locator("#photo.gone").count() == 0


def test_more_photos_can_be_asked_for_again(open_page):
    page = open_page()
    page.locator("#grid a").first.wait_for()
    page.route(MORE, lambda route: route.abort())
    page.mouse.wheel(0, 20_000)
    page.locator("#status", has_text="does not respond").wait_for()
    page.locator("#more").wait_for()
    page.mouse.wheel(0, -200)
    page.mouse.wheel(0, 200)
    page.unroute(MORE)
    assert len(tiles(page)) == 60
    page.locator("#more").click()
    page.wait_for_function(f"() => document.querySelectorAll('#grid a').length === {PHOTOS}")
    page.locator("#more").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.dataset.place") == "60"


def test_enter_searches_again(open_page):
    page = open_page("?q=a+red+dog")
    wait_for_search(page, "a red dog")
    with page.expect_response(re.compile(r"/api/search\?q=a\+red\+dog")):
        page.locator("#q").press("Enter")


def test_a_folder_that_is_no_longer_offered_stays_chosen(open_page):
    page = open_page("?folder=elsewhere/")
    page.locator("#message-title").wait_for()
    page.locator("#since").fill("2024-03-01")
    page.wait_for_function("() => location.search.includes('since=')")
    assert "folder=elsewhere" in page.url


def test_the_way_back_leads_to_the_same_place_of_the_list(open_page):
    page = open_page()
    page.locator("#grid a").first.wait_for()
    page.mouse.wheel(0, 20_000)
    page.wait_for_function(f"() => document.querySelectorAll('#grid a').length === {PHOTOS}")
    page.locator("#grid a").nth(80).click()
    opened_at(page, 81)
    top = page.evaluate("scrollY")
    assert top > 0
    page.locator("#similar").click()
    page.locator("#status", has_text="most similar first").wait_for()
    assert page.evaluate("document.activeElement.tagName") == "A"  # the focus is at the photos
    page.go_back()
    opened_at(page, 81)
    assert page.locator("#previous").is_enabled()
    assert page.locator("#next").is_enabled()
    page.locator("#close").click()
    page.wait_for_function(f"() => Math.abs(scrollY - {top}) < 300")
    assert len(tiles(page)) == PHOTOS


def test_cells_of_a_spreadsheet_are_pasted_as_text(open_page):
    page = open_page()
    page.locator("#grid a").first.wait_for()
    paste = """(id, types) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(10)], 'image.png', { type: 'image/png' }));
        for (const type of ['text/plain', 'text/html']) data.setData(type, 'a dog');
        document.getElementById(id).dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }));
    }"""
    sent = []
    page.on("request", lambda request: request.method == "POST" and sent.append(request.url))
    page.evaluate(paste, "q")
    page.wait_for_timeout(200)
    assert sent == []
    with page.expect_request(re.compile("/api/similar")):
        page.evaluate(paste, "grid")
