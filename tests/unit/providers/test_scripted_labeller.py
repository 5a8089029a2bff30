import pytest

from gloss.errors import LabelError
from gloss.providers import LabelRequest, ScriptedLabeller

REQUESTS = [LabelRequest(doc_id="a", text="t", position=i, token="t") for i in range(2)]


def test_list_mapping_and_function_answer_and_requests_are_kept():
    scripted = ScriptedLabeller(["one", None])
    assert scripted.label(REQUESTS) == ["one", None]
    assert scripted.requests == REQUESTS
    assert ScriptedLabeller({("a", 1): "second"}).label(REQUESTS) == [None, "second"]
    assert ScriptedLabeller(lambda request: f"at {request.position}").label(REQUESTS) == [
        "at 0",
        "at 1",
    ]


def test_a_script_that_runs_out_is_an_error():
    with pytest.raises(LabelError, match="run out"):
        ScriptedLabeller(["one"]).label(REQUESTS)
