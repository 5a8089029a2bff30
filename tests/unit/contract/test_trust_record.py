"""What training recorded for readers to judge by: believed only where it can be true."""

import dataclasses
import math

import pytest
from test_sidecar import ar_sidecar, av_sidecar, rewritten

from gloss.contract import TrustRecord, read_model_sidecar, write_model_sidecar
from gloss.errors import SidecarError

GOOD = {
    "direction_variance": 0.25,
    "mean_direction": [0.5] * 16,
    "norm_statistics": {"p50": 3.0, "p75": 4.5},
    "min_position": 50,
    "dataset": "rl_1",
    "max_new_tokens": 150,
    "fve": -0.1,
    "heldout_errors": [0.0, 1.5, 4.0],
}


def test_a_record_is_read_typed_and_written_back_with_keys_of_others(tmp_path):
    file = rewritten(tmp_path, av_sidecar(), gloss=GOOD | {"another": [1, {"a": None}]})
    sidecar = read_model_sidecar(file)
    assert sidecar.trust.norm_statistics == {"p50": 3.0, "p75": 4.5}
    assert sidecar.trust.heldout_errors == (0.0, 1.5, 4.0)
    assert "gloss" not in sidecar.extra
    write_model_sidecar(sidecar, tmp_path / "again")
    assert read_model_sidecar(tmp_path / "again").trust == sidecar.trust
    assert sidecar.trust.recorded() == GOOD | {"another": [1, {"a": None}]}


def test_a_checkpoint_of_another_tool_has_an_empty_record(tmp_path):
    for missing in (..., None, {}):
        sidecar = read_model_sidecar(rewritten(tmp_path, ar_sidecar(), gloss=missing))
        assert sidecar.trust == TrustRecord()
        assert sidecar.trust.recorded() == {}


def test_a_null_is_nothing_recorded(tmp_path):
    values = dict.fromkeys(GOOD) | {"norm_statistics": {}}
    sidecar = read_model_sidecar(rewritten(tmp_path, av_sidecar(), gloss=values))
    assert sidecar.trust.recorded() == {"norm_statistics": {}}


def test_training_adds_to_a_record(tmp_path):
    sidecar = av_sidecar(trust=TrustRecord.model_validate(GOOD))
    longer = sidecar.trust.model_copy(update={"max_new_tokens": 12})
    write_model_sidecar(dataclasses.replace(sidecar, trust=longer), tmp_path)
    assert read_model_sidecar(tmp_path).trust.recorded() == GOOD | {"max_new_tokens": 12}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("direction_variance", math.nan, "a variance of directions, above 0 and at most 1"),
        ("direction_variance", 0, "a variance of directions, above 0 and at most 1"),
        ("direction_variance", -0.5, "a variance of directions, above 0 and at most 1"),
        ("direction_variance", True, "a variance of directions, above 0 and at most 1"),
        ("direction_variance", [0.5], "a variance of directions, above 0 and at most 1"),
        ("mean_direction", [0.5] * 15 + [math.nan], "a list of finite numbers"),
        ("mean_direction", ["x"] * 16, "a list of finite numbers"),
        ("mean_direction", 0.5, "a list of finite numbers"),
        ("mean_direction", [0.5] * 15, "16 numbers, found 15"),
        ("norm_statistics", 3.0, "a mapping"),
        ("norm_statistics", {"p75": "large"}, r"found 'large'"),
        ("norm_statistics", {"p75": math.inf}, "a finite number above 0, found inf"),
        ("min_position", "50", "an integer of at least 0"),
        ("min_position", 1.5, "an integer of at least 0"),
        ("max_new_tokens", 0, "an integer of at least 1"),
        ("max_new_tokens", "many", "an integer of at least 1"),
        ("dataset", 3, "a text"),
        ("fve", math.nan, "a finite number"),
        ("heldout_errors", [0.5, math.nan], "a list of direction MSEs"),
        ("heldout_errors", [-0.5], "a list of direction MSEs"),
        ("heldout_errors", {"a": 1}, "a list of direction MSEs"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_value_that_cannot_be_true_is_refused_by_file_and_key(key, value, expected, tmp_path):
    file = rewritten(tmp_path, av_sidecar(), gloss=GOOD | {key: value})
    with pytest.raises(SidecarError, match=rf"nla_meta\.yaml: gloss\.{key}.*{expected}") as caught:
        read_model_sidecar(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("record", [3, "text", [1], True])
def test_a_record_that_is_no_mapping_is_refused(record, tmp_path):
    file = rewritten(tmp_path, av_sidecar(), gloss=record)
    with pytest.raises(SidecarError, match=r"nla_meta\.yaml: gloss: expected a mapping"):
        read_model_sidecar(file)
