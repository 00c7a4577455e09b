"""An opened photo: zoomed and moved with what lies on it, and the original."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def opened(open_page):
    page = open_page("?q=a+red+dog")
    page.locator("#grid a").first.click()
    page.locator("dialog[open] .chip").first.wait_for()
    page.wait_for_function("() => document.querySelector('#photo img').complete")
    return page


def zoom(page) -> float:
    return float(page.locator("#photo").evaluate("photo => photo.style.getPropertyValue('--zoom')"))


def boxes_are_in_place(page) -> bool:
    photo, regions = page.locator("#photo img").bounding_box(), page.locator("#photo .regions").bounding_box()
    return photo == pytest.approx(regions, abs=1)


def middle(page) -> tuple[float, float]:
    box = page.locator("#photo").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_wheel_and_drag(opened):
    page = opened
    frame = page.locator("#photo").bounding_box()
    x, y = middle(page)
    page.mouse.move(x - 20, y - 20)
    page.mouse.wheel(0, 300)  # towards the end of the page
    assert zoom(page) == 1
    for _ in range(20):  # back to the beginning, and then into the photo
        page.mouse.wheel(0, -300)
        page.wait_for_timeout(100)
        if zoom(page) > 1:
            break
    assert 1.5 < zoom(page) < 8
    assert page.locator("#viewer").evaluate("viewer => viewer.scrollTop") == 0
    assert boxes_are_in_place(page)
    assert page.locator("#photo").bounding_box() == frame
    before = page.locator("#photo img").bounding_box()
    page.mouse.down()
    page.mouse.move(x + 10, y - 10, steps=4)
    page.mouse.up()
    after = page.locator("#photo img").bounding_box()
    assert (after["x"] - before["x"], after["y"] - before["y"]) == pytest.approx((30, 10), abs=6)
    page.mouse.down()
    page.mouse.move(x + 2000, y + 2000, steps=4)  # no farther than its edge
    page.mouse.up()
    corner = page.locator("#photo img").bounding_box()
    assert (corner["x"], corner["y"]) == pytest.approx((frame["x"], frame["y"]), abs=1)
    page.mouse.move(x, y)
    page.mouse.wheel(0, 3000)
    page.wait_for_function("() => document.getElementById('photo').style.getPropertyValue('--zoom') === '1'")
    assert page.locator("#photo img").bounding_box() == pytest.approx(frame, abs=1)


def test_double_click_button_and_keys(opened):
    page = opened
    page.mouse.dblclick(*middle(page))
    assert zoom(page) == 2.5
    assert boxes_are_in_place(page)
    button = page.locator("#zoom")
    assert button.get_attribute("aria-label") == "Show the whole photo"
    button.click()
    assert zoom(page) == 1
    page.keyboard.press("+")
    assert zoom(page) == 1.5
    place = page.locator("#place").inner_text()
    before = page.locator("#photo img").bounding_box()["x"]
    page.keyboard.press("ArrowRight")
    assert page.locator("#photo img").bounding_box()["x"] < before
    assert page.locator("#place").inner_text() == place
    page.keyboard.press("0")
    assert zoom(page) == 1
    page.keyboard.press("=")
    page.locator("#next").click()
    page.locator("#place", has_text="2 of 90").wait_for()
    assert zoom(page) == 1
    page.locator("#sentence").focus()
    page.keyboard.type("+-0")
    assert page.locator("#sentence").input_value().endswith("+-0")
    assert zoom(page) == 1


def test_two_fingers(open_page):
    page = open_page("?q=a+red+dog", viewport={"width": 390, "height": 844}, has_touch=True)
    page.locator("#grid a").first.tap()
    page.locator("dialog[open] .chip").first.wait_for()
    x, y = middle(page)
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": a, "y": b, "id": i} for i, (a, b) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", (x - 20, y), (x + 20, y))
    for apart in (30, 40, 50, 60):
        fingers("touchMove", (x - apart, y), (x + apart, y))
    fingers("touchEnd")
    assert zoom(page) == pytest.approx(3, abs=0.5)
    assert boxes_are_in_place(page)
    place = page.locator("#place").inner_text()
    fingers("touchStart", (x + 50, y))
    for step in range(1, 6):
        fingers("touchMove", (x + 50 - 20 * step, y))
    fingers("touchEnd")
    assert page.locator("#place").inner_text() == place  # it was moved, and no swipe
    fingers("touchStart", (x, y))
    fingers("touchEnd")
    fingers("touchStart", (x, y))
    fingers("touchEnd")
    page.wait_for_function("() => document.getElementById('photo').style.getPropertyValue('--zoom') === '1'")


def test_the_original_opens_beside(opened):
    page = opened
    link = page.get_by_role("link", name="Open the original")
    with page.context.expect_page() as beside:
        link.click()
    beside.value.locator("img").wait_for()
    beside.value.wait_for_function("() => document.images[0].naturalWidth > 0")
    assert beside.value.evaluate("document.contentType") in ("image/jpeg", "image/png")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the path").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").endswith(page.locator("#viewer-name").inner_text())
