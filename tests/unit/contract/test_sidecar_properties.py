"""Sidecars of any content: what is valid comes back, everything else is a GlossError of one line,
nothing is executed.
"""

import dataclasses
import math
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gloss.contract import (
    SIDECAR_NAME,
    DatasetSidecar,
    InjectionMarker,
    ModelSidecar,
    TrustRecord,
    read_dataset_sidecar,
    read_model_sidecar,
    write_dataset_sidecar,
    write_model_sidecar,
)
from gloss.contract.sidecar_yaml import MAX_BYTES
from gloss.errors import GlossError, SidecarError

quick = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
AV = ModelSidecar(
    role="av",
    d_model=16,
    layer=2,
    injection_scale=3.5,
    mse_scale=4.0,
    marker=InjectionMarker("㈎", 7, 3, 4),
    ar_suffix_ids=(5, 6),
    av_template="Look: <c>{injection_char}</c>.",
    ar_template="<t>{explanation}</t> end",
    trained_on=("a", "b"),
    created_at="2026-01-02",
    training={"steps": 4, "nested": {"lr": 0.5}},
    trust=TrustRecord(
        direction_variance=0.5,
        mean_direction=(1.0,) * 16,
        norm_statistics={"p75": 3.0},
        min_position=50,
        max_new_tokens=150,
        heldout_errors=(0.5, 1.5),
    ),
)
DATASET = DatasetSidecar(
    dataset_id="d",
    stage="base",
    row_count=3,
    base_model="m",
    d_model=8,
    layer=1,
    marker=AV.marker,
    norm_statistics={"mean": 2.0, "p75": 2.5},
    corpus_slice={"start": 0},
    parent_datasets=("p",),
)


def outcome(folder: Path, *, dataset: bool = False):
    """The sidecar, or the line of the error; any other exception fails the test."""
    try:
        return read_dataset_sidecar(folder / "a.parquet") if dataset else read_model_sidecar(folder)
    except GlossError as error:
        line = str(error)
    assert "\n" not in line
    assert SIDECAR_NAME in line
    return line


def write(folder: Path, content: bytes | str, *, dataset: bool = False) -> None:
    name = f"a.parquet.{SIDECAR_NAME}" if dataset else SIDECAR_NAME
    (folder / name).write_bytes(
        content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    )


def good_text(folder: Path, *, dataset: bool) -> str:
    file = (
        write_dataset_sidecar(DATASET, folder / "a.parquet")
        if dataset
        else write_model_sidecar(AV, folder)
    )
    return file.read_text()


def paths_in(value, path=()):
    yield path
    for key, inner in (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    ):
        yield from paths_in(inner, (*path, key))


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.sampled_from([10**300, 2**53 + 1, 0, -1]),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(
        [
            "{",
            "{{x}}",
            "{explanation}",
            "{injection_char}",
            "raw",
            "sqrt_d_model",
            "1e9",
            "x" * 10_000,
        ]
    ),
    st.binary(max_size=5),
    st.dates(),
    st.datetimes(),
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.none(), inner)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("dataset", [False, True])
@quick
@given(data=st.data())
def test_any_value_in_any_place_is_read_or_refused(dataset, data, tmp_path):
    content = yaml.safe_load(good_text(tmp_path, dataset=dataset))
    path = data.draw(st.sampled_from([path for path in paths_in(content) if path]))
    place = content
    for key in path[:-1]:
        place = place[key]
    if data.draw(st.booleans()):
        place[path[-1]] = data.draw(values)
    else:
        del place[path[-1]]
    write(tmp_path, yaml.safe_dump(content), dataset=dataset)
    found = outcome(tmp_path, dataset=dataset)
    if isinstance(found, str):
        return
    if dataset:
        write_dataset_sidecar(found, tmp_path / "a.parquet")
    else:
        write_model_sidecar(found, tmp_path)
    again = outcome(tmp_path, dataset=dataset)
    assert repr(again) == repr(found) or "created_at" in path


@pytest.mark.parametrize("dataset", [False, True])
@quick
@given(
    at=st.floats(0, 1),
    length=st.integers(0, 20),
    inserted=st.binary(max_size=8) | st.text(max_size=8).map(str.encode),
)
@example(at=1.0, length=0, inserted=b"\xff")
@example(at=0.0, length=0, inserted=b"\xef\xbb\xbf")
def test_any_damage_to_the_bytes_is_read_or_refused(dataset, at, length, inserted, tmp_path):
    good = good_text(tmp_path, dataset=dataset).encode()
    site = int(at * len(good))
    write(tmp_path, good[:site] + inserted + good[site + length :], dataset=dataset)
    outcome(tmp_path, dataset=dataset)


