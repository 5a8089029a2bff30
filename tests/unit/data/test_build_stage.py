from copy import deepcopy

import pyarrow as pa
import pytest
from pydantic import ValidationError
from tiny_data import make_documents, make_target, make_tokenizer

from gloss.contract import (
    ar_prompt_ids,
    extract_explanation,
    find_marker,
    prompt_ids,
    read_dataset_sidecar,
)
from gloss.data import (
    BuildConfig,
    ExtractConfig,
    LabelConfig,
    SplitConfig,
    ar_suffix_ids,
    build,
    extract,
    label,
    read_activations,
    split,
)
from gloss.errors import DatasetError, ResumeError
from gloss.providers import ScriptedLabeller

CONFIG = BuildConfig(
    av_template="See <v>{injection_char}</v>. Explain.", ar_template="<t>{explanation}</t> so:"
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    out = tmp_path_factory.mktemp("stages")
    extract(
        ExtractConfig(min_position=5, positions_per_doc=3),
        make_target(),
        make_documents(80),
        out / "a",
    )
    shares = SplitConfig(av_sft=0.25, ar_sft=0.25, rl=0.25, heldout=0.25)
    paths = split(shares, out / "a", out / "s").paths
    labeller = ScriptedLabeller(
        lambda request: f"{{braces}} and {{explanation}} at {request.position}"
    )
    labels = {
        name: label(LabelConfig(), paths[name], labeller, out / "l" / f"{name}.parquet").path
        for name in ("av_sft", "ar_sft", "heldout")
    }
    return {
        "av_sft": labels["av_sft"],
        "ar_sft": labels["ar_sft"],
        "rl": paths["rl"],
        "heldout": paths["heldout"],
        "heldout_labels": labels["heldout"],
    }


@pytest.mark.invariant("14")
def test_datasets_have_the_ecosystems_columns_and_texts(inputs, tmp_path):
    result = build(CONFIG, inputs, make_tokenizer(), tmp_path)
    tables = {name: read_activations(path) for name, path in result.paths.items()}
    own = ["position", "token_id", "token"]
    shared = [
        "activation_vector",
        "n_raw_tokens",
        "activation_layer",
        "doc_id",
        "detokenized_text_truncated",
        *own,
    ]
    assert tables["av_sft"].column_names == ["prompt", "response", *shared]
    assert (
        tables["ar_sft"].column_names
        == tables["heldout_labels"].column_names
        == ["prompt", *shared]
    )
    assert tables["rl"].column_names == tables["heldout"].column_names == ["prompt", *shared]
    chat = [{"role": "user", "content": "See <v><INJECT></v>. Explain."}]
    for row in tables["av_sft"].to_pylist():
        text = f"{{braces}} and {{explanation}} at {row['position']}"
        assert row["prompt"] == chat
        assert row["response"] == f"<explanation>\n{text}\n</explanation>"
        assert extract_explanation(row["response"]).text == text
    for row in tables["ar_sft"].to_pylist():
        assert row["prompt"] == f"<t>{{braces}} and {{explanation}} at {row['position']}</t> so:"
    assert all(row["prompt"] == chat for row in tables["rl"].to_pylist())
    source = read_activations(inputs["rl"])
    assert tables["rl"]["activation_vector"].equals(source["activation_vector"])


def test_sidecars_hold_marker_templates_and_suffix_that_fit_the_tokenizer(inputs, tmp_path):
    result = build(CONFIG, inputs, make_tokenizer(), tmp_path)
    for name, path in result.paths.items():
        sidecar = read_dataset_sidecar(path)
        assert sidecar.marker == result.marker
        assert (sidecar.av_template, sidecar.ar_template) == (
            CONFIG.av_template,
            CONFIG.ar_template,
        )
        assert sidecar.row_count == result.rows[name] == len(read_activations(path))
        assert sidecar.stage == {"heldout": "rl", "heldout_labels": "ar_sft"}.get(name, name)
        assert sidecar.norm_statistics["p75"] > 0
    find_marker(prompt_ids(make_tokenizer(), CONFIG.av_template, result.marker.char), result.marker)


@pytest.mark.parametrize("text", ["", "one", "(two)", "ends with t", "new\nline\n", "<t>", "日本"])
def test_every_ar_prompt_ends_with_the_suffix(text):
    suffix = list(ar_suffix_ids(make_tokenizer(), CONFIG.ar_template))
    assert make_tokenizer().decode(suffix).endswith(" so:")
    assert ar_prompt_ids(make_tokenizer(), CONFIG.ar_template, text)[-len(suffix) :] == suffix


def test_same_inputs_same_bytes_and_other_templates_are_refused(inputs, tmp_path):
    first = build(CONFIG, inputs, make_tokenizer(), tmp_path / "a")
    second = build(CONFIG, inputs, make_tokenizer(), tmp_path / "b")
    assert all(first.paths[name].read_bytes() == second.paths[name].read_bytes() for name in inputs)
    assert build(CONFIG, inputs, make_tokenizer(), tmp_path / "a") == first
    with pytest.raises(ResumeError, match="ar_template"):
        build(
            CONFIG.model_copy(update={"ar_template": "<t>{explanation}</t> then:"}),
            inputs,
            make_tokenizer(),
            tmp_path / "a",
        )


def test_a_marker_can_be_named(inputs, tmp_path):
    config = CONFIG.model_copy(update={"marker": "㊗"})
    tokenizer = deepcopy(make_tokenizer())
    tokenizer.add_tokens(["㊗"])
    assert build(config, inputs, tokenizer, tmp_path).marker.char == "㊗"


def test_unlabelled_rows_and_unknown_names_are_refused(inputs, tmp_path):
    with pytest.raises(DatasetError, match=r"no column 'api_explanation'.*gloss data label"):
        build(CONFIG, {"av_sft": inputs["rl"]}, make_tokenizer(), tmp_path)
    with pytest.raises(DatasetError, match="unknown dataset 'test'"):
        build(CONFIG, {"test": inputs["rl"]}, make_tokenizer(), tmp_path)


@pytest.mark.parametrize(
    ("field", "template"),
    [
        ("av_template", "no field"),
        ("av_template", "{injection_char} {injection_char}"),
        ("av_template", "{{injection_char}}"),
        ("ar_template", "ends with {explanation}"),
        ("ar_template", "{explanation} {other} so:"),
    ],
)
def test_templates_are_checked_when_the_config_is_read(field, template):
    with pytest.raises(ValidationError, match=field):
        BuildConfig(**{field: template})


def test_chat_prompts_keep_the_ecosystems_type(inputs, tmp_path):
    table = read_activations(
        build(CONFIG, {"rl": inputs["rl"]}, make_tokenizer(), tmp_path).paths["rl"]
    )
    assert table.schema.field("prompt").type == pa.list_(
        pa.struct([("role", pa.string()), ("content", pa.string())])
    )


@pytest.mark.invariant("template-braces")
def test_a_template_with_the_datasets_own_placeholder_is_refused():
    """Readers of the dataset would take it for a second marker."""
    with pytest.raises(ValidationError, match="<INJECT> stands for the marker"):
        BuildConfig(av_template="Not <INJECT> but {injection_char}.")


@pytest.mark.invariant("1")
def test_vectors_are_as_raw_after_labels_split_and_build_as_they_were_captured(inputs, tmp_path):
    built = build(CONFIG, inputs, make_tokenizer(), tmp_path)
    source = read_activations(inputs["rl"].parent.parent / "a")
    vectors = dict(zip(_places(source), source["activation_vector"].to_pylist(), strict=True))
    for path in built.paths.values():
        table = read_activations(path)
        for place, vector in zip(
            _places(table), table["activation_vector"].to_pylist(), strict=True
        ):
            assert vector == vectors[place]


def _places(table):
    return list(zip(table["doc_id"].to_pylist(), table["position"].to_pylist(), strict=True))
