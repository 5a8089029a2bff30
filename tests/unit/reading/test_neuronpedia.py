import json

import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import write_table

from gloss.errors import ConfigError, CorpusError
from gloss.nla import Selection
from gloss.reading import (
    Results,
    explain_text,
    export_neuronpedia,
    from_neuronpedia,
    import_neuronpedia,
    read_results,
    to_neuronpedia,
)

RESULTS = [
    {
        "token": "<|im_start|>",
        "token_id": 5,
        "position": 0,
        "l2_norm": 812,
        "description": "",
        "mse": None,
        "cosine_similarity": None,
        "generated": False,
        "fragment_index": 0,
        "fragment_count": 1,
        "role": "user",
        "section": "header",
        "channel": None,
        "message_index": 0,
    },
    {
        "token": "\U0001f98a",
        "token_id": 7,
        "position": 3,
        "l2_norm": 1e-7,
        "description": "a fox,\n“quoted”",
        "mse": 0.25,
        "cosine_similarity": 0.875,
        "generated": True,
        "fragment_index": 1,
        "fragment_count": 4,
        "role": "assistant",
        "section": "content",
        "channel": "analysis",
        "message_index": 1,
        "a_new_field": {"deep": [1, None]},
    },
    {
        "position": 4,
        "token": "\ud83e",
        "token_id": 8,
        "l2_norm": 2.5,
        "description": "half a glyph",
    },
]


def document(results=RESULTS, *, inside_a_string=True, **changes):
    payload = {
        "results": results,
        "layer_index": 20,
        "prompt_length": 5,
        "messages": [{"role": "user", "content": "x"}],
        "x": 1,
    }
    inside = json.dumps(payload, separators=(",", ":")) if inside_a_string else payload
    known = {
        "text": "t \U0001f98a",
        "tokens": ["a", "\U0001f98a", "\ud83e"],
        "sortedPositions": [0, 3, 4],
    }
    return {
        **known,
        "resultJson": inside,
        "id": "c1",
        "temperature": 0.7,
        "modelId": "m",
        "nlaSourceId": "s",
        **changes,
    }


@pytest.mark.parametrize("inside_a_string", [True, False])
def test_a_cache_document_comes_back_to_the_letter(tmp_path, inside_a_string):
    before = document(inside_a_string=inside_a_string)
    (tmp_path / "c1.json").write_text(json.dumps(before), encoding="utf-8")
    import_neuronpedia(tmp_path / "c1.json", tmp_path / "c1.parquet")
    export_neuronpedia(read_results(tmp_path / "c1.parquet"), tmp_path / "back.json")
    after = json.loads((tmp_path / "back.json").read_text(encoding="utf-8"))
    assert after == before
    assert list(after) == list(before)


def test_the_table_says_what_the_document_says():
    found = from_neuronpedia(document(), doc_id="c1")
    empty, fox, half = found.to_dicts()
    assert (empty["text"], empty["direction_mse"], empty["norm"], empty["section"]) == (
        "",
        None,
        812.0,
        "header",
    )
    assert (fox["text"], fox["direction_mse"], fox["cosine"], fox["norm"]) == (
        "a fox,\n“quoted”",
        0.25,
        0.875,
        1e-7,
    )
    assert (fox["fragment_index"], fox["fragment_count"], fox["channel"]) == (1, 4, "analysis")
    assert (half["token"], half["role"], half["fragment_count"]) == ("\ufffd", None, None)
    assert found.provenance["layer"] == 20
    assert found.provenance["target"]["name"] == "m"
    assert found.header["documents"]["c1"]["tokens"][0] == "a"


def test_rows_taken_out_and_texts_changed_are_so_in_the_document_and_nothing_else():
    found = from_neuronpedia(document(), doc_id="c1")
    kept = found.table.filter(pc.greater(found.table["position"], 0))
    texts = kept["text"].to_pylist()
    index = kept.schema.get_field_index("text")
    changed = Results(kept.set_column(index, "text", [["a vixen", *texts[1:]]]), found.header)
    after = to_neuronpedia(changed)
    assert after["sortedPositions"] == [3, 4]
    assert {k: v for k, v in after.items() if k not in ("sortedPositions", "resultJson")} == {
        k: v for k, v in document().items() if k not in ("sortedPositions", "resultJson")
    }
    payload = json.loads(after["resultJson"])
    assert payload["results"] == [{**RESULTS[1], "description": "a vixen"}, RESULTS[2]]
    assert payload["x"] == 1


