"""The page in Chromium, as people use it: by keyboard and mouse, on a phone, in the dark, when things go wrong."""

from __future__ import annotations

import contextlib
import os
import re
from urllib.parse import quote

import pytest
from pages import PHOTOS, first_hits, tiles, wait_for_search
from served import SENTENCE, make_picture

from han_retrieval.serve import Limits

pytestmark = pytest.mark.browser


def test_typing_finds_opens_and_explains_by_keyboard_alone(open_page):
    page = open_page()
    page.locator("#grid a").first.wait_for()
    assert "90 photos, newest first" in page.locator("#status").inner_text()
    page.keyboard.press("/")
    page.keyboard.type(SENTENCE)
    wait_for_search(page, SENTENCE)
    assert tiles(page)[:60] == first_hits(page, "q=a+red+dog")
    assert page.title() == f"{SENTENCE} – han-retrieval"

    badge = page.locator(".badge").first
    assert badge.inner_text() in ("strong", "likely")
    assert re.fullmatch(r"\d+% likely to be the photo that is meant", badge.get_attribute("title"))

    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    second = tiles(page)[1]
    assert page.evaluate("document.activeElement.search").endswith(f"photo={second}")
    page.keyboard.press("Enter")
    page.locator("dialog[open] .chip").first.wait_for()
    assert re.fullmatch(r"red\n-?\d\.\d\d", page.locator(".chip").nth(1).inner_text())
    assert page.locator("#place").inner_text() == "2 of 90"
    page.keyboard.press("ArrowRight")
    page.locator("#place", has_text="3 of 90").wait_for()
    for _ in range(12):  # the focus stays in the dialog
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.dataset.place") == "2"
    assert "photo=" not in page.url
    page.keyboard.press("ArrowDown")
    assert int(page.evaluate("document.activeElement.dataset.place")) > 2
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.id") == "q"


def test_words_light_up_regions_and_regions_words(open_page):
    page = open_page("?q=a+red+dog")
    page.locator("#grid a").first.click()
    chips = page.locator(".chip")
    chips.first.wait_for()

    def lit(of: str, name: str) -> list[float]:
        read = f"all => all.map(each => Number(each.style.getPropertyValue('{name}')))"
        return page.locator(of).evaluate_all(read)

    chips.nth(2).hover()
    assert lit(".chip", "--on") == [0.4, 0.4, 1]
    assert sum(glow > 0 for glow in lit(".regions g", "--glow")) == 1
    page.mouse.move(1, 1)
    assert lit(".chip", "--on") == [1, 1, 1]
    chips.nth(0).focus()
    assert lit(".chip", "--on") == [1, 0.4, 0.4]
    page.locator(".regions g.shown .edge").first.focus()
    assert max(lit(".chip", "--on")) == 1
    assert sum(glow > 0 for glow in lit(".regions g", "--glow")) == 1
    photo, regions = page.locator("#photo img").bounding_box(), page.locator(".regions").bounding_box()
    assert photo == pytest.approx(regions, abs=1)

    page.locator("#sentence").fill("a blue cat")
    page.locator(".chip", has_text="cat").wait_for()
    page.locator("#sentence").fill("quagga")
    page.locator("#explained", has_text="knows none of the words").wait_for()


def test_parts_of_a_query_have_a_row_each(open_page):
    page = open_page("?q=" + quote('"a red dog" - 0.5 * "blue cat"'))
    page.locator("#grid a").first.click()
    rows = page.locator(".chips .part")
    rows.nth(1).wait_for()
    assert rows.locator(".sign").all_inner_texts() == ["+", "− 0.5 ×"]
    assert [row.locator(".chip").count() for row in rows.all()] == [3, 2]
    assert [row.evaluate("row => row.classList.contains('against')") for row in rows.all()] == [False, True]
    assert "counts against the photo, 0.5 times" in rows.nth(1).get_attribute("aria-label")
    above, below = (row.bounding_box() for row in rows.all())
    assert above["y"] + above["height"] <= below["y"]
    rows.nth(1).locator(".chip").first.hover()  # the fourth of all words
    lit = "all => all.map(each => Number(each.style.getPropertyValue('--on')))"
    assert page.locator(".chip").evaluate_all(lit) == [0.4, 0.4, 0.4, 1, 0.4]
    page.locator("#sentence").fill("a red dog")
    rows.first.wait_for(state="hidden")
    page.locator(".chips > .phrase").first.wait_for(state="attached")


