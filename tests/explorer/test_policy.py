"""What the page may load and what it asks of whom."""

import re

import pytest

from gloss.explorer.mount import STATIC

VIEWS = ("read", "transcript", "steer", "compare", "vectors", "runs")


def test_no_script_or_style_stands_in_the_page_itself():
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>|<style|\bon\w+=|\bstyle=", page) == []
    assert re.findall(r"(?:src|href)=\"(?:https?:)?//", page) == []


def test_no_file_of_ours_names_another_address_or_evaluates_text():
    for file in [*STATIC.glob("js/**/*.js"), *STATIC.glob("css/*.css")]:
        code = file.read_text(encoding="utf-8")
        assert not re.search(
            r"https?://|\beval\(|new Function|innerHTML|dangerouslySetInnerHTML|document\.write",
            code,
        ), file.name


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("width", [390, 1280])
def test_a_view_fits_its_window_obeys_the_policy_and_asks_only_its_server(
    browser, server, view, width
):
    context = browser.new_context(viewport={"width": width, "height": 844})
    tab = context.new_page()
    problems, requests = [], []
    tab.on(
        "console",
        lambda message: message.type in ("error", "warning") and problems.append(message.text),
    )
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    response = tab.goto(f"{server.page}#/{view}?t=Sam+sat+by+the+well&sel=4&pos=4&a=2&b=4")
    policy = response.headers["content-security-policy"]
    assert policy.startswith(("default-src 'none'", "default-src 'self'"))
    assert "unsafe" not in policy
    tab.get_by_role("heading", level=1).wait_for()
    tab.wait_for_timeout(800)
    assert problems == []
    assert all(url.startswith(server.url) for url in requests)
    assert tab.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    context.close()


def test_the_first_paint_is_fast(tab, server):
    tab.goto(server.page)
    tab.get_by_label("Text to read").wait_for()
    painted = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert painted < 1500
