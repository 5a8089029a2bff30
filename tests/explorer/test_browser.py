"""The page against a running server: every view, the keyboard, links that restore a view, and what
goes wrong.
"""

import json
import re
import time
import urllib.parse

import numpy as np
import pytest

POEM = "Ines laughed on the mat,\nAlong came a soft cat.\nShe stood under the trees,\nAlong came a"


def link(server, view, **params):
    return f"{server.page}#/{view}?{urllib.parse.urlencode(params)}"


def explained(tab, count=1):
    """Waits until that many explanations are written and scored."""
    tab.locator(".card > .reading").nth(count - 1).wait_for()
    return tab.locator(".card")


def until(tab, expression, timeout_s=20):
    """Waits until an expression holds in the page; Playwright's own way needs ``eval``, which the
    policy forbids.
    """
    end = time.monotonic() + timeout_s
    while not tab.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.05)


def selected(tab):
    return [
        int(one.get_attribute("data-index"))
        for one in tab.locator('.token[aria-selected="true"]').all()
    ]


def test_a_clicked_token_is_explained_and_a_link_restores_it(tab, server):
    tab.goto(server.page)
    tab.get_by_label("Text to read").fill(POEM)
    tab.get_by_role("button", name="Read", exact=True).click()
    tab.locator('[data-index="9"]').click()
    said = explained(tab).first.locator(".said").all_inner_texts()
    assert said
    assert re.search(r"FVE\s*[−\d]", tab.locator(".card .measures").inner_text())
    assert tab.locator('[data-index="9"]').get_attribute("data-q") is not None
    address = tab.url
    tab.goto("about:blank")
    tab.goto(address)
    assert explained(tab).first.locator(".said").all_inner_texts() == said
    assert selected(tab) == [9]


def test_lines_say_what_they_add(tab, server):
    tab.goto(link(server, "read", t=POEM, sel="9"))
    tab.locator(".lines .num").first.wait_for()
    rows = tab.locator(".lines tbody tr")
    adds = [float(row.locator(".num").first.inner_text().replace("−", "-")) for row in rows.all()]
    whole = float(tab.locator(".measures .main dd").inner_text().replace("−", "-"))
    asked = {"text": POEM, "position": 9, "explanations": [""]}
    answer = tab.request.post(f"{server.url}/v1/score", data=asked).json()
    wordless = answer["scores"][0]["fve"]
    assert wordless + sum(adds) == pytest.approx(whole, abs=0.01 * (len(adds) + 1))


def test_shift_drag_and_control_choose_several_tokens(tab, server):
    tab.goto(link(server, "read", t=POEM))
    tab.locator('[data-index="3"]').click()
    tab.locator('[data-index="6"]').click(modifiers=["Shift"])
    assert selected(tab) == [3, 4, 5, 6]
    tab.locator('[data-index="10"]').click(modifiers=["Control"])
    assert selected(tab) == [3, 4, 5, 6, 10]
    tab.locator('[data-index="12"]').hover()
    tab.mouse.down()
    tab.locator('[data-index="14"]').hover()
    tab.mouse.up()
    assert selected(tab) == [12, 13, 14]
    assert explained(tab, 3).count() == 3


def test_many_tokens_are_explained_only_when_asked(tab, server):
    tab.goto(link(server, "read", t=POEM, sel="0-19"))
    button = tab.get_by_role("button", name="Explain 20")
    button.wait_for()
    assert tab.locator(".card").count() == 0
    button.click()
    assert explained(tab, 20).count() == 20


def test_everything_can_be_done_with_the_keyboard(tab, server):
    tab.goto(server.page)
    tab.get_by_label("Text to read").wait_for()
    tab.keyboard.type("Leo felt joyful that dawn. He fixed the bait.")
    tab.keyboard.press("Control+Enter")
    tab.locator(".token").first.wait_for()
    for _ in range(30):
        tab.keyboard.press("Tab")
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        if tab.evaluate("document.activeElement.getAttribute('role')") == "option":
            break
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Shift+ArrowRight")
    assert selected(tab) == [1, 2]
    tab.keyboard.press("End")
    last = tab.locator(".token").count() - 1
    assert selected(tab) == [last]
    tab.keyboard.press("Home")
    tab.keyboard.press("Control+a")
    assert len(selected(tab)) == last + 1
    tab.keyboard.press("Home")
    explained(tab)
    tab.get_by_role("button", name="How far to trust it").focus()
    tab.keyboard.press("Enter")
    tab.locator(".trust .dots").wait_for()
    tab.get_by_role("button", name="Download").focus()
    tab.keyboard.press("Enter")
    tab.get_by_role("button", name="JSON", exact=True).wait_for()
    tab.keyboard.press("Escape")
    assert tab.evaluate("document.activeElement.textContent") == "Download"


