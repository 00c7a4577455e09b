"""Who may ask the server, and what its answers forbid a browser."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from served import SENTENCE, client, make_index

from han_retrieval.errors import HANError
from han_retrieval.serve import SearchService, check_access, create_app, guesses

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


STRANGE_HOSTS = (
    "evil.example",
    "evil.example:8080",
    "127.0.0.1.evil.example",
    "",
    "[::2]:8080",
    "[::1]evil.example",
    "[::1].evil.example:80",
    "[::1",
    "::1",
    "localhost:80@evil.example",
    "user@localhost",
    "localhost:evil",
    "localhost:",
    "localhost:8080:8080",
    "localhost.evil.example",
    "localhost#evil.example",
    "localhost/evil.example",
    "localhost evil.example",
    "evil.example, localhost",
    "2130706433",
    "0x7f.1",
    "0.0.0.0",
    "[::ffff:10.0.0.1]",
    "[::1%25eth0]",
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
    again = guarded.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert (again.status_code, again.headers["location"]) == (303, "/")  # out of the address bar
    guarded.cookies.clear()
    name = cookie.partition("=")[0]
    assert guarded.get("/api/photos", headers={"Cookie": f"{name}=x"}).status_code == 401
    assert guarded.get("/", params={"token": "wrong"}).status_code == 401
    address = "http://127.0.0.1:8080//evil.example/x"
    elsewhere = guarded.get(address, params={"token": TOKEN}, follow_redirects=False)
    assert elsewhere.headers["location"] == "/evil.example/x"


def test_a_token_with_a_plus_is_known_in_an_address(index):
    token = "ab+cd/ef=="
    with client(SearchService(index), token=token) as web:
        for address in (f"/?token={token}", f"/?token={quote(token)}"):
            web.cookies.clear()
            assert web.get(address, follow_redirects=False).status_code == 303
            assert web.get("/api/photos").status_code == 200


def test_servers_at_two_ports_of_a_host_keep_their_cookies_apart(index, guarded):
    with client(SearchService(index), token="another-token", loopback_only=False) as other:
        kept = [
            web.get("/", params={"token": token}, follow_redirects=False).headers["set-cookie"]
            for web, token in ((guarded, TOKEN), (other, "another-token"))
        ]
    one, two = (each.partition("=")[0] for each in kept)
    assert one != two


def test_a_stranger_whose_name_points_here_gets_nothing(index):
    with client(SearchService(index)) as web:
        for host in STRANGE_HOSTS:
            assert web.get("/api/photos", headers={"Host": host}).status_code == 403, host
        for host in ("localhost", "localhost:8080", "LOCALHOST:8080", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080"):
            assert web.get("/api/photos", headers={"Host": host}).status_code == 200, host
        assert web.get("/api/photos", headers=[("Host", "localhost"), ("Host", "evil.example")]).status_code == 403


HOST = {"Host": "127.0.0.1:8080"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "passes"),
    [
        ("GET", "/api/photos", {}, True),  # a program
        ("GET", "/api/photos", {"Sec-Fetch-Site": "same-origin"}, True),
        ("GET", "/api/photos", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, True),
        ("POST", "/api/similar", {"Origin": "http://127.0.0.1:8080"}, True),
        ("POST", "/api/similar", {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}, True),
        ("GET", "/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, True),  # a link to the page
        ("GET", "/", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}, True),
        ("GET", "/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, False),
        ("POST", "/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, False),
        ("GET", "/api/photos", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, False),
        ("GET", "/photos/x.jpg", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, False),
        ("GET", "/api/photos", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, False),
        ("GET", "/api/photos", {"Sec-Fetch-Site": "CROSS-SITE", "Sec-Fetch-Mode": "cors"}, False),
        ("GET", "/api/photos", {"Sec-Fetch-Site": "same-site"}, False),  # another port of this machine
        ("GET", "/api/photos", {"Sec-Fetch-Site": "whatever"}, False),
        ("POST", "/api/similar", {"Origin": "http://evil.example"}, False),  # no Sec-Fetch: not TLS, not this machine
        ("POST", "/api/similar", {"Origin": "http://127.0.0.1:3000"}, False),
        ("POST", "/api/similar", {"Origin": "http://127.0.0.1:8080.evil.example"}, False),
        ("POST", "/api/similar", {"Origin": "http://127.0.0.1:8080@evil.example"}, False),
        ("POST", "/api/similar", {"Origin": "null"}, False),
        ("POST", "/api/similar", {"Origin": ""}, False),
        ("GET", "/api/photos", {"Origin": "http://evil.example"}, False),
        ("OPTIONS", "/api/photos", {"Origin": "http://evil.example"}, False),
    ],
)
@pytest.mark.parametrize("token", [None, TOKEN])
def test_pages_of_other_sites_get_nothing(index, method, path, headers, passes, token):
    bearer = {"Authorization": f"Bearer {TOKEN}".encode()} if token else {}
    with client(SearchService(index), token=token) as web:
        answer = web.request(method, path, headers=HOST | headers | bearer)
        assert (answer.status_code == 403) != passes, answer.text
        assert "access-control-allow-origin" not in answer.headers


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


def test_who_guesses_tokens_is_braked_and_nobody_else(index, monkeypatch):
    app = create_app(SearchService(index), token=TOKEN, loopback_only=False)
    now = [1000.0]
    monkeypatch.setattr(guesses.time, "monotonic", lambda: now[0])

    def ask(address: str, token: str | None, path: str = "/metrics", **options: object) -> int:
        headers = {} if token is None else {"Authorization": f"Bearer {token}".encode()}
        return web[address].get(path, headers=headers, **options).status_code

    addresses = ("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2")
    web = {each: TestClient(app, base_url="http://han.example", client=(each, 5000)) for each in addresses}
    bad, good, old_page, six, neighbour = addresses
    assert ask(good, TOKEN) == 200
    assert [ask(bad, f"guess {i}") for i in range(12)] == [401] * 10 + [429] * 2
    assert ask(bad, TOKEN) == 429  # also the right one, or guessing would go on
    assert web[bad].get("/", params={"token": TOKEN}).status_code == 429
    assert ask(bad, None, "/health") == 200
    assert [ask(six, f"guess {i}") for i in range(10)] == [401] * 10
    assert ask(neighbour, "another guess") == 429  # of the same network
    assert [ask(old_page, "before") for _ in range(50)] == [401] * 50  # the same, again and again
    assert ask(old_page, TOKEN) == 200
    assert {ask(good, f"guess {i}") for i in range(20)} == {401}  # a proxy, with strangers behind it
    assert ask(good, TOKEN) == 200
    now[0] += 61
    assert ask(bad, "guess") == 401
    assert ask(bad, TOKEN) == 200


def test_wrong_tokens_take_little_memory():
    guessed = guesses.Guesses()
    for i in range(5_000):
        guessed.add(f"{i}", [f"{i}"] * 3, right=False)
        guessed.add("one", [f"{j}" * 20_000 for j in range(9)], right=False)
        guessed.add(f"{i}", [], right=True)
    assert len(guessed._wrong) == len(guessed._right) == 4096
    assert sum(map(len, guessed._wrong["one"][1])) <= 640


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
