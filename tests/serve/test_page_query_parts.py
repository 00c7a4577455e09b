"""The parts of a query on the page: seen, removed, words left out; and what is said where photos were not searched."""

from __future__ import annotations

import json
from dataclasses import asdict
from urllib.parse import quote

import pytest
from pages import wait_for_search
from test_page_for_everyone import serious

from han_retrieval.search import parse_query

pytestmark = pytest.mark.browser

QUERIES = (
    "a dog",
    "a dog -leash",
    'a dog -leash -"red ball" -dog\'s',
    '"a dog" - "a leash"',
    '2 * "red" + "car in snow" - 0.5 * "a - b"',
    'beach.jpg + "a dog"',
    '"beach.jpg" - "dog"',
    'photo:"my beach.jpg" - "people" - photo:abc',
    '"-dog" + "7 dogs"',
    '"a -dog" - "cat"',
    '"2 * red"',
    '- "dog" + "cat"',
    '"7 * x" - "a" - "b"',
    'a "red" dog -ball',
    "well-known dog's −ball",
    'a dog -leash text:lisbon -text:"new york"',
    '"a dog" + beach.jpg - "cat" -text:o\'neill',
    "text:2024/été",
)


def test_the_text_of_parts_means_these_parts(open_page):
    page = open_page()
    for query in QUERIES:
        parts = parse_query(query)
        given = [{**asdict(part), "sentence": part.text or None} for part in parts]
        text = page.evaluate("async (parts) => (await import('/static/query.js')).textOf(parts)", given)
        assert parse_query(text) == parts, (query, text)
        if query in ("a dog", "a dog -leash"):  # as people write them
            assert text == query


def test_words_are_left_out_and_parts_removed_by_keyboard(open_page):
    page = open_page("?q=a+red+dog")
    button = page.get_by_role("button", name="Leave something out")
    button.wait_for()
    assert page.locator(".part-chip").count() == 0  # the field says it
    button.focus()
    page.keyboard.press("Enter")
    page.keyboard.type('the "blue" cat')
    assert serious(page) == []
    page.keyboard.press("Enter")
    wait_for_search(page, 'a red dog -"the blue cat"')
    assert page.locator(".part-chip span").all_inner_texts() == ["a red dog", "not the blue cat"]
    assert page.locator("#q").input_value() == 'a red dog -"the blue cat"'
    assert page.locator("#not").is_hidden()
    assert page.evaluate("document.activeElement.id") == "leave-out"
    assert serious(page) == []

    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert page.locator("#not").is_hidden()
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove “not the blue cat”"
    page.keyboard.press("Enter")
    wait_for_search(page, "a red dog")
    page.locator(".part-chip").first.wait_for(state="detached")
    assert page.evaluate("document.activeElement.id") == "leave-out"
    page.go_back()
    wait_for_search(page, 'a red dog -"the blue cat"')
    page.get_by_role("button", name="Remove “a red dog”").click()  # without it nothing is asked for
    page.locator("#status", has_text="newest first").wait_for()
    assert page.evaluate("document.activeElement.id") == "q"
    assert page.locator("#q").input_value() == ""
    assert page.locator("#parts").is_hidden()


def test_photos_of_a_query_are_parts(open_page):
    page = open_page("?q=" + quote('a.jpg + 0.5 * "a dog"'))
    page.locator(".part-chip img").wait_for()
    assert page.locator(".part-chip span").all_inner_texts() == ["a.jpg", "0.5 × a dog"]
    assert serious(page) == []
    page.locator("#q").fill('a.jpg + 0.5 * "a dog" + "red" - "blue"')
    page.locator(".part-chip", has_text="blue").wait_for()
    page.get_by_role("button", name="Remove “0.5 × a dog”").press("Enter")
    wait_for_search(page, 'photo:a.jpg + "red" - "blue"')
    page.locator(".part-chip", has_text="dog").wait_for(state="detached")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove “red”"  # the next one

    page.locator("#q").fill("quagga")
    page.get_by_role("heading", name="Try other words").wait_for()
    assert page.locator("#parts").is_hidden()


def test_what_is_written_about_photos_is_a_part(open_page):
    page = open_page("?q=a+red+dog+-text:trips")
    page.locator(".part-chip").first.wait_for()
    assert page.locator(".part-chip span").all_inner_texts() == ["a red dog", "not text: trips"]
    page.get_by_role("button", name="Remove “a red dog”").press("Enter")
    page.locator("#status", has_text="86 photos, newest first").wait_for()
    assert page.locator("#q").input_value() == "-text:trips"
    assert page.locator("#leave-out").is_hidden()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove “not text: trips”"
    page.keyboard.press("Enter")
    page.locator("#status", has_text="90 photos, newest first").wait_for()


def test_a_photo_found_by_what_is_written_is_opened_without_evidence(open_page):
    page = open_page("?q=text:trips")
    page.locator("#grid a").first.click()
    page.locator("#photo").wait_for()
    page.locator("#facts", has_text="trips").wait_for()
    assert page.locator("#explained").inner_text() == ""


def test_photos_that_were_not_searched_are_counted(open_page):
    page = open_page()
    page.locator("#grid a").first.wait_for()

    missing = {"missing": 1200}

    def without_a_shard(route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=json.dumps({**answer.json(), **missing}))

    page.route("**/api/search**", without_a_shard)
    page.locator("#q").fill("a red dog")
    page.locator("#status", has_text="1,200 photos were not searched").wait_for()
    assert serious(page) == []

    missing |= {"hits": [], "total": 0}
    page.locator("#q").fill("a blue cat")
    page.get_by_role("heading", name="The photos cannot be searched now").wait_for()
    page.unroute("**/api/search**")
    page.get_by_role("button", name="Search again").click()
    page.locator("#grid a").first.wait_for()