def test_the_trust_panel_shows_controls_samples_and_neighbours(tab, server):
    tab.goto(link(server, "read", t=POEM, sel="12", trust="12"))
    panel = tab.locator(".trust")
    panel.locator(".dots").wait_for()
    text = panel.inner_text().lower()
    for expected in (
        "mean direction",
        "shuffled",
        "empty text",
        "samples at temperature 1",
        "agreement",
        "at neighbours",
    ):
        assert expected in text + panel.locator(".dots").get_attribute("aria-label").lower()


def test_a_chat_is_read_with_its_roles(tab, server):
    tab.goto(server.page)
    tab.get_by_role("button", name="Chat", exact=True).click()
    tab.get_by_label("Turn 1", exact=True).fill("Tell me a story.")
    tab.get_by_role("button", name="Add a turn").click()
    tab.get_by_label("Turn 2", exact=True).fill("Leo felt joyful that dawn.")
    tab.get_by_role("button", name="Read", exact=True).click()
    tab.locator(".turn").nth(1).wait_for()
    assert tab.locator(".turn").all_inner_texts()[:2] == ["user", "assistant"]
    assert "chat=" in tab.url


def test_the_target_goes_on(tab, server):
    tab.goto(server.page)
    box = tab.get_by_label("Text to read")
    box.fill("Leo felt joyful that")
    tab.get_by_role("button", name="Continue with the target").click()
    until(tab, "document.querySelector('#source-text').value.length > 30")
    assert box.input_value().startswith("Leo felt joyful that")


def test_an_empty_text_is_said_calmly(tab, server):
    tab.goto(server.page)
    tab.get_by_label("Text to read").fill(" \n ")
    tab.get_by_role("button", name="Read", exact=True).click()
    assert "There is no text yet" in tab.get_by_role("alert").inner_text()


def test_hostile_and_foreign_texts_stay_text(tab, server):
    text = "<script>alert(1)</script><img src=x onerror=alert(2)> 🦊 قط نائم \t end"
    tab.on("dialog", lambda dialog: pytest.fail("a script ran"))
    tab.goto(link(server, "read", t=text))
    tab.locator(".token").first.wait_for()
    shown = "".join(tab.locator(".token").all_inner_texts()).replace("·", " ")
    assert "<script>alert(1)</script><img src=x onerror=alert(2)>" in shown
    assert "قط" in shown
    assert tab.locator(".tokens script, .tokens img").count() == 0
    assert tab.locator(".token", has_text="🦊").count() == 1
    assert "⇥" in shown


def test_a_script_in_an_explanation_stays_text(tab, server):
    frame = {
        "position": 3,
        "token": "x",
        "text": "<script>alert(1)</script>\n<b>bold</b>",
        "fve": 0.5,
    }
    tab.on("dialog", lambda dialog: pytest.fail("a script ran"))
    tab.route(
        "**/v1/explain",
        lambda route: route.fulfill(
            body=server.explained_frames(frame), content_type="text/event-stream"
        ),
    )
    tab.goto(link(server, "read", t=POEM, sel="3"))
    tab.locator(".said").nth(1).wait_for()
    assert tab.locator(".said").all_inner_texts() == ["<script>alert(1)</script>", "<b>bold</b>"]


def test_a_text_of_5000_tokens_can_be_read(tab, server):
    tab.goto(server.page)
    tab.get_by_label("Text to read").fill("Ines laughed on the mat. " * 850)
    tab.get_by_role("button", name="Read", exact=True).click()
    tab.locator(".token, .notice.problem").first.wait_for()
    if tab.locator(".notice.problem").count():
        assert re.search(r"token", tab.locator(".notice.problem").inner_text())
        return
    assert tab.locator(".token").count() >= 5000
    tab.locator('[data-index="4"]').click()
    explained(tab)


