"""Fixtures for every test: threads, the lab tokenizer, and the shared data where it is present."""

import os
from pathlib import Path

import pytest

from gloss.cli.threads import choose_waiting

choose_waiting()  # before PyTorch is loaded, as in the command line
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the hub

import torch  # noqa: E402

THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
"""Workers side by side take one thread each."""
REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / "shared"


LONG_FIRST = ("tests/faults/", "tests/lab/")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for the groups
def pytest_collection_modifyitems(items):
    """For workers side by side: a file stays on one worker, the lab's files on the same (they share
    one run), the longest begin.
    """

    def place(item):
        return item.path.relative_to(REPO).as_posix()

    items.sort(
        key=lambda item: next(
            (i for i, folder in enumerate(LONG_FIRST) if place(item).startswith(folder)), 9
        )
    )
    for item in items:
        item.add_marker(
            pytest.mark.xdist_group("lab" if place(item).startswith("tests/lab/") else place(item))
        )


@pytest.fixture(autouse=True, scope="session")
def _threads():
    torch.set_num_threads(THREADS)


@pytest.fixture(scope="session")
def golden() -> Path:
    if not (SHARED / "golden").is_dir():
        pytest.skip("golden data (../shared/golden) is not here")
    return SHARED / "golden"


@pytest.fixture(scope="session")
def real() -> Path:
    if not (SHARED / "real").is_dir():
        pytest.skip("real data (../shared/real) is not here")
    return SHARED / "real"


@pytest.fixture(scope="session")
def lab_tokenizer():
    from gloss.lab.tokenizer import build_tokenizer

    return build_tokenizer()
