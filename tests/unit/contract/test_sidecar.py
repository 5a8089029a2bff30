import dataclasses
import math
import string
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gloss.contract import (
    SIDECAR_NAME,
    InjectionMarker,
    ModelSidecar,
    choose_marker,
    read_model_sidecar,
    sidecar_path,
    verify_model_sidecar,
    write_model_sidecar,
)
from gloss.errors import GlossError, MarkerError, SidecarError, TemplateError

AV_TEMPLATE, AR_TEMPLATE = "Look: <c>{injection_char}</c>.", "<t>{explanation}</t> end"
MARKER = InjectionMarker("㈎", 7, 3, 4)


def av_sidecar(**changes) -> ModelSidecar:
    good = ModelSidecar(
        role="av",
        d_model=16,
        layer=2,
        injection_scale=3.5,
        mse_scale=4.0,
        marker=MARKER,
        ar_suffix_ids=None,
        av_template=AV_TEMPLATE,
        ar_template=AR_TEMPLATE,
        created_at="2026-01-02T03:04:05+00:00",
    )
    return dataclasses.replace(good, **changes)


def ar_sidecar(**changes) -> ModelSidecar:
    return av_sidecar(
        **({"role": "ar", "injection_scale": None, "ar_suffix_ids": (5, 6)} | changes)
    )


def rewritten(folder: Path, sidecar: ModelSidecar, **changes) -> Path:
    """A sidecar file with keys changed, or removed where the change is ``...``; dots lead into
    blocks.
    """
    file = write_model_sidecar(sidecar, folder)
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    for name, value in changes.items():
        *blocks, key = name.split("__")
        place = values
        for block in blocks:
            place = place[block]
        place.pop(key, None)
        if value is not ...:
            place[key] = value
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return file


texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=30)
names = st.text(alphabet=string.ascii_letters, min_size=1, max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
prose = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="{}"), max_size=30)
ids = st.integers(0, 300_000)
scales = st.floats(1e-6, 1e9)
sidecars = st.builds(
    ModelSidecar,
    role=st.sampled_from(["av", "ar"]),
    d_model=st.integers(1, 20_000),
    layer=st.none() | st.integers(0, 200),
    injection_scale=st.none() | scales,
    mse_scale=scales,
    marker=st.builds(InjectionMarker, st.characters(codec="utf-8"), ids, ids, ids),
    ar_suffix_ids=st.none() | st.lists(ids, min_size=1, max_size=5).map(tuple),
    av_template=st.builds(lambda a, b: a + "{injection_char}" + b, prose, prose),
    ar_template=st.builds(lambda a, b: a + "{explanation}" + b, prose, prose.filter(str.strip)),
    stage=texts,
    base_checkpoint=texts,
    trained_on=st.lists(texts, max_size=3).map(tuple),
    parent_checkpoints=st.lists(texts, max_size=3).map(tuple),
    created_at=st.just("2026-01-02T03:04:05+00:00"),
    created_by=texts,
    training=st.dictionaries(names, plain, max_size=3),
    extra=st.dictionaries(names.map("x_".__add__), plain, max_size=3),
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(sidecar=sidecars)
def test_a_sidecar_survives_writing_and_reading(sidecar, tmp_path):
    write_model_sidecar(sidecar, tmp_path)
    assert read_model_sidecar(tmp_path) == sidecar


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(
    values=st.dictionaries(
        st.sampled_from(["kind", "role", "d_model", "extraction", "tokens", "critic"]), plain
    )
)
def test_any_mapping_is_read_or_refused_with_one_of_our_errors(values, tmp_path):
    file = rewritten(tmp_path, av_sidecar(), **values)
    try:
        line = repr(read_model_sidecar(file).role)
    except GlossError as error:
        line = str(error)
    assert line in ("'av'", "'ar'") or (SIDECAR_NAME in line and "\n" not in line)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(content=st.binary(max_size=80))
def test_any_bytes_are_refused_with_one_of_our_errors(content, tmp_path):
    (tmp_path / SIDECAR_NAME).write_bytes(content)
    with pytest.raises(SidecarError, match=SIDECAR_NAME):
        read_model_sidecar(tmp_path)


@pytest.mark.parametrize(
    "char",
    [
        "\x85",
        "\u2028",
        "\ufeff",
        "\r\n",
        "\t",
        "\x00",
        "🙂",
        "日本",
        " ",
        "#",
        "'",
        '"',
        "- ",
        ": ",
    ],
)
def test_a_template_survives_to_the_letter(char, tmp_path):
    template = f"{char}a{char}{{injection_char}}{char}{char}b{char}"
    write_model_sidecar(av_sidecar(av_template=template), tmp_path)
    assert read_model_sidecar(tmp_path).av_template == template


def test_the_released_dialect_is_written(tmp_path):
    values = yaml.safe_load(write_model_sidecar(ar_sidecar(), tmp_path).read_text(encoding="utf-8"))
    assert (values["role"], values["extraction_layer_index"], values["critic"]) == (
        "ar",
        2,
        {"extraction_layer_index": 2},
    )
    assert set(values["prompt_templates"]) == {"av", "ar"}
    assert values["tokens"]["critic_suffix_ids"] == [5, 6]


def test_nothing_but_the_sidecar_is_left_behind(tmp_path):
    write_model_sidecar(av_sidecar(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [SIDECAR_NAME]


def test_a_date_of_writing_is_recorded(tmp_path):
    write_model_sidecar(av_sidecar(created_at=""), tmp_path)
    assert read_model_sidecar(tmp_path).created_at.startswith("20")


def test_a_value_without_a_yaml_form_is_refused_and_keeps_the_old_file(tmp_path):
    write_model_sidecar(av_sidecar(), tmp_path)
    with pytest.raises(SidecarError, match="cannot be written as YAML"):
        write_model_sidecar(av_sidecar(training={"optimizer": object()}), tmp_path)
    assert read_model_sidecar(tmp_path) == av_sidecar()


def test_a_missing_file_names_itself(tmp_path):
    with pytest.raises(SidecarError, match=f"{SIDECAR_NAME}: no sidecar"):
        read_model_sidecar(tmp_path)


@pytest.mark.invariant("bad-scales")
@pytest.mark.parametrize(
    "scale",
    [0, -1.5, True, False, math.nan, math.inf, "inf", "", "Raw", "big", [1.0], {"a": 1}],
    ids=str,
)
@pytest.mark.parametrize("key", ["extraction__injection_scale", "extraction__mse_scale"])
def test_a_bad_scale_is_refused_by_name(key, scale, tmp_path):
    with pytest.raises(SidecarError, match=key.replace("__", ".")):
        read_model_sidecar(rewritten(tmp_path, av_sidecar(), **{key: scale}))


def test_an_av_without_a_scale_is_refused_but_may_say_raw(tmp_path):
    for missing in (None, ...):
        with pytest.raises(SidecarError, match="no injection_scale"):
            read_model_sidecar(
                rewritten(tmp_path, av_sidecar(), extraction__injection_scale=missing)
            )
    raw = rewritten(tmp_path, av_sidecar(), extraction__injection_scale="raw")
    assert read_model_sidecar(raw).injection_scale is None


@pytest.mark.invariant("two-readers")
def test_an_unsaid_mse_scale_is_the_root_of_d_model_and_an_explicit_null_is_refused(tmp_path):
    assert (
        read_model_sidecar(
            rewritten(tmp_path, ar_sidecar(mse_scale=9.0), extraction__mse_scale=...)
        ).mse_scale
        == 4.0
    )
    with pytest.raises(SidecarError, match=r"extraction\.mse_scale"):
        read_model_sidecar(rewritten(tmp_path, ar_sidecar(), extraction__mse_scale=None))


@pytest.mark.invariant("schema-version")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("d_model", "16"),
        ("d_model", 16.0),
        ("d_model", True),
        ("d_model", 0),
        ("d_model", ...),
        ("schema_version", 99),
        ("schema_version", "2"),
        ("kind", "nla_dataset"),
        ("kind", ...),
        ("role", "reader"),
        ("extraction_layer_index", -1),
        ("extraction_layer_index", "2"),
        ("tokens__injection_char", "ab"),
        ("tokens__injection_char", ""),
        ("tokens__injection_char", ...),
        ("tokens__injection_token_id", "7"),
        ("tokens__injection_token_id", True),
        ("tokens__injection_token_id", -1),
        ("tokens__injection_left_neighbor_id", ...),
        ("tokens__injection_right_neighbor_id", 1.5),
        ("tokens__critic_suffix_ids", [1, "2"]),
        ("tokens__critic_suffix_ids", 5),
        ("tokens", [1]),
        ("prompt_templates", "text"),
        ("prompt_templates__av", ...),
        ("prompt_templates__av", 3),
    ],
)
def test_a_bad_value_is_refused_by_name(key, value, tmp_path):
    with pytest.raises(SidecarError, match=key.split("__")[-1]):
        read_model_sidecar(rewritten(tmp_path, av_sidecar(), **{key: value}))


def test_a_bad_template_is_refused_with_its_file(tmp_path):
    with pytest.raises(TemplateError, match=SIDECAR_NAME):
        read_model_sidecar(rewritten(tmp_path, av_sidecar(), prompt_templates__av="no marker"))


@pytest.mark.invariant("two-readers")
def test_contradicting_layers_are_refused(tmp_path):
    with pytest.raises(SidecarError, match=r"contradicting layers.*found \[0, 2\]"):
        read_model_sidecar(rewritten(tmp_path, ar_sidecar(), critic={"extraction_layer_index": 0}))


def test_an_av_with_the_ar_block_is_refused(tmp_path):
    with pytest.raises(SidecarError, match="role contradicts"):
        read_model_sidecar(rewritten(tmp_path, ar_sidecar(injection_scale=1.0), role="actor"))


def test_a_missing_role_means_av_unless_the_ar_block_is_there(tmp_path):
    assert read_model_sidecar(rewritten(tmp_path, av_sidecar(), role=...)).role == "av"
    with pytest.raises(SidecarError, match="role"):
        read_model_sidecar(rewritten(tmp_path, ar_sidecar(), role=...))


def test_sidecar_paths_of_folders_files_and_row_ranges(tmp_path):
    (tmp_path / "run.v1").mkdir()
    assert sidecar_path(tmp_path / "run.v1") == tmp_path / "run.v1" / SIDECAR_NAME
    assert sidecar_path(Path("a/b.parquet@[0:10]")) == Path("a/b.parquet.nla_meta.yaml")
    assert sidecar_path(Path("a/checkpoint")) == Path("a/checkpoint/nla_meta.yaml")
    assert sidecar_path(Path()) == Path(SIDECAR_NAME)


def live_av(tokenizer, **changes) -> ModelSidecar:
    return av_sidecar(**({"marker": choose_marker(tokenizer, AV_TEMPLATE).marker} | changes))


def test_a_right_av_sidecar_is_verified(make_tokenizer):
    tokenizer = make_tokenizer("㈎", bos=True)
    verify_model_sidecar(live_av(tokenizer), tokenizer=tokenizer, d_model=16, num_blocks=3)


@pytest.mark.invariant("5")
@pytest.mark.parametrize("field", ["char", "token_id", "left_neighbor_id", "right_neighbor_id"])
def test_every_part_of_the_marker_is_verified(field, make_tokenizer):
    tokenizer = make_tokenizer("㈎")
    good = live_av(tokenizer)
    value = "a" if field == "char" else getattr(good.marker, field) + 1
    wrong = live_av(tokenizer, marker=dataclasses.replace(good.marker, **{field: value}))
    with pytest.raises(MarkerError):
        verify_model_sidecar(wrong, tokenizer=tokenizer, d_model=16)


@pytest.mark.invariant("5")
def test_another_tokenizer_is_refused(make_tokenizer, nfkc):
    sidecar = live_av(make_tokenizer("㈎"))
    for other in (make_tokenizer("㈏㈎"), make_tokenizer(), make_tokenizer("㈎", normalizer=nfkc)):
        with pytest.raises(MarkerError):
            verify_model_sidecar(sidecar, tokenizer=other, d_model=16)


@pytest.mark.invariant("wrong-width-or-depth")
def test_width_and_depth_are_verified(make_tokenizer):
    tokenizer = make_tokenizer("㈎")
    with pytest.raises(SidecarError, match="d_model"):
        verify_model_sidecar(live_av(tokenizer), tokenizer=tokenizer, d_model=17)
    with pytest.raises(SidecarError, match="beyond the model"):
        verify_model_sidecar(
            live_av(tokenizer, layer=3), tokenizer=tokenizer, d_model=16, num_blocks=3
        )
    with pytest.raises(SidecarError, match="expected 3 blocks for layer 2, found 4"):
        verify_model_sidecar(
            ar_sidecar(ar_suffix_ids=None), tokenizer=tokenizer, d_model=16, num_blocks=4
        )


@pytest.mark.invariant("wrong-width-or-depth")
def test_the_suffix_is_verified(make_tokenizer):
    tokenizer = make_tokenizer()
    right = tuple(tokenizer.convert_tokens_to_ids(list("</t> end")))
    verify_model_sidecar(
        ar_sidecar(ar_suffix_ids=right), tokenizer=tokenizer, d_model=16, num_blocks=3
    )
    for wrong in (right[:-1], (1, 2, 3), right * 20):
        with pytest.raises(SidecarError, match="critic_suffix_ids"):
            verify_model_sidecar(ar_sidecar(ar_suffix_ids=wrong), tokenizer=tokenizer, d_model=16)


@pytest.mark.invariant("two-readers")
def test_the_layer_is_read_wherever_a_dialect_puts_it(tmp_path):
    """``num_hidden_layers`` in a sidecar is K, not the K+1 blocks of the config."""
    released = rewritten(tmp_path, ar_sidecar(), critic=...)
    assert read_model_sidecar(released).layer == 2
    for block, key in (
        ("critic", "extraction_layer_index"),
        ("critic", "num_hidden_layers"),
        ("ar", "num_hidden_layers"),
    ):
        changes = {"extraction_layer_index": ..., "critic": ..., block: {key: 2}}
        assert read_model_sidecar(rewritten(tmp_path, ar_sidecar(), **changes)).layer == 2


@pytest.mark.invariant("two-readers")
def test_symbolic_scales_mean_the_root_of_d_model(tmp_path):
    symbol = "sqrt_d_model"
    both = rewritten(
        tmp_path, av_sidecar(), extraction__injection_scale=symbol, extraction__mse_scale=symbol
    )
    assert read_model_sidecar(both).injection_scale == read_model_sidecar(both).mse_scale == 4.0


@pytest.mark.invariant("two-readers")
def test_the_references_names_of_roles_and_templates_are_read(tmp_path):
    templates = {"actor": AV_TEMPLATE, "critic": AR_TEMPLATE}
    for sidecar, role in ((av_sidecar(), "actor"), (ar_sidecar(), "critic")):
        found = read_model_sidecar(
            rewritten(tmp_path, sidecar, role=role, prompt_templates=templates)
        )
        assert found == sidecar
