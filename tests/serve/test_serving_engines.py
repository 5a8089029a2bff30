"""A server whose AV runs on another one: whole responses, the same words, cancelled when their
client leaves.
"""

import time

import httpx2
import pytest
from served_nla import TEXT, serving
from test_limits import endless, rows, until  # noqa: F401
from test_sharing import metric

from gloss.errors import EngineError
from gloss.nla import NLA


def behind(client, folder):
    """An NLA whose AV runs on the server of ``client``."""
    return NLA(folder, engine=f"gloss+{str(client.base_url).rstrip('/')}")


def test_explanations_are_those_of_the_server_behind(client, nla, nla_folder):
    with serving(behind(client, nla_folder)) as front:
        found = front.post("/v1/explain", json={"text": TEXT, "positions": "3,7-9"}).json()[
            "explanations"
        ]
        assert [e["text"] for e in found] == [e.text for e in nla.explain(TEXT, positions="3,7-9")]
        body = {"activations": rows(3), "samples": 2, "temperature": 2.0, "seed": 4}
        first, again = (
            front.post("/v1/explain", json={**body, "max_new_tokens": n}).json() for n in (20, 20)
        )
        assert first == again
        assert len({e["response"] for e in first["explanations"]}) > 3
        assert metric(front, "gloss_explanations_total") == 10


def test_an_engine_is_told_the_key_of_the_environment(nla, nla_folder, monkeypatch):
    with serving(nla, secret="open sesame") as back:
        with pytest.raises(EngineError, match="HTTP 401"):
            behind(back, nla_folder).explain(TEXT, positions=3)
        monkeypatch.setenv("GLOSS_ENGINE_KEY", "open sesame")
        for engine in (
            behind(back, nla_folder),
            NLA(nla_folder, engine=str(back.base_url).rstrip("/")),
        ):
            assert (
                engine.explain(TEXT, positions=3)[0].text == nla.explain(TEXT, positions=3)[0].text
            )
        monkeypatch.setenv("GLOSS_ENGINE_KEY", "barley")
        with pytest.raises(EngineError, match="HTTP 403") as caught:
            behind(back, nla_folder).explain(TEXT, positions=3)
        assert "barley" not in str(caught.value)


def test_a_row_is_given_up_behind_when_its_client_leaves(endless, nla_folder):  # noqa: F811
    with serving(endless) as back, serving(behind(back, nla_folder)) as front:
        with pytest.raises(httpx2.ReadTimeout):
            front.post(
                "/v1/explain", json={"activations": rows(2), "max_new_tokens": 512}, timeout=1.0
            )
        until(lambda: metric(back, "gloss_abandoned_rows_total") == 2)
        assert metric(back, "gloss_batch_rows") == 0


def test_an_engine_that_has_gone_is_503(nla, nla_folder):
    with serving(nla) as back, serving(behind(back, nla_folder)) as front:
        assert front.post("/v1/explain", json={"activations": rows(1)}).status_code == 200
        back.server.should_exit = True
        deadline = time.monotonic() + 20
        while back.service.scheduler.is_ready and time.monotonic() < deadline:
            time.sleep(0.05)
        answer = front.post("/v1/explain", json={"activations": rows(1, 3)})
        assert answer.status_code == 503
        assert answer.json()["kind"] == "EngineError"
