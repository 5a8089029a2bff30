"""The server's description against Neuronpedia's, and every streamed frame's keys."""

import json
from pathlib import Path

import pytest
from tiny_nla import write_nla

from gloss.nla import NLA
from gloss.serve import interop_models as m
from gloss.serve.access import Access
from gloss.serve.app import create_app
from gloss.serve.limits import Limits
from gloss.serve.service import open_service

PINNED_FRAMES = {
    m.ExplainMetaFrame: {"layer_index", "total", "prompt_length"},
    m.ExplainProgressFrame: {"position", "text", "done"},
    m.DescribeProgressFrame: {"index", "text", "done"},
    m.CompletionPromptFrame: {"type", "prompt_length", "tokens"},
    m.CompletionTokenFrame: {"type", "token"},
    m.CompletionDoneFrame: {"type", "text"},
    m.ExplainResult: {
        "token",
        "token_id",
        "position",
        "l2_norm",
        "description",
        "mse",
        "cosine_similarity",
        "generated",
        "fragment_index",
        "fragment_count",
        "role",
        "section",
        "channel",
        "message_index",
    },
}
DESCRIPTION = (
    Path(__file__).resolve().parents[2].parent
    / "shared"
    / "interop"
    / "neuronpedia-nla-openapi.json"
)
WORDING = ("title", "description")


@pytest.fixture(scope="module")
def theirs():
    if not DESCRIPTION.is_file():
        pytest.skip("the interface description (../shared/interop) is not here")
    return json.loads(DESCRIPTION.read_text())


@pytest.fixture(scope="module")
def ours(tmp_path_factory, lab_tokenizer):
    folder = write_nla(tmp_path_factory.mktemp("nla"), lab_tokenizer)
    service = open_service({"tiny": NLA(folder)}, limits=Limits())
    return create_app(service, Access(hosts=None)).openapi()


def without_wording(value):
    if isinstance(value, dict):
        return {
            key: without_wording(item)
            for key, item in value.items()
            if key not in WORDING or isinstance(item, dict)
        }
    return [without_wording(item) for item in value] if isinstance(value, list) else value


def test_every_path_and_method_is_there_and_no_other(ours, theirs):
    assert {p: set(methods) for p, methods in ours["paths"].items()} == {
        p: set(methods) for p, methods in theirs["paths"].items()
    }


def test_every_operation_takes_and_gives_the_same(ours, theirs):
    for path, methods in theirs["paths"].items():
        for method, operation in methods.items():
            mine = ours["paths"][path][method]
            for part in ("parameters", "requestBody", "responses"):
                assert without_wording(mine.get(part)) == without_wording(operation.get(part)), (
                    path,
                    part,
                )


def test_every_schema_has_the_same_properties_types_bounds_and_defaults(ours, theirs):
    mine, its = ours["components"]["schemas"], theirs["components"]["schemas"]
    assert set(mine) == set(its)
    for name, schema in its.items():
        found = without_wording(mine[name])
        expected = without_wording(schema)
        assert found["properties"] == expected["properties"], name
        assert set(found.get("required", [])) == set(expected.get("required", [])), name


@pytest.mark.parametrize("frame", PINNED_FRAMES, ids=lambda frame: frame.__name__)
def test_the_keys_of_every_frame_are_pinned(frame):
    assert set(frame.model_fields) == PINNED_FRAMES[frame]


def test_no_partial_frame_has_a_description():
    """Clients tell a finished result from a partial text by this key."""
    assert "description" not in m.ExplainProgressFrame.model_fields
    assert "description" not in m.DescribeProgressFrame.model_fields
