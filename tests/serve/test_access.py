"""Who may ask: secret, Host, Origin, and what browsers are told."""

import logging

import httpx2
import pytest
from served_nla import serving

from gloss.errors import ConfigError
from gloss.serve.access import access_for, is_loopback

SECRET = "a secret that nobody guesses"


@pytest.fixture(scope="module")
def guarded(nla):
    with serving(nla, secret=SECRET) as client:
        yield client


def bare(client, path, method="GET", **headers):
    return httpx2.request(
        method, f"{client.base_url}{path}", headers=headers, json={} if method == "POST" else None
    )


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/openapi.json", "/v1/nlas", "/v1/docs", "/v1/runs/x", "/nowhere"]
)
def test_a_missing_secret_is_401_and_a_wrong_one_403(guarded, path):
    assert bare(guarded, path).status_code == 401
    wrong = bare(guarded, path, **{"X-SECRET-KEY": SECRET + "!"})
    assert wrong.status_code == 403
    assert SECRET not in wrong.text
    assert bare(guarded, path, **{"X-SECRET-KEY": SECRET}).status_code in (200, 400, 404)


@pytest.mark.invariant("guard-1")
@pytest.mark.parametrize(
    "near",
    [
        "",
        SECRET[:1],
        SECRET[:-1],
        SECRET.upper(),
        f"{SECRET} {SECRET}",
        SECRET.replace(" ", ""),
        "*",
        "None",
    ],
)
def test_nothing_near_the_secret_opens_anything(guarded, near):
    answer = bare(guarded, "/v1/nlas", **{"X-SECRET-KEY": near})
    assert answer.status_code == 403
    assert "wrong secret" in answer.json()["detail"]
    twice = [("X-SECRET-KEY", near), ("X-SECRET-KEY", SECRET)]
    assert httpx2.get(f"{guarded.base_url}/v1/nlas", headers=twice).status_code == 403


@pytest.mark.invariant("guard-1")
def test_the_secret_counts_in_its_header_only(guarded):
    elsewhere = {"Authorization": f"Bearer {SECRET}", "Cookie": f"X-SECRET-KEY={SECRET}"}
    assert bare(guarded, "/v1/nlas", **elsewhere).status_code == 401
    assert bare(guarded, f"/v1/nlas?X-SECRET-KEY={SECRET}").status_code == 401


@pytest.mark.invariant("guard-2")
@pytest.mark.parametrize(
    "origin",
    [
        "{own}.evil.com",
        "{own}1",
        "{own}@evil.com",
        "{own}/../evil.com",
        "{own} http://evil.com",
        "http://evil.com/{host}",
        "http://evil.com#{host}",
        "http://evil.com?{own}",
        "http://user@{host}",
        "http://{host}:80",
        "http://{name}",
        "ftp://{host}",
        "chrome-extension://{host}",
        "//{host}",
        "{host}",
        "",
        "http://[{host}",
    ],
)
def test_an_origin_that_only_looks_like_our_own_is_refused(client, origin):
    own = str(client.base_url).rstrip("/")
    host = own.removeprefix("http://")
    given = origin.format(own=own, host=host, name=host.partition(":")[0])
    for path, method in (("/v1/explain", "POST"), ("/v1/nlas", "GET")):
        answer = bare(client, path, method, Origin=given)
        assert (answer.status_code, answer.json()["kind"]) == (403, "AccessError"), given


@pytest.mark.invariant("guard-2")
def test_our_own_origin_may_come_over_a_proxys_tls(client):
    own = str(client.base_url).rstrip("/")
    assert bare(client, "/v1/nlas", Origin=own).status_code == 200
    assert bare(client, "/v1/nlas", Origin=own.replace("http:", "https:")).status_code == 200


def test_access_is_refused_before_the_body_is_looked_at(guarded):
    assert bare(guarded, "/explain", "POST").status_code == 401
    assert (
        bare(guarded, "/v1/explain", "POST", **{"X-SECRET-KEY": "\u00e9".encode()}).status_code
        == 403
    )


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_secret(guarded, path):
    assert bare(guarded, path).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:5009",
        "127.0.0.1.evil.example",
        "evil.127.0.0.1",
        "notlocalhost",
        "localhost.",
        "localhost@evil.example",
        "127.0.0.1, evil.example",
        "0x7f.1",
        "[::1].evil.example",
        "",
    ],
)
def test_another_name_is_refused_so_that_dns_rebinding_fails(client, host):
    answer = bare(client, "/v1/nlas", Host=host)
    assert answer.status_code == 403
    assert answer.json()["kind"] == "AccessError"
    assert f"found {host or 'no Host header'}" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:5009", "[::1]:80", "LOCALHOST"])