def test_a_busy_server_is_waited_for_and_the_page_says_so(tab, server):
    refused = []

    def once(route):
        if refused:
            route.continue_()
        else:
            refused.append(
                route.fulfill(status=429, headers={"Retry-After": "2"}, json={"detail": "busy"})
                or True
            )

    tab.route("**/v1/explain", once)
    tab.goto(link(server, "read", t=POEM, sel="5"))
    tab.get_by_text("The server is busy").wait_for()
    explained(tab)
    assert tab.get_by_text("The server is busy").count() == 0


def test_a_transcript_goes_on_after_the_server_was_killed(tab, server):
    tab.goto(link(server, "transcript", t="\n".join([POEM] * 8), budget="300"))
    start = tab.get_by_role("button", name=re.compile(r"^Explain \d+ token"))
    wanted = int(re.search(r"\d+", start.inner_text())[0])
    start.click()
    tab.locator(".rows li").first.wait_for()
    server.kill()
    try:
        tab.get_by_text("The server does not answer").wait_for()
        kept = tab.locator(".rows li").count()
        assert kept >= 1
    finally:
        server.start()
    tab.get_by_role("button", name="All explained").wait_for(timeout=60_000)
    assert tab.locator(".rows li").count() == wanted
    assert tab.get_by_text("The server does not answer").count() == 0


def test_a_transcript_is_searched_filtered_and_jumped_through(tab, server):
    tab.goto(link(server, "transcript", t=POEM, budget="500", go="1"))
    tab.get_by_role("button", name="All explained").wait_for(timeout=60_000)
    rows = tab.locator(".rows li")
    total = rows.count()
    assert total == tab.locator(".token").count()
    word = re.search(r"[A-Za-z]{3,}", rows.first.locator(".text").inner_text())[0]
    tab.get_by_label("Search").fill(word)
    until(
        tab,
        "document.querySelectorAll('.rows mark').length === document.querySelectorAll('.rows"
        f" li').length && {total} >= 1",
    )
    assert all(word.lower() in text.lower() for text in rows.locator(".text").all_inner_texts())
    assert tab.locator(".token.hit").count() == rows.count()
    tab.get_by_label("regex").check()
    tab.get_by_label("Search").fill("(")
    assert "cannot be read" in tab.get_by_role("alert").inner_text()
    tab.get_by_label("Search").fill("")
    tab.get_by_label("unflagged only").check()
    assert rows.count() < total
    rows.last.get_by_role("button", name="Jump to").click()
    assert len(selected(tab)) == 1


def test_a_transcript_stops_and_keeps_what_it_has(tab, server):
    tab.goto(link(server, "transcript", t="\n".join([POEM] * 8), budget="400"))
    start = tab.get_by_role("button", name=re.compile(r"^Explain \d+ token"))
    wanted = int(re.search(r"\d+", start.inner_text())[0])
    start.click()
    tab.get_by_role("button", name="Stop").dispatch_event("click")  # it moves as rows come
    start.wait_for()
    left = int(re.search(r"\d+", start.inner_text())[0])
    assert 0 < left <= wanted
    assert tab.locator(".rows li").count() == wanted - left


def test_steering_shows_every_control_and_a_link_runs_it_again(tab, server):
    tab.goto(link(server, "steer", t=POEM, pos="9"))
    box = tab.get_by_label("Explanation, to be edited")
    box.wait_for()
    assert tab.get_by_role("button", name="Steer", exact=True).is_disabled()
    box.fill(box.input_value() + "\nA storm is near.")
    assert "A storm is near." in tab.locator("ins").inner_text()
    tab.get_by_role("button", name="Steer", exact=True).click()
    table = tab.locator(".continuations")
    table.wait_for()
    heads = table.locator("thead th").all_inner_texts()
    assert heads[:3] == ["α", "along the edit", "random direction"]
    assert table.locator("tbody th").all_inner_texts() == ["no edit", "0.5", "1.0", "2.0", "4.0"]
    shares = [
        float(cell.removesuffix("\u00a0%"))
        for cell in tab.locator(".probs td.num").all_inner_texts()
    ]
    assert shares
    assert all(0 <= share <= 100 for share in shares)
    first = table.inner_text()
    address = tab.url
    tab.goto("about:blank")
    tab.goto(address)
    table.wait_for()
    assert table.inner_text() == first


