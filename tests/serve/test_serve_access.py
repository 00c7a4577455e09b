"""Who may ask the server, and what its answers forbid a browser."""

from __future__ import annotations

import re

import pytest
from served import SENTENCE, client, make_index

from han_retrieval.errors import HANError
from han_retrieval.serve import SearchService, check_access

TOKEN = "sésame-ouvre-toi"
ROUTES = (
    "/",
    "/static/main.js",
    "/api/search?q=dog",
    "/api/photos",
    "/photos/x.jpg",
    "/ready",
    "/metrics",
    "/openapi.json",
)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("access"), photos=2)


@pytest.fixture
def guarded(index):
    with client(SearchService(index), token=TOKEN, loopback_only=False) as web:
        yield web


@pytest.mark.parametrize("route", ROUTES)
def test_without_the_token_there_is_only_health(guarded, route):
    bearer = f"Bearer {TOKEN}".encode()
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": bearer[:-1]}, {"Cookie": "han_token=x"}):
        answer = guarded.get(route, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert guarded.get("/health").status_code == 200
    assert guarded.get(route, headers={"Authorization": bearer}).status_code != 401


def test_the_token_in_an_address_becomes_a_cookie(guarded):
    answer = guarded.get("/", params={"q": SENTENCE, "token": TOKEN}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?q=a+red+dog")
    cookie = answer.headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=lax" in cookie.lower()
    assert TOKEN not in cookie
    assert guarded.get("/api/search", params={"q": SENTENCE}).status_code == 200  # the client keeps cookies
    guarded.cookies.clear()
    assert guarded.get("/", params={"token": "wrong"}).status_code == 401
    address = "http://127.0.0.1:8080//evil.example/x"
    elsewhere = guarded.get(address, params={"token": TOKEN}, follow_redirects=False)
    assert elsewhere.headers["location"] == "/evil.example/x"


def test_a_stranger_whose_name_points_here_gets_nothing(index):
    with client(SearchService(index)) as web:
        for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[::2]:8080"):
            assert web.get("/api/photos", headers={"Host": host}).status_code == 403
        for host in ("localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080"):
            assert web.get("/api/photos", headers={"Host": host}).status_code == 200
        from_a_page = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        assert web.get("/api/photos", headers=from_a_page).status_code == 403
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert web.get("/", headers=link).status_code == 200


def test_a_page_may_load_its_own_files_alone(index):
    with client(SearchService(index)) as web:
        page = web.get("/")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<(script(?! type=\"module\" src=)|style)|\son\w+=|\sstyle=", page.text)
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(loaded) > 3
        for address in loaded:
            assert address.startswith("/static/")
            script = web.get(address)
            assert script.status_code == 200
            for imported in re.findall(r'from "\./([^"]+)"', script.text):
                assert web.get(f"/static/{imported}").status_code == 200
            assert "://" not in script.text.replace("http://www.w3.org", "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_elsewhere_than_here_needs_a_token(host):
    with pytest.raises(HANError, match="--token"):
        check_access(host, None)
    check_access(host, TOKEN)


def test_here_needs_none_but_a_short_one_is_refused():
    for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3"):
        check_access(host, None)
    with pytest.raises(HANError, match="fewer than 8"):
        check_access("127.0.0.1", "secret")
