"""The static files as the application serves them, and the browser that opens once the server
answers.
"""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from gloss.explorer import PAGE_PATH, mount_page, open_when_ready
from gloss.explorer.mount import STATIC


@pytest.fixture
def client():
    app = FastAPI()
    mount_page(app)
    return TestClient(app)


def test_the_page_comes_with_a_strict_policy(client):
    response = client.get(f"{PAGE_PATH}/")
    assert response.status_code == 200
    assert "<title>Gloss</title>" in response.text
    policy = dict(
        part.strip().split(" ", 1)
        for part in response.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "file", sorted(str(path.relative_to(STATIC)) for path in STATIC.rglob("*.js"))
)
def test_every_script_is_served_as_one(client, file):
    response = client.get(f"{PAGE_PATH}/{file}")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/javascript")


def test_files_come_compressed_to_those_who_take_it_and_whole_to_others(client):
    url, script = f"{PAGE_PATH}/js/shell.js", (STATIC / "js/shell.js").read_bytes()
    packed = client.get(url, headers={"Accept-Encoding": "gzip"})
    plain = client.get(url, headers={"Accept-Encoding": "identity"})
    assert packed.content == plain.content == script
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    again = client.get(url, headers={"If-None-Match": packed.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["../page.py", "%2e%2e/page.py", "..%2f__init__.py", "js/none.js"])
def test_nothing_else_is_served(client, path):
    assert client.get(f"{PAGE_PATH}/{path}").status_code == 404


def test_the_browser_opens_once_the_server_answers(monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)

    class Quiet(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Quiet, bind_and_activate=False)
    server.server_bind()
    url = f"http://127.0.0.1:{server.server_port}/explore/"
    waiting = open_when_ready(url, timeout_s=20)
    waiting.join(0.5)
    assert opened == []
    server.server_activate()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    waiting.join(20)
    server.shutdown()
    server.server_close()
    assert opened == [url]


def test_a_server_that_never_comes_opens_nothing(monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    open_when_ready("http://127.0.0.1:9/", timeout_s=0.3).join(5)
    assert opened == []


def test_the_wheel_holds_every_file_of_the_page():
    """Hatch packs whole packages; a file that git ignores would be left out."""
    import subprocess

    ignored = subprocess.run(
        ["git", "check-ignore", *map(str, STATIC.rglob("*"))],
        capture_output=True,
        text=True,
        cwd=STATIC,
    )
    assert ignored.stdout == ""


def test_the_pages_json_becomes_a_table_of_explanations(client, tmp_path):
    from gloss.reading.tables import read_results

    given = {
        "nla": {"name": "n", "target": "t", "layer": 2, "d_model": 4},
        "source": {"text": "a🦊"},
        "tokens": ["a", "🦊"],
        "explanations": [
            {
                "position": 1,
                "token": "🦊",
                "token_id": 7,
                "text": None,
                "response": "half",
                "fve": None,
                "cosine": None,
                "direction_mse": None,
                "norm": 2.5,
                "flags": ["extraction failed"],
                "lines": None,
            },
            {
                "position": 0,
                "token": "a",
                "token_id": 3,
                "text": "said",
                "fve": 0.5,
                "cosine": 0.75,
                "direction_mse": 0.5,
                "norm": 1.0,
                "flags": [],
            },
        ],
    }
    response = client.post(f"{PAGE_PATH}/parquet", json=given)
    assert response.status_code == 200
    (tmp_path / "x.parquet").write_bytes(response.content)
    results = read_results(tmp_path / "x.parquet")
    rows = results.to_dicts()
    assert [(row["position"], row["text"], row["response"], row["norm"]) for row in rows] == [
        (1, None, "half", 2.5),
        (0, "said", "said", 1.0),
    ]
    assert results.provenance["layer"] == 2
    assert results.header["documents"]["text"]["tokens"] == given["tokens"]
    assert client.post(f"{PAGE_PATH}/parquet", json={"tokens": 3}).status_code == 422
