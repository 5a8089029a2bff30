import pytest
from speaking_nla import save_speaking_nla

from gloss.nla import NLA


@pytest.fixture(scope="session")
def speaking_folder(tmp_path_factory, lab_tokenizer):
    return save_speaking_nla(tmp_path_factory.mktemp("speaking"), lab_tokenizer)


@pytest.fixture(scope="session")
def nla(speaking_folder):
    return NLA(speaking_folder)
