"""What tests of the page ask of it."""

from __future__ import annotations

PHOTOS = 90  # of the index


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


def labels_in_sight(page) -> list[str]:
    """The words that stand at boxes of an opened photo."""
    return page.locator(".tags span:not([hidden])").evaluate_all(
        "all => all.filter(each => each.style.getPropertyValue('--on') === '1').map(each => each.textContent)"
    )


def labels_that_leave_the_photo(page) -> list[str]:
    return page.locator(".tags span:not([hidden])").evaluate_all(
        """all => all.filter(each => {
          const [its, photo] = [each, each.closest(".photo")].map(part => part.getBoundingClientRect());
          const over = [photo.left - its.left, its.right - photo.right, photo.top - its.top, its.bottom - photo.bottom];
          return Math.max(...over) > 1;
        }).map(each => each.textContent)"""
    )
