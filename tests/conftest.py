"""Fixtures for every test: threads, the lab tokenizer, and the shared data where it is present."""

import os
from pathlib import Path

import pytest

from gloss.cli.threads import choose_waiting

choose_waiting()  # before PyTorch is loaded, as in the command line
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the hub

import torch  # noqa: E402

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / "shared"


@pytest.fixture(autouse=True, scope="session")
def _threads():
    torch.set_num_threads(2)


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