def test_the_servers_own_names_are_accepted(client, host):
    assert bare(client, "/v1/nlas", Host=host).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
@pytest.mark.parametrize(("path", "method"), [("/v1/explain", "POST"), ("/v1/nlas", "GET")])
def test_other_sites_pages_are_refused(client, headers, path, method):
    assert bare(client, path, method, **headers).status_code == 403


def test_the_servers_own_page_may_ask_and_links_may_be_followed(client):
    own = str(client.base_url).rstrip("/")
    assert (
        bare(client, "/v1/nlas", Origin=own, **{"Sec-Fetch-Site": "same-origin"}).status_code == 200
    )
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert bare(client, "/v1/docs", **link).status_code == 200
    assert bare(client, "/v1/explain", "POST", **link).status_code == 403


def test_a_form_of_another_page_cannot_post(client):
    body = '{"text": "a"}'
    for path in ("/explain", "/v1/explain"):
        answer = httpx2.post(
            f"{client.base_url}{path}", content=body, headers={"Content-Type": "text/plain"}
        )
        assert answer.status_code == 422
        assert (
            "expected Content-Type: application/json, found text/plain"
            in answer.json()["detail"][0]["msg"]
        )


@pytest.mark.parametrize("path", ["/", "/nowhere", "/v1/docs", "/healthz"])
def test_every_answer_tells_browsers_to_run_and_frame_nothing_else(client, path):
    headers = bare(client, path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers


def test_no_secret_and_no_text_is_logged(nla, caplog):
    caplog.set_level(logging.DEBUG)
    with serving(nla, secret=SECRET) as client:
        client.post("/v1/explain", json={"text": "what nobody shall read", "positions": -1})
        bare(client, "/v1/nlas", **{"X-SECRET-KEY": "wrong-guess"})
        metrics = client.get("/metrics").text
    for hidden in (SECRET, "what nobody shall read", "wrong-guess"):
        assert hidden not in caplog.text + metrics


def test_every_answer_is_counted_with_the_seconds_that_it_took(client):
    def measured():
        lines = client.get("/metrics").text.splitlines()
        return [float(line.rpartition(" ")[2]) for line in lines if '_sum{path="/v1/nlas"}' in line]

    bare(client, "/v1/nlas")
    before = measured()
    bare(client, "/v1/nlas")
    ((first,), (second,)) = (before, measured())
    assert 0 < second - first < 60


def test_metrics_do_not_grow_with_the_paths_that_are_asked_for(client):
    for i in range(50):
        bare(client, f"/nowhere/{i}")
        bare(client, f"/v1/runs/run-{i}")
    text = client.get("/metrics").text
    assert "nowhere" not in text
    assert "run-7" not in text
    assert 'path="/v1/runs/{run_id}"' in text


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("127.9.9.9", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.7", False),
        ("example.org", False),
    ],
)
def test_only_this_machines_own_addresses_need_no_secret(host, inside):
    assert is_loopback(host) is inside
    if inside:
        assert access_for(host, secret=None).secret is None
    else:
        with pytest.raises(ConfigError, match="--secret-env"):
            access_for(host, secret=None)
        assert access_for(host, secret="s").hosts is None
        assert access_for(host, secret="s", allowed_hosts=["a.b"]).hosts == {"a.b"}


@pytest.mark.invariant("guard-1")
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
@pytest.mark.parametrize("secret", ["", " "])
def test_an_empty_secret_is_none(host, secret):
    with pytest.raises(ConfigError, match="the secret is empty"):
        access_for(host, secret=secret)


def test_a_name_that_was_allowed_is_accepted(nla):
    with serving(nla, allowed_hosts=["nla.example.org"]) as client:
        assert bare(client, "/v1/nlas", Host="nla.example.org").status_code == 200
        assert bare(client, "/v1/nlas", Host="other.example.org").status_code == 403


def test_all_names_below_a_domain_can_be_allowed_but_no_other_pattern(nla):
    with serving(nla, allowed_hosts=["*.example.org"]) as client:
        assert bare(client, "/v1/nlas", Host="nla.example.org").status_code == 200
        assert bare(client, "/v1/nlas", Host="example.com").status_code == 403
    for wrong in ("*", "nla.*", "n*.example.org"):
        with pytest.raises(ConfigError, match="allow-host"):
            access_for("127.0.0.1", secret=None, allowed_hosts=[wrong])
