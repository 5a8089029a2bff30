import pytest
from hub_stand_in import hub, hub_cache  # noqa: F401
from speaking_nla import save_speaking_nla
from tiny_nla import write_nla

from gloss.nla import NLA


@pytest.fixture
def nla_folder(tmp_path, lab_tokenizer):
    """A folder with ``target``, ``av`` and ``ar`` of one random Qwen2 that nothing was trained
    on.
    """
    return write_nla(tmp_path, lab_tokenizer)


@pytest.fixture(scope="session")
def speaking_folder(tmp_path_factory, lab_tokenizer):
    return save_speaking_nla(tmp_path_factory.mktemp("speaking"), lab_tokenizer)


@pytest.fixture
def speaking(speaking_folder):
    """An NLA that writes well-formed explanations, not used by any other test."""
    return NLA(speaking_folder)
