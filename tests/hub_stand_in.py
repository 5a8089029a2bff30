"""A stand-in for the model hub: a cache as huggingface_hub leaves it, and a small server that
speaks its HTTP API.

The real huggingface_hub runs against both; the server keeps what it was asked for, so that tests
can say which files were fetched."""

import base64
import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest


def fill_cache(
    cache: Path, repo: str, folder: Path, *, revision: str = "main", inside: str = ""
) -> str:
    """Puts a folder's files into a cache as one commit of ``repo``, named by ``revision``; returns
    the commit.
    """
    files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    commit = hashlib.sha1(f"{repo} {revision}".encode()).hexdigest()
    root = cache / f"models--{repo.replace('/', '--')}"
    for name, path in files.items():
        content = path.read_bytes()
        blob, link = (
            root / "blobs" / hashlib.sha256(content).hexdigest(),
            root / "snapshots" / commit / (inside + name),
        )
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.symlink_to(os.path.relpath(blob, link.parent))
    ref = root / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)
    return commit


@dataclass
class Repo:
    """A repository: commits by name of revision, each a mapping from path to content."""

    revisions: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: bool = False
    private: bool = False

    def commit(self, revision: str) -> str | None:
        for name, files in self.revisions.items():
            sha = hashlib.sha1(
                json.dumps({n: hashlib.sha1(c).hexdigest() for n, c in files.items()}).encode()
            ).hexdigest()
            if revision in (name, sha):
                return sha
        return None

    def files(self, revision: str) -> dict[str, bytes]:
        return next(
            f for name, f in self.revisions.items() if self.commit(name) == self.commit(revision)
        )


class HubStandIn:
    """The server; ``requested`` are the paths of files whose contents were asked for, ``tokens``
    those it was shown.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requested: list[str] = []
        self.tokens: set[str] = set()
        self.write_token = "hf_" + "w" * 34
        stand_in = self

        class Handler(_Handler):
            hub = stand_in

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "HubStandIn":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(
        self, name: str, folder: Path, *, revision: str = "main", inside: str = "", **kind: bool
    ) -> Repo:
        """Serves a folder's files, added to what the repository has."""
        repo = self.repos.setdefault(name, Repo(**kind))
        files = repo.revisions.setdefault(revision, {})
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                files[inside + path.relative_to(folder).as_posix()] = path.read_bytes()
        return repo

    def fetched(self, ending: str = "") -> list[str]:
        """Files whose contents were asked for and whose path ends so."""
        return sorted({path for path in self.requested if path.endswith(ending)})


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        sent = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        for name, value in (sent | {n.replace("_", "-"): v for n, v in headers.items()}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: object, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode())

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b"{}", X_Error_Code=code, X_Error_Message=code)

    def _repo(self, name: str) -> Repo | None:
        """The repository, or None where the answer has been given."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.hub.tokens |= {token} - {""}
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and token != self.hub.write_token):
            self._refuse(401 if not token else 404, "RepoNotFound")
            return None
        if repo.gated and token != self.hub.write_token:
            self._refuse(403, "GatedRepo")
            return None
        return repo

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(?:/(.*))?", path):
            self._tree(match[1], match[2], match[3] or "")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(match[1], match[2], match[3])
        else:
            self._refuse(404, "EntryNotFound")

    def _info(self, name: str, revision: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        sha = repo.commit(revision)
        if sha is None:
            self._refuse(404, "RevisionNotFound")
            return
        siblings = [{"rfilename": path} for path in repo.files(revision)]
        self._json(
            {
                "id": name,
                "modelId": name,
                "sha": sha,
                "private": False,
                "tags": [],
                "siblings": siblings,
            }
        )

    def _tree(self, name: str, revision: str, inside: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        if repo.commit(revision) is None:
            self._refuse(404, "RevisionNotFound")
            return
        files = {
            p: c
            for p, c in repo.files(revision).items()
            if p.startswith(f"{inside}/" if inside else "")
        }
        if inside and not files:
            self._refuse(404, "EntryNotFound")
            return
        self._json(
            [
                {"type": "file", "path": p, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                for p, c in files.items()
            ]
        )

    def _file(self, name: str, revision: str, file: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        sha = repo.commit(revision)
        if sha is None:
            self._refuse(404, "RevisionNotFound")
        elif file not in repo.files(revision):
            self._refuse(404, "EntryNotFound")
        else:
            content, first = repo.files(revision)[file], 0
            length = len(content)
            common = {
                "X_Repo_Commit": sha,
                "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "Accept_Ranges": "bytes",
            }
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            if self.command == "GET" and asked:
                first, last = int(asked[1]), min(int(asked[2] or length - 1), length - 1)
                self.hub.requested.append(f"{name}/{file}[{first}:{last + 1}]")
                part = content[first : last + 1]
                self._answer(206, part, **common, Content_Range=f"bytes {first}-{last}/{length}")
                return
            if self.command == "GET":
                self.hub.requested.append(f"{name}/{file}")
            self._answer(200, content, **common)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.hub.tokens |= {token} - {""}
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif token != self.hub.write_token:
            self._refuse(401 if not token else 403, "Forbidden")
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.hub.repos.setdefault(
                name, Repo({"main": {}}, private=asked.get("visibility") == "private")
            )
            self._json({"url": f"{self.hub.url}/{name}", "name": name, "id": name})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
            self._commit(match[1], match[2], body)
        else:
            self._refuse(404, "EntryNotFound")

    def _commit(self, name: str, revision: str, body: bytes) -> None:
        files = self.hub.repos[name].revisions.setdefault(revision, {})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        sha = self.hub.repos[name].commit(revision)
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha})


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty cache of huggingface_hub, and no token."""
    from huggingface_hub import constants

    folder = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return folder


@pytest.fixture
def hub(hub_cache, monkeypatch):
    """A running stand-in, which huggingface_hub takes for the hub."""
    from huggingface_hub import constants

    with HubStandIn() as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", server.url)
        yield server
