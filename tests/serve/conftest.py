import time

import pytest
from served_nla import serving
from speaking_nla import directions, save_speaking_nla

from gloss.engines import DecodingBatch
from gloss.nla import NLA


@pytest.fixture(scope="session")
def nla_folder(tmp_path_factory, lab_tokenizer):
    return save_speaking_nla(tmp_path_factory.mktemp("served"), lab_tokenizer)


@pytest.fixture(scope="session")
def nla(nla_folder):
    """A tiny NLA that has learned to write."""
    return NLA(nla_folder)


@pytest.fixture(scope="session")
def vectors():
    """Four directions that the tiny NLA has sayings for."""
    return directions()


@pytest.fixture(scope="session")
def client(nla):
    with serving(nla) as client:
        yield client


@pytest.fixture
def slow_steps(monkeypatch):
    """Steps that take 20 ms: a large model's pace."""
    step = DecodingBatch.step

    def slowly(batch):
        time.sleep(0.02)
        return step(batch)

    monkeypatch.setattr(DecodingBatch, "step", slowly)