def test_two_tokens_are_compared(tab, server):
    tab.goto(link(server, "compare", t=POEM, a="5", b="12"))
    assert explained(tab, 2).count() == 2
    tab.get_by_text("length of the difference").wait_for()
    tab.get_by_role("button", name="Another text").click()
    tab.get_by_label("Text to read").fill("Leo felt joyful that dawn.")
    tab.get_by_role("button", name="Read", exact=True).click()
    tab.locator(".sides section").nth(1).locator('[data-index="2"]').click()
    assert explained(tab, 2).count() == 2
    assert "t2=Leo" in tab.url


@pytest.mark.parametrize("kind", ["npy", "safetensors", "parquet"])
def test_vectors_from_a_file_are_explained(tab, server, kind, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(5, server.d_model)).astype(np.float32)
    tab.goto(link(server, "vectors", count="3"))
    tab.get_by_label("File of vectors").set_input_files(
        server.vectors_file(tmp_path / f"mine.{kind}", vectors)
    )
    tab.get_by_role("button", name="Explain 3 vectors").click()
    tab.locator(".card > .reading").nth(2).wait_for()
    norms = [
        float(re.search(r"norm ([\d.]+)", text)[1])
        for text in tab.locator(".card .where").all_inner_texts()
    ]
    assert norms == pytest.approx(np.linalg.norm(vectors[:3], axis=1), rel=1e-2)


def test_vectors_of_another_width_are_refused(tab, server, tmp_path):
    tab.goto(link(server, "vectors"))
    np.save(tmp_path / "x.npy", np.ones((2, 7), np.float32))
    tab.get_by_label("File of vectors").set_input_files(tmp_path / "x.npy")
    assert (
        f"width 7; this NLA reads width {server.d_model}" in tab.get_by_role("alert").inner_text()
    )


def test_a_run_is_shown_and_renewed_while_it_trains(tab, server):
    tab.goto(link(server, "runs"))
    tab.locator(".uplot canvas").first.wait_for()
    assert "FVE" in tab.locator(".chart").first.inner_text()
    server.append_metric({"stage": "joint", "step": 9, "fve_sampled": 0.777, "kl": 0.1})
    until(
        tab,
        "[...document.querySelectorAll('.chart [role=img]')].some((e) =>"
        " e.ariaLabel.includes('0.777 at step 9'))",
    )
    assert "the hero is Sam" in tab.locator(".samples").inner_text()


@pytest.mark.parametrize(
    "kind", ["JSON", "Web page that works offline", "Parquet", "Neuronpedia cache (JSON)"]
)
def test_results_download(tab, server, kind, tmp_path):
    tab.goto(link(server, "read", t=POEM, sel="5-6"))
    explained(tab, 2)
    tab.get_by_role("button", name="Download").click()
    with tab.expect_download() as waiting:
        tab.get_by_role("button", name=kind, exact=True).click()
    file = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(file)
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        assert pq.read_table(file).column("position").to_pylist() == [5, 6]
    elif file.suffix == ".html":
        assert '<article id="p5">' in file.read_text(encoding="utf-8")
    else:
        document = json.loads(file.read_text(encoding="utf-8"))
        positions = document.get("sortedPositions") or [
            one["position"] for one in document["explanations"]
        ]
        assert positions == [5, 6]


def test_two_tabs_read_two_texts_at_once(context, server):
    tabs = [context.new_page(), context.new_page()]
    for tab, text in zip(
        tabs, (POEM, "Leo felt joyful that dawn. He fixed the bait."), strict=True
    ):
        tab.goto(link(server, "read", t=text, sel="4-7"))
    counts = [explained(tab, 4).count() for tab in tabs]
    assert counts == [4, 4]
    assert (
        tabs[0].locator(".card .chip").all_inner_texts()
        != tabs[1].locator(".card .chip").all_inner_texts()
    )


def test_the_theme_follows_the_system_and_a_choice_is_kept(context, server):
    tab = context.new_page()
    tab.emulate_media(color_scheme="dark")
    tab.goto(server.page)
    tab.get_by_role("button", name="Light theme").wait_for()
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = tab.evaluate(ground)
    tab.get_by_role("button", name="Light theme").click()
    light = tab.evaluate(ground)
    assert light != dark
    tab.reload()
    tab.get_by_role("button", name="Dark theme").wait_for()
    assert tab.evaluate(ground) == light
