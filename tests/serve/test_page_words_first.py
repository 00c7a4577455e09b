"""The evidence of an opened photo: words come first by keyboard, and boxes say which words they belong to."""

from __future__ import annotations

import pytest
from pages import labels_in_sight, labels_that_leave_the_photo
from test_page_for_everyone import serious

pytestmark = pytest.mark.browser


def tabs_to(page, wanted: str) -> int:
    """How often Tab is pressed from the last of an opened photo's buttons to what is wanted."""
    page.locator("#next").focus()
    for presses in range(1, 60):
        page.keyboard.press("Tab")
        if page.evaluate("wanted => document.activeElement.matches(wanted)", wanted):
            return presses
    raise AssertionError(f"Tab does not reach {wanted}")


def test_tab_goes_from_the_buttons_to_the_words(open_page):
    page = open_page("?q=a+red+dog")
    page.locator("#grid a").first.click()
    page.locator("dialog[open] .chip").first.wait_for()
    assert tabs_to(page, ".chip") == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement === document.querySelectorAll('.chip')[1]")


def test_tab_goes_from_the_buttons_to_pairs_of_regions(open_page):
    page = open_page()
    page.locator("#grid a").first.click()
    page.get_by_role("button", name="Similar photos").click()
    page.locator("#status", has_text="most similar first").wait_for()
    page.locator("#grid a").first.click()
    page.locator("#pair-chips .chip").first.wait_for()
    assert tabs_to(page, ".chip") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_boxes_are_labelled_with_their_words(open_page, scheme, size):
    page = open_page("?q=a+red+dog", color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
    page.locator("#grid a").first.click()
    page.locator("dialog[open] .chip").first.wait_for()
    page.locator(".tags span").first.wait_for(state="attached")
    page.wait_for_function("document.querySelector('.tags span:not([hidden])').style.left")
    shown = page.locator(".regions g.shown")
    labels = labels_in_sight(page)
    assert len(labels) == shown.count() > 0
    assert {word for label in labels for word in label.replace("/", " ").split()} <= {"a", "red", "dog"}
    assert labels_that_leave_the_photo(page) == []
    assert serious(page) == []

    page.locator(".chip", has_text="dog").focus()
    (label,) = labels_in_sight(page)
    assert "dog" in label
    shown.last.locator(".edge").focus()  # as a finger or a mouse does
    assert len(labels_in_sight(page)) == 1

    page.locator("#zoom").click()
    page.locator(".chip", has_text="red").focus()
    tall = page.locator(".tags span", has_text="red").bounding_box()["height"]
    unscaled = page.locator(".tags span:not([hidden])").first.evaluate("tag => tag.offsetHeight")
    assert tall == pytest.approx(unscaled, abs=1)
