"""What the page says where little or nothing fits, and what it offers then."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from pages import PHOTOS, tiles, wait_for_search
from PIL import Image
from test_page_for_everyone import serious

pytestmark = pytest.mark.browser

FEW = 12  # photos that are shown where all are weak matches


def answer_weakly(page, *, nothing: bool) -> None:
    """Let the server call all matches weak."""

    def weakly(route) -> None:
        answer = route.fetch()
        said = answer.json()
        hits = [{**hit, "match": "weak"} for hit in said["hits"]]
        route.fulfill(response=answer, body=json.dumps({**said, "hits": hits, "nothing": nothing}))

    page.route("**/api/search**", weakly)


@pytest.mark.parametrize("nothing", [False, True])
def test_of_weak_matches_alone_a_few_are_shown(open_page, nothing):
    page = open_page()
    page.locator("#grid a").first.wait_for()
    answer_weakly(page, nothing=nothing)
    page.locator("#q").fill("a red dog")
    said = "No photo is likely to match “a red dog”." if nothing else "There are only weak matches for “a red dog”."
    page.locator("#status", has_text=said).wait_for()
    assert "best match first" not in page.locator("#status").inner_text()
    assert page.locator("#grid .heading").count() == 0
    assert len(tiles(page)) == FEW
    more = page.get_by_role("button", name="Show more")
    more.click()
    assert len(tiles(page)) == 60
    more.click()
    page.wait_for_function("all => document.querySelectorAll('#grid a').length === all", arg=PHOTOS)
    assert more.is_hidden()
    assert len(set(tiles(page))) == PHOTOS

    page.unroute("**/api/search**")
    page.locator("#q").fill("a blue cat")
    wait_for_search(page, "a blue cat")
    assert more.is_hidden()


def test_an_opened_photo_is_followed_by_those_that_are_not_shown_yet(open_page):
    page = open_page()
    page.locator("#grid a").first.wait_for()
    answer_weakly(page, nothing=True)
    page.locator("#q").fill("a red dog")
    page.locator("#status", has_text="No photo is likely").wait_for()
    page.locator("#grid a").last.click()
    page.locator("#place", has_text=f"{FEW} of {PHOTOS}").wait_for()
    page.keyboard.press("ArrowRight")
    page.locator("#place", has_text=f"{FEW + 1} of {PHOTOS}").wait_for()


@pytest.mark.parametrize("kind", ["no photo", "too many pixels", "too many bytes"])
def test_a_file_that_cannot_be_searched_with_leaves_nothing_behind(open_page, tmp_path, kind):
    page = open_page()
    page.locator("#grid a").first.wait_for()
    answer_weakly(page, nothing=True)
    page.locator("#q").fill("a red dog")
    page.get_by_role("button", name="Show more").wait_for()
    file = tmp_path / "notes.jpg"
    if kind == "too many pixels":
        Image.new("1", (5001, 5001)).save(file, "PNG")
    else:
        file.write_bytes(b"no photo" if kind == "no photo" else bytes(33 * 2**20))
    page.locator("#file").set_input_files(file)
    page.get_by_role("heading", name="This photo cannot be searched with").wait_for()
    said = {"no photo": "notes.jpg: not an image", "too many pixels": "more than the limit", "too many bytes": "larger"}
    assert said[kind] in page.locator("#message-text").inner_text()
    assert "Notes" not in page.locator("#message-text").inner_text()
    assert page.locator("#by-photo").is_hidden()
    assert page.get_by_role("button", name="Show more").is_hidden()
    assert page.locator("#grid li").count() == 0
    assert page.locator("#status").inner_text() == ""
    assert serious(page) == []

    page.unroute("**/api/search**")
    page.locator("#q").fill("a blue cat")  # without the file
    wait_for_search(page, "a blue cat")
    assert page.locator("#message").is_hidden()


@pytest.mark.parametrize("query", ["", "?q=a+red+dog"])
def test_the_way_back_from_such_a_file_leads_to_what_was_there_before(open_page, tmp_path, query):
    page = open_page(query)
    page.locator("#grid a").first.wait_for()
    before = tiles(page)
    (tmp_path / "notes.jpg").write_bytes(b"no photo")
    page.locator("#file").set_input_files(tmp_path / "notes.jpg")
    page.get_by_role("heading", name="This photo cannot be searched with").wait_for()
    page.go_back()
    page.locator("#grid a").first.wait_for()
    assert tiles(page) == before
    assert page.locator("#message").is_hidden()


def test_a_photo_that_browsers_do_not_show_is_named(open_page, tmp_path):
    page = open_page()
    page.locator("#grid a").first.wait_for()
    Image.new("RGB", (64, 48), (90, 30, 40)).save(tmp_path / "mine.tiff")
    page.locator("#file").set_input_files(tmp_path / "mine.tiff")
    page.locator("#status", has_text="most similar first").wait_for()
    page.locator("#by-photo-image", has_text="mine.tiff").wait_for()
    assert page.get_by_role("button", name="Rank sentences").is_visible()


def test_the_condition_that_leaves_nothing_is_named_and_can_be_removed(open_page):
    page = open_page("?q=red+text:nosuchplace")
    page.get_by_role("heading", name="No photos found").wait_for()
    said = "No photo has “nosuchplace” in its path, title, caption, keywords or place."
    assert page.locator("#message-text").inner_text() == said
    assert page.locator("#status").inner_text() == ""
    assert serious(page) == []
    page.get_by_role("button", name="Remove text:nosuchplace").click()
    wait_for_search(page, "red")
    assert page.locator("#q").input_value() == "red"
    assert page.locator("#message").is_hidden()


@pytest.mark.parametrize(
    ("query", "said", "action", "left"),
    [
        ('text:"no such place"', "No photo has “no such place” in its", 'Remove text:"no such place"', ""),
        ("-text:.", "Every photo has “.” in its", "Remove -text:.", ""),
        ("a dog text:trips text:nowhere", "No photo has “nowhere” in its", "Remove text:nowhere", "a dog text:trips"),
        ("text:more text:trips", "There are photos for each condition", "Remove text:trips", "text:more"),
    ],
)
def test_the_condition_to_blame_is_found_among_several(open_page, query, said, action, left):
    page = open_page("?q=" + quote(query))
    page.locator("#message-text", has_text=said).wait_for()
    page.get_by_role("button", name=action, exact=True).click()
    page.locator("#grid a").first.wait_for()
    assert page.locator("#q").input_value() == left


def test_filters_are_told_from_conditions(open_page):
    page = open_page("?q=text:trips&folder=more/")
    page.locator("#message-text", has_text="This folder has no photo with text:trips.").wait_for()
    page.get_by_role("button", name="Clear the filters").click()
    page.locator("#grid a").first.wait_for()
    assert page.locator("#q").input_value() == "text:trips"
    page = open_page("?q=text:nowhere&folder=more/")
    page.locator("#message-text", has_text="No photo has “nowhere”").wait_for()
    page = open_page("?since=2024-02-01&until=2024-01-01")
    page.locator("#message-text", has_text="The index has no photo from these days.").wait_for()


@pytest.mark.parametrize("query", ["", "q=a+dog&"])
def test_a_photo_that_there_is_not_is_said_once_over_the_others(open_page, query):
    page = open_page(f"?{query}photo=nonsense")
    page.locator("#grid a").first.wait_for()
    page.locator("#status", has_text="The index has no photo “nonsense”.").wait_for()
    assert page.locator("#status").inner_text().count("nonsense") == 1
    assert f"{PHOTOS} photos" in page.locator("#status").inner_text()
    assert page.locator("dialog").is_hidden()
    assert page.locator("#message").is_hidden()
    assert "photo=" not in page.url
    page.locator("#q").fill("a blue cat")
    wait_for_search(page, "a blue cat")
    assert "nonsense" not in page.locator("#status").inner_text()


def test_an_unknown_photo_to_search_with_is_said(open_page):
    page = open_page("?like=nonsense")
    page.get_by_role("heading", name="This photo cannot be searched with").wait_for()
    assert page.locator("#by-photo").is_hidden()
    assert "like=" not in page.url
