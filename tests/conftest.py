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


LONG_FIRST = ("tests/faults/test_interrupted_runs", "tests/lab/", "tests/faults/")


def pytest_collection_modifyitems(items):
    """The longest begin, so that workers side by side end at about the same time."""

    def rank(item):
        place = item.path.relative_to(REPO).as_posix()
        return next((i for i, start in enumerate(LONG_FIRST) if place.startswith(start)), 9)

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file stays on one worker, and the lab's files on the same: they share one run."""
    from xdist.scheduler import LoadScopeScheduling

    class LoadFiles(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return "tests/lab" if file.startswith("tests/lab/") else file

    config.option.loadscopereorder = False
    return LoadFiles(config, log)


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
