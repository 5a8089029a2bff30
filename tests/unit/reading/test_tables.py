"""Tables hold what an NLA answers."""

from dataclasses import fields

import pyarrow.parquet as pq
import pytest
from tables import write_table

from gloss.errors import DatasetError
from gloss.nla import Selection, TokenExplanation
from gloss.reading import RESULT_SCHEMA, ExplainConfig, explain_text, read_results

CHAT = [
    {"role": "user", "content": "Who rests at the harbor 🎉?"},
    {"role": "assistant", "content": "The gulls."},
]


def test_a_table_has_the_fields_of_a_result():
    assert {*RESULT_SCHEMA.names, "done"} == {field.name for field in fields(TokenExplanation)}


@pytest.mark.parametrize("source", ["It rains at the harbor 🎉 and Ada is calm.", CHAT])
def test_a_table_of_a_text_is_what_the_nla_answers_samples_included(nla, tmp_path, source):
    options = {"samples": 2, "temperature": 1.5, "seed": 3}
    found = explain_text(
        nla,
        source,
        tmp_path / "out.parquet",
        selection=Selection(tokens="all"),
        config=ExplainConfig(**options, batch_size=4, chunk_rows=5),
    )
    answered = nla.explain(source, tokens="all", **options)
    scores = ("fve", "cosine", "direction_mse")
    for row, one in zip(found.explanations.to_dicts(), answered.to_dicts(), strict=True):
        assert [row.pop(name) for name in scores] == pytest.approx(
            [one.pop(name) for name in scores], abs=1e-5
        )
        assert row == one


def test_a_table_of_an_earlier_version_is_read(tmp_path):
    file = write_table(tmp_path / "t.parquet", [{"text": "x", "position": 3, "norm": 1.0}])
    table = pq.read_table(file)
    pq.write_table(table.drop_columns(["baseline"]), file)
    (one,) = read_results(file).explanations
    assert (one.text, one.position, one.baseline) == ("x", 3, None)
    pq.write_table(table.drop_columns(["norm"]), file)
    with pytest.raises(DatasetError, match="not a file of explanations"):
        read_results(file)
