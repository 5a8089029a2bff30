import pytest
from hub_stand_in import hub, hub_cache  # noqa: F401
from tiny_nla import write_nla


@pytest.fixture
def nla_folder(tmp_path, lab_tokenizer):
    """A folder with ``target``, ``av`` and ``ar`` of one random Qwen2 that nothing was trained
    on.
    """
    return write_nla(tmp_path, lab_tokenizer)