def test_glosss_own_results_have_every_field_and_come_back(nla, tmp_path):
    chat = [{"role": "user", "content": "The gulls \U0001f98a rest"}]
    made = explain_text(nla, chat, tmp_path / "a.parquet", selection=Selection(tokens="all"))
    written = export_neuronpedia(made, tmp_path / "a.json")
    payload = json.loads(written["resultJson"])
    fields = (
        "token token_id position l2_norm description mse cosine_similarity generated fragment_index"
        " fragment_count"
    )
    for result in payload["results"]:
        assert list(result) == [*fields.split(), "role", "section", "channel", "message_index"]
        assert result["generated"] is False
    assert written["sortedPositions"] == list(range(len(written["tokens"])))
    assert payload["prompt_length"] == len(written["tokens"])
    assert payload["layer_index"] == nla.layer
    assert written["text"] == "<|im_start|>user\nThe gulls \U0001f98a rest<|im_end|>\n"
    assert [r["fragment_count"] for r in payload["results"] if r["token"] == "\U0001f98a"] == [
        4
    ] * 4
    back = import_neuronpedia(tmp_path / "a.json", tmp_path / "b.parquet")
    for column in (
        "position",
        "token",
        "text",
        "role",
        "section",
        "direction_mse",
        "cosine",
        "norm",
    ):
        assert back.table[column].to_pylist() == made.table[column].to_pylist()
    assert to_neuronpedia(back) == written


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "c.json: not a cache document of Neuronpedia: expected an object, found list"),
        ({}, "c.json: text: expected a text, found nothing"),
        (document(tokens=[1]), "tokens: expected a list of strings"),
        (document(sortedPositions=["0"]), "sortedPositions: expected a list of whole numbers"),
        (document(resultJson="{"), "resultJson: not JSON"),
        (document(resultJson="[]"), "resultJson: expected an object"),
        (document(resultJson=None), "resultJson: expected an object"),
        (document([3]), r"results\[0\]: expected an object, found 3"),
        (document([{"token": "a"}]), r"results\[0\].position: expected a whole number, found None"),
        (
            document([{"position": 1, "mse": "low"}]),
            r"results\[0\].mse: expected a number, found 'low'",
        ),
        (
            document([{"position": True}]),
            r"results\[0\].position: expected a whole number, found True",
        ),
        (document([{"position": 1, "token_id": 10**30}]), "a number that is too large"),
    ],
)
def test_a_bad_document_has_one_clear_line(value, message):
    with pytest.raises(CorpusError, match=message) as caught:
        from_neuronpedia(value, doc_id="c", where="c.json")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_json_is_named(tmp_path):
    (tmp_path / "c.json").write_text("<html>", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"c.json: not JSON"):
        import_neuronpedia(tmp_path / "c.json", tmp_path / "c.parquet")
    assert not (tmp_path / "c.parquet").exists()


def test_a_table_without_its_text_cannot_be_exported(tmp_path):
    table = read_results(
        write_table(tmp_path / "t.parquet", [{"text": "x", "position": 3, "doc_id": "d"}])
    )
    with pytest.raises(ConfigError, match="does not hold the text that was read"):
        to_neuronpedia(table)


@pytest.mark.invariant("edges-9")
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"doc_id": None, "position": 0}, "an explanation of no text would be lost"),
        ({"doc_id": "d", "position": None}, "outside of the text: expected 0 to 1, found None"),
        ({"doc_id": "d", "position": -1}, "outside of the text: expected 0 to 1, found -1"),
        ({"doc_id": "d", "position": 2}, "outside of the text: expected 0 to 1, found 2"),
    ],
)
def test_an_export_that_would_lose_a_row_is_refused(row, message, tmp_path):
    texts = {"d": {"text": "ab", "tokens": ["a", "b"], "messages": None}}
    rows = [{"doc_id": "d", "position": 1, "text": "x"}, {"text": "y", **row}]
    good = read_results(write_table(tmp_path / "good.parquet", rows[:1], documents=texts))
    assert to_neuronpedia(good)["sortedPositions"] == [1]
    table = read_results(write_table(tmp_path / "t.parquet", rows, documents=texts))
    with pytest.raises(ConfigError, match=message):
        to_neuronpedia(table)


_LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
_TEXT = st.none() | st.text(max_size=8)
_RESULT = st.fixed_dictionaries(
    {"position": st.integers(0, 9)},
    optional={
        "token": _TEXT,
        "token_id": st.none() | st.integers(0, 2**31),
        "l2_norm": st.none()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.integers(0, 2**50),
        "description": _TEXT,
        "mse": st.none() | st.floats(0, 4),
        "generated": st.none() | st.booleans(),
        "fragment_count": st.none() | st.integers(0, 9),
        "role": _TEXT,
        "other": _LEAF | st.lists(_LEAF, max_size=2),
    },
)


@given(st.lists(_RESULT, max_size=4), st.dictionaries(st.text(max_size=5), _LEAF, max_size=3))
def test_any_document_comes_back(results, others):
    before = {**others, **document(results)}
    found = from_neuronpedia(before, doc_id="c")
    assert to_neuronpedia(found) == before
    shorter = Results(found.table.slice(1), found.header)
    assert json.loads(to_neuronpedia(shorter)["resultJson"])["results"] == results[1:]
