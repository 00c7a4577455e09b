"""The page on a phone: what it asks for, and room to type."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser


def test_a_touch_screen_is_asked_to_tap(open_page):
    for touch, said in ((True, "Tap a word"), (False, "Point at a word")):
        page = open_page("?q=a+red+dog", viewport={"width": 390, "height": 844}, has_touch=touch, is_mobile=touch)
        page.locator("#grid a").first.click()
        page.locator("dialog[open] .chip").first.wait_for()
        assert f"{said} to see them." in page.locator("#hint").inner_text()


def test_the_field_has_the_row_of_a_phone_while_it_is_typed_in(open_page):
    page = open_page("?q=a+red+dog", viewport={"width": 390, "height": 844})
    page.locator("#grid a").first.wait_for()
    before = page.locator(".field").bounding_box()["width"]
    page.locator("#q").focus()
    assert page.locator(".field").bounding_box()["width"] > max(before + 80, 350)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "pick"
    assert page.locator("#pick").bounding_box()["width"] >= 40
    assert page.locator(".field").bounding_box()["width"] == before
