"""Search in the explanations that the page holds: words, regular expressions, and those that would
never end.
"""

import json
import time
import urllib.parse

import pytest

WITHOUT_END = "^(a|aa)+$"
SAID = ["The hero is Sam. C++?", f"{'a' * 60}!", "It rains (again)."]


@pytest.fixture
def transcript(tab, server):
    """A transcript whose three explanations are known."""

    def answer(route):
        asked = json.loads(route.request.post_data)
        frames = [
            {"position": position, "token": "x", "text": text, "fve": 0.5}
            for position, text in zip(asked["positions"], SAID, strict=True)
        ]
        body = "".join(f"data: {json.dumps(frame)}\n\n" for frame in frames)
        route.fulfill(body=f"{body}data: [DONE]\n\n", content_type="text/event-stream")

    tab.route("**/v1/explain", answer)
    params = {"t": "Sam sat by the well", "budget": "3", "go": "1"}
    tab.goto(f"{server.page}#/transcript?{urllib.parse.urlencode(params)}")
    tab.get_by_role("button", name="All explained").wait_for()
    assert shown(tab) == sorted(SAID)
    return tab


def shown(tab):
    return sorted(tab.locator(".rows .text").all_inner_texts())


def finds(tab, *texts):
    """Waits until exactly these texts are shown."""
    until = time.monotonic() + 30
    while shown(tab) != sorted(texts):
        assert time.monotonic() < until, shown(tab)
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("query", "index", "marked"),
    [("hero IS", 0, "hero is"), ("c++?", 0, "C++?"), ("(again)", 2, "(again)")],
)
def test_words_are_found_as_they_stand(transcript, query, index, marked):
    transcript.get_by_label("Search").fill(query)
    finds(transcript, SAID[index])
    assert transcript.locator(".rows mark").all_inner_texts() == [marked]
    assert transcript.locator(".token.hit").count() == 1


def test_a_regular_expression_is_found_and_marked(transcript):
    transcript.get_by_label("regex").check()
    transcript.get_by_label("Search").fill(r"^a{50}|r\w+s\b")
    finds(transcript, SAID[1], SAID[2])
    assert sorted(transcript.locator(".rows mark").all_inner_texts()) == ["a" * 50, "rains"]
    transcript.get_by_label("Search").fill("nothing like it")
    finds(transcript)
    assert transcript.get_by_text("No explanation matches.").count() == 1


def test_a_regular_expression_without_end_is_stopped_and_the_page_stays_awake(transcript):
    transcript.get_by_label("regex").check()
    box = transcript.get_by_label("Search")
    box.fill(WITHOUT_END)
    slowest = 0.0
    alert = transcript.get_by_role("alert")
    until = time.monotonic() + 30
    while not alert.count():
        start = time.monotonic()
        transcript.evaluate("1")
        slowest = max(slowest, time.monotonic() - start)
        assert time.monotonic() < until
    assert slowest < 5
    assert "takes too long" in alert.inner_text()
    assert shown(transcript) == sorted(SAID)
    box.fill("Sam")
    finds(transcript, SAID[0])
    assert alert.count() == 0


def test_another_expression_stops_the_one_that_is_looked_for(transcript):
    transcript.get_by_label("regex").check()
    box = transcript.get_by_label("Search")
    box.fill(WITHOUT_END)
    box.fill("rains|Sam")
    finds(transcript, SAID[0], SAID[2])
    assert transcript.get_by_role("alert").count() == 0


def test_the_read_view_marks_tokens_whose_words_or_explanations_match(tab, server):
    frame = {"position": 3, "token": "x", "text": "A storm.", "fve": 0.5}
    tab.route(
        "**/v1/explain",
        lambda route: route.fulfill(
            body=server.explained_frames(frame), content_type="text/event-stream"
        ),
    )
    params = {"t": "Sam sat by the well", "sel": "3", "by": "search", "q": "STORM"}
    tab.goto(f"{server.page}#/read?{urllib.parse.urlencode(params)}")
    tab.locator(".token.hit").wait_for()
    assert [one.get_attribute("data-index") for one in tab.locator(".token.hit").all()] == ["3"]