def test_the_address_holds_everything_and_back_goes_back(open_page, address):
    page = open_page()
    page.locator("#q").fill("a dog")
    page.locator("#q").press("Enter")
    wait_for_search(page, "a dog")
    dogs = tiles(page)
    page.locator("#q").fill("a cat")
    page.locator("#q").press("Enter")
    wait_for_search(page, "a cat")
    page.locator("#grid a").nth(1).click()
    page.locator("dialog[open]").wait_for()
    link = page.url
    page.go_back()
    page.locator("dialog[open]").wait_for(state="hidden")
    page.go_back()
    wait_for_search(page, "a dog")
    assert page.locator("#q").input_value() == "a dog"
    assert tiles(page) == dogs
    page.go_back()
    page.locator("#status", has_text="newest first").wait_for()

    page = open_page(link.removeprefix(address) + "&folder=more/&since=2024-03-01")
    page.locator("dialog[open] .chip").first.wait_for()
    page.locator("#close").click()
    page.locator("dialog[open]").wait_for(state="hidden")
    assert page.locator("#q").input_value() == "a cat"
    assert page.locator("#folder option:checked").inner_text().startswith("more (84)")
    assert page.locator("#since").input_value() == "2024-03-01"


def test_answers_that_come_late_are_dropped(open_page):
    page = open_page()
    held = []
    page.route(re.compile(r"/api/search\?q=red&"), lambda route: held.append(route))
    page.locator("#q").fill("red")
    page.wait_for_function("() => location.search === '?q=red'")
    page.locator("#q").fill("blue cat")
    wait_for_search(page, "blue cat")
    before = tiles(page)
    assert held
    for route in held:
        with contextlib.suppress(Exception):  # where the page has hung up
            route.continue_()
    page.wait_for_timeout(300)
    assert tiles(page) == before == first_hits(page, "q=blue+cat")[:60] + before[60:]


def test_scrolling_brings_all_photos_and_nothing_jumps(open_page):
    page = open_page("?q=a+red+dog")
    page.locator("#grid a").first.wait_for()
    for _ in range(30):
        page.mouse.wheel(0, 1500)
        page.wait_for_timeout(50)
        if len(tiles(page)) == PHOTOS:
            break
    assert len(set(tiles(page))) == PHOTOS
    assert page.locator("#grid img").first.get_attribute("loading") == "lazy"
    read = "all => all.map(each => [each.offsetLeft, each.offsetTop, each.offsetWidth, each.offsetHeight])"
    boxes = page.locator("#grid li").evaluate_all(read)
    width = page.locator("#grid").evaluate("grid => grid.clientWidth")
    rows: dict[int, list] = {}
    for box in boxes:
        rows.setdefault(box[1], []).append(box)
    for row in list(rows.values())[:-1]:
        assert abs(row[-1][0] + row[-1][2] - width) <= 2
    assert (page.evaluate("window.shifted") or 0) < 0.01


def test_scrolling_ends_at_the_server_s_limit(open_page):
    page = open_page()

    def nearer(route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace(f"DEEPEST = {Limits().depth:_}", "DEEPEST = 59"))

    page.route("**/results.js", nearer)
    page.goto(page.url + "?q=a+red+dog")
    page.locator("#grid a").first.wait_for()
    for _ in range(10):
        page.mouse.wheel(0, 1500)
        page.wait_for_timeout(50)
    assert len(tiles(page)) == 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_all(open_page, scheme):
    phone = {"viewport": {"width": 360, "height": 700}, "has_touch": True}
    page = open_page("?q=a+red+dog&folder=more/", color_scheme=scheme, **phone)
    page.locator("#grid a").first.wait_for()

    def fits(part: str) -> bool:
        return page.locator(part).evaluate("part => part.scrollWidth <= innerWidth")

    assert fits("html")
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).slice(0, 3).map(Number)")
    assert (sum(shade) < 150) == (scheme == "dark")
    page.locator("#grid a").first.tap()
    page.locator(".chip").first.wait_for()
    assert fits("dialog")
    for button in page.locator("dialog button.quiet").all():
        assert button.bounding_box()["height"] >= 40
    page.locator(".chip").nth(1).tap()
    assert page.locator(".chip").nth(0).evaluate("chip => chip.style.getPropertyValue('--on')") == "0.4"


def test_what_is_wrong_is_said(open_page, folder):
    page = open_page("?q=quagga")
    page.get_by_role("heading", name="Try other words").wait_for()
    assert "knows none of the words" in page.locator("#message").inner_text()
    page.locator("#q").fill("a red quagga")
    page.locator("#status", has_text="does not know the word “quagga”").wait_for()
    page.locator("#message").wait_for(state="hidden")

    page.locator("#show-filters").click()
    page.locator("#until").fill("2024-01-01")
    page.locator("#since").fill("2024-02-01")
    page.get_by_role("button", name="Clear the filters").click()
    page.locator("#grid a").first.wait_for()
    assert page.locator("#since").input_value() == ""

    page.route("**/api/search**", lambda route: route.abort())
    page.locator("#q").fill("a blue cat")
    page.locator("#message", has_text="Is it still running?").wait_for()
    page.unroute("**/api/search**")
    page.get_by_role("button", name="Try again").click()
    page.locator("#grid a").first.wait_for()
    page.locator("#message").wait_for(state="hidden")


