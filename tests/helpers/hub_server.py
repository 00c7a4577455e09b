"""A small server that speaks the routes of the Hugging Face Hub that its client uses to load and to push models."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

TOKEN = "hf_mine"


@dataclass
class Repository:
    """Commits, oldest first: id and files. ``status`` answers every request; ``cut`` so many downloads end half way."""

    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    private: bool = False
    status: tuple[int, str] | None = None
    cut: int = 0

    def commit(self, files: dict[str, bytes], *, deleted: Collection[str] = ()) -> str:
        before = self.commits[-1][1] if self.commits else {}
        before = {file: content for file, content in before.items() if file not in deleted}
        made = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits.append((made, {**before, **files}))
        return made

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1] if self.commits else None
        return next((each for each in self.commits if each[0] == revision), None)


class HubServer:
    """Repositories by name, served on a port of this machine; ``asked`` has the method and path of each request."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.asked: list[tuple[str, str]] = []
        self.lfs: dict[str, bytes] = {}
        self.messages: list[str] = []
        server = self

        class Handler(_Handler):
            hub = server

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def serve(self, name: str, folder: Path) -> Repository:
        """A repository with the files of a folder as its first commit."""
        self.repositories[name] = Repository()
        self.repositories[name].commit(
            {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        )
        return self.repositories[name]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlparse(self.path).path)
        self.hub.asked.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = path.strip("/").split("/")
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if parts[0] == "lfs":
            self.hub.lfs[parts[1]] = body
            return self._json({})
        if parts[0] == "datasets":
            parts = parts[1:]
        writes = self.command == "POST" and "paths-info" not in parts
        if writes and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid username or password."}, 401)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        name = "/".join(
            parts[2:4] if parts[:2] in (["api", "models"], ["api", "datasets"]) else parts[:2]
        ).removesuffix(".git")
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self._json({"error": "Repository not found"}, 401, {"X-Error-Code": "RepoNotFound"})
        if repository.status:
            status, code = repository.status
            return self._json({"error": code}, status, {"X-Error-Code": code} if code else {})
        if parts[0] == "api":
            return self._api(name, repository, parts[4:], body)
        if "resolve" in parts:
            return self._file(repository, parts[3], "/".join(parts[4:]))
        return self._json({"objects": [self._lfs_action(each) for each in json.loads(body)["objects"]]})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            return self._json(
                {"error": "You already created this model repo", "url": f"{self.hub.endpoint}/{name}"}, 409
            )
        self.hub.repositories[name] = Repository(
            private=asked.get("visibility") == "private" or bool(asked.get("private"))
        )
        self.hub.repositories[name].commit({".gitattributes": b""})
        return self._json({"url": f"{self.hub.endpoint}/{name}", "name": name})

    def _api(self, name: str, repository: Repository, parts: list[str], body: bytes) -> None:
        if parts[:1] == ["preupload"]:
            files = [
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for each in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        if parts[:1] == ["commit"]:
            return self._commit(name, repository, [json.loads(line) for line in body.splitlines()])
        found = repository.at(parts[1] if len(parts) > 1 else "main")
        if found is None:
            return self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        commit, files = found
        entries = [{"type": "file", "path": path, "size": len(data), "oid": commit} for path, data in files.items()]
        if parts[:1] == ["tree"]:
            return self._json(self._tree(entries, "/".join(parts[2:]), commit))
        if parts[:1] == ["paths-info"]:
            asked = body.decode()
            return self._json([entry for entry in entries if entry["path"] in unquote(asked)])
        return self._json(
            {
                "id": name,
                "sha": commit,
                "lastModified": "2026-01-01T00:00:00.000Z",
                "siblings": [{"rfilename": file} for file in files],
            }
        )

    def _tree(self, entries: list[dict[str, Any]], folder: str, commit: str) -> list[dict[str, Any]]:
        """What is in a folder, and below it where the request says so."""
        inside = [entry for entry in entries if not folder or entry["path"].startswith(f"{folder}/")]
        parents = {
            "/".join(entry["path"].split("/")[:k]) for entry in inside for k in range(1, entry["path"].count("/") + 1)
        }
        folders = [{"type": "directory", "path": path, "size": 0, "oid": commit} for path in sorted(parents)]
        depth = folder.count("/") + 1 if folder else 0
        whole = "recursive=true" in self.path.lower()
        return [
            each
            for each in [*folders, *inside]
            if each["path"] != folder and (whole or each["path"].count("/") == depth)
        ]

    def _commit(self, name: str, repository: Repository, lines: list[dict[str, Any]]) -> None:
        files, deleted = {}, []
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.hub.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            elif line["key"] == "deletedFile":
                deleted.append(value["path"])
        made = repository.commit(files, deleted=deleted)
        return self._json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{made}", "commitOid": made})

    def _lfs_action(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {**asked, "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{asked['oid']}"}}}

    def _file(self, repository: Repository, revision: str, file: str) -> None:
        found = repository.at(revision)
        if found is None:
            return self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        commit, files = found
        if file not in files:
            return self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        content = files[file]
        begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self._head(206 if begin else 200, {**headers, "Content-Length": str(len(content) - begin)})
        if self.command == "GET":
            rest = content[begin:]
            if repository.cut and file.endswith(".safetensors"):
                repository.cut -= 1
                rest = rest[: len(rest) // 2]
            self.wfile.write(rest)
            self.close_connection = True
        return None

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        self._head(status, {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def run_with_hub(code: str, home: Path, endpoint: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Code in a fresh process: the client reads the environment when it is imported."""
    env = {
        "PATH": "",
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
    }
    code = f"import sys; sys.path[:0] = {sys.path!r}\nimport han_retrieval as han\n{code}"
    return subprocess.run([sys.executable, "-c", code], cwd=home, env={**env, **more}, capture_output=True, text=True)
