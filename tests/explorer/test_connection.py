"""The page's calls outlive a busy server and one that is away; what a server says of a mistake
arrives as its own line.
"""

import json

import pytest

CALL = """async ([name, path, body]) => {
  const m = await import('http://gloss.test/js/connection.js');
  const seen = [], statuses = [];
  m.status.watch(() => statuses.push({...m.status.value}));
  try {
    const value = name === 'stream' ? await m.stream(path, body, (frame) => seen.push(frame)) : await m.call(path, body);
    return {value, seen, statuses};
  } catch (error) { return {error: error.constructor.name, message: error.message, seen, statuses}; }
}"""


@pytest.fixture
def calls(modules):
    """Answers requests to ``/v1/thing`` from a list, one after the other, and to ``/healthz`` with
    200.
    """
    page, answers = modules.page, []

    def answer(route):
        kind = answers.pop(0)
        if kind == "gone":
            route.abort("connectionrefused")
        else:
            route.fulfill(**kind)

    page.route("**/v1/thing", answer)
    page.route("**/healthz", lambda route: route.fulfill(json={}))

    def run(name, *given):
        answers.extend(given)
        return page.evaluate(CALL, [name, "/v1/thing", {"text": "a"}])

    yield run
    page.unroute("**/v1/thing")
    page.unroute("**/healthz")
    assert not answers


def test_a_busy_server_is_waited_for_as_long_as_it_says(calls):
    busy = {"status": 429, "headers": {"Retry-After": "2"}, "json": {"detail": "queue full"}}
    result = calls("call", busy, {"json": {"a": 1}})
    assert result["value"] == {"a": 1}
    assert result["statuses"] == [
        {"kind": "busy", "seconds": 2},
        {"kind": "busy", "seconds": 1},
        {"kind": "ok"},
    ]


def test_a_server_that_has_gone_is_asked_again_once_it_is_back(calls):
    result = calls("call", "gone", {"json": {"a": 1}})
    assert result["value"] == {"a": 1}
    assert [status["kind"] for status in result["statuses"]] == ["lost", "ok"]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (
            {"detail": "the text is empty: expected at least one token."},
            "the text is empty: expected at least one token.",
        ),
        ({"detail": [{"loc": ["body", "positions"], "msg": "too many"}]}, "positions: too many"),
        ("not json at all", "The server answered 400."),
    ],
)
def test_a_refusal_is_the_servers_own_line(calls, body, line):
    answer = (
        {"status": 400, "body": body} if isinstance(body, str) else {"status": 400, "json": body}
    )
    result = calls("call", answer)
    assert (result["error"], result["message"]) == ("Refused", line)


def events(*frames, closed=True):
    lines = [f"data: {json.dumps(frame)}\n\n" for frame in frames]
    return {
        "body": "".join(lines) + ("data: [DONE]\n\n" if closed else ""),
        "content_type": "text/event-stream",
    }


def test_frames_arrive_in_order(calls):
    frames = [{"position": 1, "text": "a\n\nb"}, {"position": 2, "text": "قط 🦊 data: [DONE]"}]
    assert calls("stream", events(*frames))["seen"] == frames


def test_a_stream_that_ends_early_is_broken_and_keeps_what_came(calls):
    result = calls("stream", events({"position": 1}, closed=False))
    assert (result["error"], result["seen"]) == ("Broken", [{"position": 1}])


def test_an_error_inside_a_stream_is_the_servers_line(calls):
    result = calls("stream", events({"position": 1}, {"error": "out of time"}))
    assert (result["error"], result["message"]) == ("Refused", "out of time")


def test_a_server_that_shuts_down_within_a_stream_breaks_it(calls):
    result = calls(
        "stream", events({"position": 1}, {"error": "the server is shutting down", "status": 503})
    )
    assert (result["error"], result["seen"]) == ("Broken", [{"position": 1}])


def test_a_server_that_shuts_down_is_waited_for(calls):
    result = calls(
        "call", {"status": 503, "headers": {"Retry-After": "1"}, "json": {}}, {"json": {"a": 1}}
    )
    assert result["value"] == {"a": 1}
