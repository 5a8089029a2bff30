"""Photographs every view of a running page, in light, dark and at phone width: python
docs/make_screenshots.py URL FOLDER.

Without FOLDER it makes the pictures of docs/explore.md anew: four views in light.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import sync_playwright

POEM = (
    "Ines laughed on the mat,\nAlong came a soft cat.\nShe stood under the trees,\nEating all the"
    " fine yellow cheese.\nAt night she laughed by the lake,\nHungry for the sweet cake.\nOnce"
    " again she hid on the log,\nAlong came a"
)
VIEWS = {
    "write": ("read", {}),
    "read": ("read", {"t": POEM, "sel": "54-56"}),
    "trust": ("read", {"t": POEM, "sel": "56", "trust": "56"}),
    "transcript": ("transcript", {"t": POEM, "budget": "60", "go": "1"}),
    "steer": ("steer", {"t": "Sam sat by the well", "pos": "4"}),
    "compare": ("compare", {"t": POEM, "a": "56", "b": "30"}),
    "vectors": ("vectors", {}),
    "runs": ("runs", {}),
}
MODES: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 860}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 860}},
    "phone": {
        "color_scheme": "light",
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
    },
}
GUIDE, GUIDE_VIEWS = Path(__file__).with_name("figures"), ("read", "trust", "transcript", "steer")
SETTLED_MS = 60_000


def photograph(
    browser: Any,
    url: str,
    folder: Path,
    *,
    views: Iterable[str] = VIEWS,
    modes: Iterable[str] = MODES,
) -> list[Path]:
    """Writes one PNG per view and mode into the folder and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for mode in modes:
        context = browser.new_context(**MODES[mode])
        for name in views:
            view, params = VIEWS[name]
            tab = context.new_page()
            tab.goto(f"{url}#/{view}?{urlencode(params)}")
            _wait(tab, name)
            files.append(folder / f"page-{name}-{mode}.png")
            tab.screenshot(path=files[-1], full_page=True)
            tab.close()
        context.close()
    return files


def _wait(tab: Any, name: str) -> None:
    """Until the view shows what it is there for."""
    tab.set_default_timeout(SETTLED_MS)
    if name == "steer":
        box = tab.locator("#edited")
        said = box.input_value()
        box.fill(said.replace("well", "mill") if "well" in said else f"{said}\nA sad tone.")
        tab.get_by_role("button", name="Steer", exact=True).click()
    shows = {
        "write": "textarea",
        "read": ".card:nth-of-type(3) > .reading",
        "trust": ".trust .dots",
        "transcript": ".themes button, .pane-text",
        "steer": ".continuations",
        "compare": "section[aria-label=Difference] .measures",
        "vectors": ".drop",
        "runs": ".uplot canvas, .empty",
    }
    tab.locator(shows[name]).first.wait_for()
    tab.locator(".progress").first.wait_for(state="detached")
    tab.wait_for_timeout(500)


if __name__ == "__main__":
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        url, *folders = sys.argv[1:]
        if folders:
            files = photograph(browser, url, Path(folders[0]))
        else:
            files = photograph(browser, url, GUIDE, views=GUIDE_VIEWS, modes=["light"])
        print(*files, sep="\n")
