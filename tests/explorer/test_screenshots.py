"""Photographs of every view, kept for looking at."""

import sys

import pytest

from gloss.explorer.mount import STATIC

sys.path.insert(0, str(STATIC.parents[3] / "docs"))
from make_screenshots import MODES, VIEWS, photograph


@pytest.mark.slow
def test_every_view_is_photographed(browser, server, artefacts):
    files = photograph(browser, server.page, artefacts)
    assert len(files) == len(VIEWS) * len(MODES)
    assert all(file.stat().st_size > 10_000 for file in files)
