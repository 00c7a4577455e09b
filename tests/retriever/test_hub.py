"""Models by name from the Hugging Face Hub, against a small server that speaks its routes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.matchers.hub import is_hub_name
from han_retrieval.text import Vocabulary

pytest.importorskip("huggingface_hub")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path):
    """The address of a server with the model user/small, and the paths that were asked of it."""
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_sentences(["a red ball"])
    config = HANConfig(region_size=6, vocabulary_size=len(vocabulary), word_size=5, joint_size=8)
    HAN(config, vocabulary=vocabulary).save_pretrained(tmp_path / "served", card="# Small\n")
    (tmp_path / "served" / "pytorch_model.bin").write_bytes(b"a pickle that nobody asked for")
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self, body=True):
            path = self.path.partition("?")[0]
            asked.append(path)
            files = {file.name: file.read_bytes() for file in (tmp_path / "served").iterdir()}
            name = path.rpartition("/")[2]
            if path.startswith("/api/models/user/small/tree/"):
                rows = [{"type": "file", "path": n, "size": len(c), "oid": COMMIT} for n, c in files.items()]
                self.send(200, json.dumps(rows).encode(), body)
            elif path.startswith("/api/models/user/small"):
                found = {"id": "user/small", "sha": COMMIT, "siblings": [{"rfilename": n} for n in files]}
                self.send(200, json.dumps(found).encode(), body)
            elif path.startswith("/user/small/resolve/") and name in files:
                self.send(200, files[name], body, {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})
            else:
                self.send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})

        def do_HEAD(self):
            self.do_GET(body=False)

        def send(self, status, content, body, headers=None):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def run(code, tmp_path, endpoint):
    """A fresh process: the library reads the environment when it is imported."""
    env = {"PATH": "", "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": endpoint}
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{code}"
    return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)


def test_a_model_is_downloaded_once_and_without_pickles(hub, tmp_path):
    endpoint, asked = hub
    code = (
        "import han_retrieval as han\n"
        "loaded = han.load('user/small')\n"
        "print(loaded.name, loaded.model.config.joint_size, *loaded.encode_texts(['ball'])[0].tokens.shape)\n"
        "print(han.load('user/small', local_files_only=True).model.config == loaded.model.config)"
    )
    result = run(code, tmp_path, endpoint)
    assert result.stdout.splitlines() == ["user/small 8 1 8", "True"], result.stderr
    assert not any("pytorch_model.bin" in path for path in asked if "/resolve/" in path)


def test_a_model_that_was_damaged_on_its_way_is_not_used(hub, tmp_path):
    endpoint, asked = hub
    weights = tmp_path / "served/model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code = "import han_retrieval as han\ntry: han.load('user/small')\nexcept han.ModelError as error: print(error)"
    result = run(code, tmp_path, endpoint)
    assert "model.safetensors: is damaged or was changed" in result.stdout, result.stderr
    assert "download it again: hf download user/small --force-download" in result.stdout
    assert any(path.endswith("/checksums.json") for path in asked)


def test_what_the_hub_does_not_have_is_one_line(hub, tmp_path):
    endpoint, _ = hub
    code = "import han_retrieval as han\ntry: han.load('user/none')\nexcept han.ModelError as error: print(error)"
    for where, reason in ((endpoint, "none of that name"), ("http://127.0.0.1:9", "cannot be reached")):
        result = run(code, tmp_path, where)
        assert result.stdout.startswith("user/none: no such folder, nor a model"), result.stderr
        assert reason in result.stdout
        assert len(result.stdout.splitlines()) == 1


def test_paths_are_no_names_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_name("user/name")
    (tmp_path / "runs").mkdir()
    for path in ("runs/model", "./model", "a/b/c", "model", "/runs/model", "user/", "..", tmp_path / "user" / "name"):
        assert not is_hub_name(path)
