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