HOSTILE = {
    "python object": "kind: !!python/object/apply:os.system ['touch executed']",
    "python name": "kind: !!python/name:os.system",
    "python module": "kind: !!python/module:os",
    "empty int": "d_model: !!int ''",
    "no timestamp": "created_at: !!timestamp x",
    "overflowing timestamp": "created_at: 0001-01-01T00:00:00+14:00",
    "no bool": "d_model: !!bool maybe",
    "hexadecimal of 20 000 bits": "d_model: 0x" + "f" * 5000,
    "decimal of 5 000 digits": "d_model: " + "9" * 5000,
    "sexagesimal float": "d_model: " + "1:" * 400 + "1.5",
    "alias to itself": "d_model: &a [*a]",
    "key of itself": "d_model: &a {? *a : 1}",
    "alias to nothing": "d_model: *nowhere",
    "deep": "d_model: " + "[" * 3000,
    "two documents": "kind: nla_model\n---\nkind: nla_model",
    "key twice": "kind: nla_model\nkind: nla_model",
    "nested key twice": "tokens: {a: 1, a: 2}",
    "unhashable key": "? [a]\n: b",
    "lone surrogate": 'kind: nla_model\nrole: "\\ud800"',
    "nothing": "",
    "list": "- a",
    "NUL": "kind: \0",
    "directive": "%YAML 9.9\n---\n",
}


@pytest.mark.parametrize("dataset", [False, True])
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_yaml_is_refused_and_runs_nothing(dataset, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, content, dataset=dataset)
    assert isinstance(outcome(tmp_path, dataset=dataset), str)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("shape", ["list", "merge"])
def test_a_bomb_of_aliases_is_refused_at_once(shape, tmp_path):
    lines = ["a0: &a0 [x, x]" if shape == "list" else "a0: &a0 {k: v}"]
    for i in range(1, 60):
        inner = f"[*a{i - 1}, *a{i - 1}]"
        lines.append(f"a{i}: &a{i} " + (inner if shape == "list" else f"{{<<: {inner}, k{i}: v}}"))
    write(tmp_path, "\n".join([*lines, "kind: *a59"]))
    started = time.monotonic()
    assert "values" in outcome(tmp_path)
    assert time.monotonic() - started < 2


def test_shared_values_are_no_bomb(tmp_path):
    write(tmp_path, good_text(tmp_path, dataset=False) + "x_one: &a [1, 2]\nx_two: *a\n")
    assert outcome(tmp_path).extra == {"x_one": [1, 2], "x_two": [1, 2]}


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path):
    write(tmp_path, b"#" * (MAX_BYTES + 1))
    with pytest.raises(SidecarError, match="too large"):
        read_model_sidecar(tmp_path)


@given(
    mse_scale=st.floats(min_value=5e-324, allow_infinity=False, allow_nan=False),
    scale=st.floats(min_value=5e-324, allow_infinity=False, allow_nan=False),
    d_model=st.integers(1, 2**53),
    layer=st.integers(0, 2**53 - 1),
    char=st.characters(exclude_categories=["Cs"]),
    suffix=st.lists(st.integers(0, 2**53), min_size=1, max_size=100).map(tuple),
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
)
@quick
def test_extreme_but_valid_values_survive(
    tmp_path, mse_scale, scale, d_model, layer, char, suffix, text
):
    template = text.replace("{", "").replace("}", "")
    sidecar = dataclasses.replace(
        AV,
        mse_scale=mse_scale,
        injection_scale=scale,
        d_model=d_model,
        layer=layer,
        marker=InjectionMarker(char, d_model, 0, layer),
        ar_suffix_ids=suffix,
        av_template=f"{template}{{injection_char}}{template}",
        stage=text,
        base_checkpoint=text,
        trust=AV.trust.model_copy(update={"mean_direction": None}),
    )
    write_model_sidecar(sidecar, tmp_path)
    found = read_model_sidecar(tmp_path)
    assert found == sidecar
    assert math.isfinite(found.mse_scale)
