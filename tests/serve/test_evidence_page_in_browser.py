"""The evidence page, a file without a server, in Chromium: how it uses the window, and the words at its boxes."""

from __future__ import annotations

import pytest
from made_up import SENTENCE, made_up
from pages import labels_in_sight, labels_that_leave_the_photo
from PIL import Image

from han_retrieval.evidence import PhotoResult, QueryResults, evidence_page

pytestmark = pytest.mark.browser

SIZES = {"wide": (300, 200), "tall": (200, 300), "panorama": (600, 150)}


@pytest.fixture
def show(chromium, tmp_path):
    """Opens the evidence page of one photo."""
    contexts = []

    def show(size: tuple[int, int], *, window: tuple[int, int] = (1280, 800), scheme: str = "light", seed: int = 0):
        evidence = made_up(size=size, photo=Image.new("RGB", size, (90, 120, 60)), seed=seed)
        results = [QueryResults(SENTENCE, [PhotoResult("photo.jpg", evidence)])]
        (tmp_path / "page.html").write_text(evidence_page("photo.jpg: evidence", results), encoding="utf-8")
        contexts.append(chromium.new_context(viewport={"width": window[0], "height": window[1]}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_function("document.querySelector('.tags span:not([hidden])').style.left")
        return page

    yield show
    for context in contexts:
        context.close()


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_single_photo_uses_the_window(show, size):
    page = show(size)
    main = page.locator(".results").bounding_box()["width"]
    card, photo = page.locator("figure").bounding_box(), page.locator(".photo").bounding_box()
    assert card["width"] == pytest.approx(main, abs=2)
    assert photo["height"] <= 0.73 * 800
    assert photo["width"] / photo["height"] == pytest.approx(size[0] / size[1], rel=0.01)
    words = page.locator("figcaption").bounding_box()
    assert words["y"] + words["height"] <= 800  # in sight
    beside = words["x"] >= photo["x"] + photo["width"] - 1
    assert beside == (size != SIZES["panorama"])


def test_on_a_phone_the_words_stand_below_the_photo(show):
    page = show(SIZES["wide"], window=(390, 844))
    photo, words = page.locator(".photo").bounding_box(), page.locator("figcaption").bounding_box()
    assert words["y"] >= photo["y"] + photo["height"] - 1
    assert page.locator("html").evaluate("html => html.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("window", [(1280, 800), (390, 844)])
def test_words_stand_at_their_boxes(show, scheme, window):
    for seed in range(3):
        page = show(SIZES["tall"], window=window, scheme=scheme, seed=seed)
        assert len(labels_in_sight(page)) == page.locator(".regions g.shown").count()
        assert labels_that_leave_the_photo(page) == []
        colours = page.locator(".tags span").first.evaluate("tag => [getComputedStyle(tag).color, tag.style.opacity]")
        assert colours == ["rgb(20, 22, 26)", ""]  # dark on the colours of boxes, which are light, in both schemes
        page.locator(".chip", has_text="house").hover()
        (label,) = labels_in_sight(page)
        assert "house" in label.split()


def test_tab_goes_to_words_alone(show):
    page = show(SIZES["wide"])
    for _ in range(page.locator(".chip").count()):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.matches('.chip')")
