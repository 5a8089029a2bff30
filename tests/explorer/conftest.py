"""A real browser for the page's tests; skipped with the reason where there is none."""

import shutil
from pathlib import Path

import pytest

from gloss.explorer.page import STATIC

ORIGIN = "http://gloss.test"


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def modules(browser):
    """Calls a function of one of the page's modules, without a server: ``modules("js/text.js", "wordDiff", "a", "b")``."""
    context = browser.new_context()
    page = context.new_page()
    page.route(f"{ORIGIN}/**", _from_disk)
    page.goto(f"{ORIGIN}/blank.html")

    def run(module, expression, *arguments):
        source = f"async (args) => {{ const m = await import('{ORIGIN}/{module}'); return m.{expression}(...args); }}"
        return page.evaluate(source, list(arguments))

    run.page = page
    yield run
    context.close()


def _from_disk(route):
    name = route.request.url.removeprefix(ORIGIN).lstrip("/").split("?")[0]
    file = STATIC / name
    if name == "blank.html":
        route.fulfill(body="<!doctype html><title>blank</title>", content_type="text/html")
    elif file.is_file():
        route.fulfill(path=file, content_type="text/javascript" if file.suffix == ".js" else None)
    else:
        route.abort()
