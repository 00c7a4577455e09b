"""What is wrong with object storage is one line, said soon, with what mends it."""

from __future__ import annotations

import socket
import time

import pytest
from commands import run_han
from tiny_index import make_photos

from han_retrieval.errors import ConfigError, HANError
from han_retrieval.objects import connection, to_path
from han_retrieval.regions import RegionStore

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.mark.parametrize("verb", ["info", "search", "extract", "index", "serve", "doctor"])
def test_a_bucket_that_is_not_there_is_told_by_each_verb(verb, url, capsys, tmp_path):
    gone, photos = "s3://no-such-bucket/x", make_photos(tmp_path / "photos", 1)
    arguments = {"search": [gone, "a dog"], "extract": [photos, "--out", gone], "index": [photos, "--out", gone]}
    code, out, err = run_han(capsys, verb, *arguments.get(verb, [gone]))
    assert (code, out) == (2, "")
    (line,) = (line for line in err.splitlines() if line.startswith("han: error"))
    assert "there is no bucket 'no-such-bucket' at http://127.0.0.1:" in line


def test_missing_credentials_are_told(url, capsys, monkeypatch, tmp_path):
    for name in KEYS:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    code, _, err = run_han(capsys, "info", url)
    assert code == 2
    assert "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in err
    assert err.count("\n") == 1


def test_a_profile_holds_credentials(url, monkeypatch, tmp_path):
    (to_path(url) / "a").write_bytes(b"1")
    for name in KEYS:
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    file.write_text("[mine]\naws_access_key_id = han\naws_secret_access_key = secret-of-han\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert (to_path(url) / "a").read_bytes() == b"1"
    with RegionStore.create(f"{url}/features", fingerprint="fake:1", feature_size=12) as store:
        assert len(store) == 0
    monkeypatch.setenv("AWS_PROFILE", "another")
    with pytest.raises(HANError, match="another"):
        (to_path(url) / "a").exists()


def test_an_address_where_nothing_answers_is_told_soon(url, capsys, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        began = time.monotonic()
        code, _, err = run_han(capsys, "info", url)
    assert code == 2
    assert f"object storage cannot be reached at {address}; mend AWS_ENDPOINT_URL" in err
    assert time.monotonic() - began < 30


def test_an_address_that_takes_calls_and_never_answers_is_told(url, monkeypatch):
    monkeypatch.setattr("han_retrieval.objects.connection._ANSWER_SECONDS", 1)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(HANError, match="cannot be reached"):
            to_path(url).exists()


def test_what_is_no_object_storage_is_told(url, monkeypatch, tmp_path):
    import functools
    import http.server
    import threading

    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(HANError, match="is no object storage; mend AWS_ENDPOINT_URL"):
            to_path(url).exists()
        server.shutdown()


def test_without_the_extra_a_url_is_refused(monkeypatch):
    connection.require_obstore.cache_clear()
    with monkeypatch.context() as without:
        without.setattr(connection, "find_spec", lambda _: None)
        with pytest.raises(ConfigError, match=r"pip install 'han-retrieval\[s3\]'"):
            to_path("s3://bucket/index")
    assert to_path("s3://bucket/index").name == "index"


def test_a_model_in_object_storage_is_refused(url, capsys, tmp_path):
    (tmp_path / "captions.txt").write_text("a dog\n")
    photo = make_photos(tmp_path / "photos", 1) / "000.png"
    code, _, err = run_han(capsys, "caption", tmp_path / "captions.txt", photo, "--model", f"{url}/model")
    assert code == 2
    assert "models are read from a folder or the Hub" in err


def test_a_dataset_of_captions_in_object_storage_is_refused(url, capsys):
    (to_path(url) / "a.png").write_bytes(b"1")
    code, _, err = run_han(capsys, "extract", url, "--format", "karpathy", "--out", f"{url}/features")
    assert code == 2
    assert "copy the dataset to a folder" in err