def test_a_busy_server_is_asked_again(open_page):
    page = open_page()
    page.locator("#grid a").first.wait_for()
    busy = {"status": 503, "headers": {"Retry-After": "1"}, "json": {"error": "too many requests are waiting"}}
    asked = []

    def refuse_twice(route) -> None:
        asked.append(route.request.url)
        route.fulfill(**busy) if len(asked) <= 2 else route.continue_()

    page.route("**/api/search**", refuse_twice)
    page.locator("#q").fill(SENTENCE)
    page.locator(".busy", has_text="Trying again").wait_for()
    assert page.locator("#message").is_hidden()
    wait_for_search(page, SENTENCE)
    assert page.locator(".busy").count() == 0
    assert len(asked) == 3

    page.route("**/api/search**", lambda route: route.fulfill(**busy))
    page.locator("#q").fill("a blue cat")
    page.locator(".busy").wait_for()
    page.locator("#q").fill("")  # whoever types on waits no more
    page.locator("#status", has_text="newest first").wait_for()
    assert page.locator(".busy").count() == 0


def test_a_photo_whose_file_is_gone_says_so(open_page, folder):
    file = folder / "photos" / "a.jpg"
    content, status = file.read_bytes(), file.stat()
    file.unlink()
    try:
        page = open_page("?since=2024-01-01&until=2024-01-31")
        page.locator("#grid a", has=page.locator("img")).first.wait_for()
        gone = page.locator("#grid a.gone")
        gone.first.wait_for()
        assert gone.count() == 1
        assert gone.get_attribute("aria-label").startswith("a.jpg")
    finally:
        file.write_bytes(content)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_photo_asks_for_others_like_it_and_for_sentences(open_page, tmp_path):
    page = open_page("?q=a+dog")
    page.locator("#grid a").first.wait_for()
    page.locator("#q").focus()  # where a photo may be pasted
    page.locator("#file").set_input_files(make_picture(tmp_path / "mine.jpg", 200))
    page.locator("#status", has_text="90 photos, most similar first").wait_for()
    assert page.locator("#q").input_value() == ""
    page.locator("#sentences").fill("a red dog\nquagga\na blue cat")
    page.get_by_role("button", name="Rank sentences").click()
    page.locator("#ranked li").nth(1).wait_for()
    assert {text.split("\n")[0] for text in page.locator("#ranked li").all_inner_texts()} == {"a red dog", "a blue cat"}
    assert "quagga" in page.locator("#rank-status").inner_text()
    alike = tiles(page)

    page.locator("#grid a").first.click()
    page.get_by_role("button", name="Similar photos").click()
    page.locator("#status", has_text="89 photos, most similar first").wait_for()
    assert f"like={alike[0]}" in page.url
    page.go_back()
    page.go_back()
    page.locator("#status", has_text="90 photos, most similar first").wait_for()
    assert tiles(page) == alike
    page.go_back()
    wait_for_search(page, "a dog")
    assert page.locator("#by-photo").is_hidden()

    (tmp_path / "broken.jpg").write_text("no photo")
    page.locator("#file").set_input_files(tmp_path / "broken.jpg")
    page.locator("#message", has_text="broken.jpg: not an image").wait_for()


def test_words_count_together_with_a_photo(open_page, tmp_path):
    page = open_page()
    page.locator("#grid a").first.wait_for()
    page.locator("#file").set_input_files(make_picture(tmp_path / "mine.jpg", 200))
    page.locator("#status", has_text="90 photos, most similar first").wait_for()
    alike = tiles(page)
    page.locator("#q").fill("a dog")
    page.locator("#status", has_text="90 photos, best match first").wait_for()
    assert page.locator("#by-photo img").is_visible()
    page.locator("#q").fill("")
    page.locator("#status", has_text="90 photos, most similar first").wait_for()
    assert tiles(page) == alike


def test_a_photo_can_be_dropped(open_page):
    page = open_page()
    page.locator("#grid img").first.wait_for()
    data = page.evaluate_handle(
        """async () => {
          const canvas = new OffscreenCanvas(60, 40);
          canvas.getContext("2d").fillRect(0, 0, 30, 30);
          const data = new DataTransfer();
          data.items.add(new File([await canvas.convertToBlob()], "dropped.png", { type: "image/png" }));
          return data;
        }"""
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": data})
    assert page.locator("#drop").is_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": data})
    assert page.locator("#drop").is_hidden()
    page.locator("#status", has_text="most similar first").wait_for()
    assert page.locator("#by-photo img").get_attribute("alt") == "dropped.png"
