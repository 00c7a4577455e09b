"""The page in Chromium, as people use it: by keyboard and mouse, on a phone, in the dark, when things go wrong."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from served import SENTENCE, calibrate, make_index, make_picture
from tiny_index import FakeDetector

from han_retrieval.serve import Limits, SearchService, create_app

pytestmark = pytest.mark.browser

PHOTOS = 90
SHIFTS = (
    "new PerformanceObserver(l => { for (const e of l.getEntries()) window.shifted = (window.shifted ?? 0) + e.value })"
)
SHIFTS += ".observe({ type: 'layout-shift', buffered: true })"


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium here")
    assert path is not None, "install chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    make_index(folder, photos=PHOTOS)
    calibrate(folder / "model", threshold=0.0, photos=10)
    return folder


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    service = SearchService(folder / "index", detector=FakeDetector())
    service.warm_up()
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture
def open_page(chromium, address) -> Iterator:
    """Opens pages; when the test is over, none of them may have complained, but of answers that it asked for."""
    complaints: list[str] = []
    contexts = []

    def open_page(path: str = "", **options: object):
        context = chromium.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.add_init_script(SHIFTS)
        page.goto(address + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [each for each in complaints if "Failed to load resource" not in each] == []


def tiles(page) -> list[str]:
    return page.locator("#grid a").evaluate_all(
        "links => links.map(link => new URL(link.href).searchParams.get('photo'))"
    )


def first_hits(page, query: str) -> list[str]:
    said = page.evaluate("async (query) => (await fetch('/api/search?' + query)).json()", query)
    return [hit["id"] for hit in said["hits"]]


def wait_for_search(page, query: str) -> None:
    page.wait_for_function("query => new URLSearchParams(location.search).get('q') === query", arg=query)
    page.locator("#grid[aria-busy=false]").wait_for()
    page.locator("#status", has_text="best match first").wait_for()


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
