"""The series of checkpoints of joint RL: what is set apart, kept, dropped, put back and stopped."""

import json

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from tiny_nla import D_MODEL, make_ar, make_av, write_rows

from gloss.contract import Explanation
from gloss.engines import Rollout
from gloss.errors import CheckpointError, ConfigError, DatasetError
from gloss.models import load_av, save_ar, save_av
from gloss.train import JointConfig, train_joint
from gloss.train.inputs import read_training_rows
from gloss.train.series import Series, points_of, put_back, set_apart

WEIGHT = "model.layers.0.mlp.up_proj.weight"


def config_of(**changes):
    rate = {"lr": 0.02, "warmup_steps": 0}
    settings = {"steps": 4, "prompts_per_step": 2, "group_size": 2, "compute_dtype": "float32"}
    settings |= {"max_new_tokens": 6, "av": rate, "ar": rate, "checkpoint_every": 1}
    return JointConfig.model_validate({**settings, **changes})


@pytest.fixture
def inputs(lab_tokenizer, tmp_path, monkeypatch):
    """Halves and rows; every response of the untrained AV counts as an explanation."""
    monkeypatch.setattr(Rollout, "explanation", property(lambda self: Explanation(self.text)))
    save_av(make_av(lab_tokenizer), tmp_path / "av")
    save_ar(make_ar(lab_tokenizer), tmp_path / "ar")
    vectors = torch.randn(12, D_MODEL, generator=torch.Generator().manual_seed(1)).numpy()
    own = {"layer": 2, "doc_ids": [f"document {i}" for i in range(12)]}
    rows = write_rows(tmp_path / "rl.parquet", lab_tokenizer, vectors, **own)
    return {"av": tmp_path / "av", "ar": tmp_path / "ar", "dataset": rows}


class Scripted:
    """Gives the numbers of a script, point by point, and remembers the rows it was asked with."""

    def __init__(self, **numbers):
        self.numbers, self.asked = numbers, []

    def __call__(self, engine, ar, rows):
        index = len(self.asked)
        self.asked.append((rows, engine.av.model.get_parameter(WEIGHT).detach().clone()))
        return {name: values[index] for name, values in self.numbers.items()}


def points(folder):
    return json.loads((folder / "series.json").read_text())["points"]


def test_points_lie_evenly_and_no_series_has_none():
    assert points_of(config_of(steps=10, series={"points": 3})) == [0, 3, 7, 10]
    assert points_of(config_of()) == []


def test_no_document_is_trained_on_and_measured(inputs):
    rows = read_training_rows(inputs["dataset"], text_column=None)
    trained, measured = set_apart(rows, config_of(series={"points": 1, "rows": 3}))
    assert len(measured) == 3
    assert not {rows.doc_ids[row] for row in trained} & set(measured.doc_ids)
    everything, none = set_apart(rows, config_of())
    assert (everything, none) == (list(range(12)), None)
    with pytest.raises(DatasetError, match="too few documents to train on"):
        set_apart(rows, config_of(series={"points": 1, "rows": 12}))


def test_the_best_point_becomes_the_nla(inputs, tmp_path):
    """Its weights are those that were measured there, up to the rounding of the difference."""
    measure = Scripted(fve=[0.1, 0.4, 0.3])
    config = config_of(series={"points": 2, "rows": 3, "keep": "fve"})
    result = train_joint(config, **inputs, out_dir=tmp_path / "out", measure=measure)
    assert result.kept_step == 2
    assert result.stopped is None
    kept = load_file(result.av / "model.safetensors")[WEIGHT]
    start, there, end = (weights for _, weights in measure.asked)
    assert (kept - there).abs().max() <= (there - start).abs().max() / 200
    assert (kept - end).abs().max() > (there - start).abs().max() / 20
    assert load_av(result.av).sidecar.training["steps"] == 2
    assert [point["step"] for point in points(tmp_path / "out")] == [0, 2, 4]
    again = train_joint(config, **inputs, out_dir=tmp_path / "out", measure=measure)
    assert again == result


def test_words_that_get_worse_while_fve_rises_end_the_training(inputs, tmp_path, capsys):
    measure = Scripted(fve=[0.1, 0.2, 0.3, 0.4], claims_right=[0.8, 0.9, 0.7, 0.6])
    rule = {"falls": "claims_right", "while_rises": "fve", "points": 1}
    config = config_of(series={"points": 4, "rows": 3}, stop_when=rule)
    result = train_joint(config, **inputs, out_dir=tmp_path / "out", measure=measure)
    assert len(measure.asked) == 3
    assert result.kept_step == 1, "the best by what fell"
    assert "claims_right fell from 0.900 to 0.700 while fve rose from 0.200" in result.stopped
    assert "step 1 is kept" in capsys.readouterr().err
    assert torch.allclose(
        load_file(result.av / "model.safetensors")[WEIGHT], measure.asked[1][1], atol=1e-3
    )


def test_a_stop_keeps_the_best_of_what_is_there(inputs, tmp_path):
    """Where no weights fit, nothing is lost at the end: the start or the last one is kept."""
    measure = Scripted(fve=[0.1, 0.2, 0.3], claims_right=[0.5, 0.9, 0.7])
    series = {"points": 4, "rows": 3, "max_mb": 0}
    config = config_of(series=series, stop_when={"points": 1})
    result = train_joint(config, **inputs, out_dir=tmp_path / "out", measure=measure)
    assert "claims_right fell" in result.stopped
    assert result.kept_step == 2


def test_a_fall_alone_ends_nothing(inputs, tmp_path):
    measure = Scripted(fve=[0.4, 0.3, 0.2], claims_right=[0.9, 0.8, 0.7])
    config = config_of(series={"points": 2, "rows": 3}, stop_when={"points": 1})
    result = train_joint(config, **inputs, out_dir=tmp_path / "out", measure=measure)
    assert (result.stopped, result.kept_step) == (None, 4)


def test_a_resumed_training_measures_the_points_behind_its_state_again(inputs, tmp_path):
    config = config_of(series={"points": 4, "rows": 3})
    whole, broken = Scripted(fve=[0.1] * 5), Scripted(fve=[0.1] * 3)
    train_joint(config, **inputs, out_dir=tmp_path / "whole", measure=whole)
    with pytest.raises(IndexError):
        train_joint(config, **inputs, out_dir=tmp_path / "cut", measure=broken)
    rest = Scripted(fve=[0.1] * 5)
    train_joint(config, **inputs, out_dir=tmp_path / "cut", measure=rest)
    assert points(tmp_path / "cut") == points(tmp_path / "whole")
    for name in ("av", "ar"):
        one, other = (
            load_file(tmp_path / f / name / "model.safetensors") for f in ("whole", "cut")
        )
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_weights_are_bounded_and_the_best_stay(lab_tokenizer, tmp_path):
    size = sum(p.numel() for p in make_av(lab_tokenizer).model.parameters()) * 2 / 2**20
    config = config_of(series={"points": 4, "rows": 3, "keep": "fve", "max_mb": 2.5 * size})
    av, start = make_av(lab_tokenizer).model, make_av(lab_tokenizer).model
    series = Series(tmp_path, config, {"av": av}, lambda: {"av": start})
    for step, fve in enumerate([0.1, 0.5, 0.2, 0.4, 0.3]):
        with torch.no_grad():
            av.get_parameter(WEIGHT).fill_(float(step))
        series.reach(step, lambda fve=fve: {"fve": fve})
    assert [entry["step"] for entry in series.entries if entry["weights"]] == [1, 3]
    assert len(list((tmp_path / "series").iterdir())) == 2
    assert series.best["step"] == 1
    with pytest.raises(CheckpointError, match="weights of step 2 were not kept"):
        series.restore(series.entries[2])
    put_back(tmp_path, series.entries[0], {"av": av}, {"av": start})
    assert torch.equal(av.get_parameter(WEIGHT), start.get_parameter(WEIGHT))
    tight = config_of(series={"points": 4, "keep": "fve", "max_mb": size / 2})
    with pytest.raises(ConfigError, match="not even one checkpoint fits"):
        Series(tmp_path, tight, {"av": av}, lambda: {"av": start})


def test_what_cannot_be_decided_is_said_before_it_is_needed(inputs, tmp_path):
    for wrong in (
        {"series": {"keep": "fve"}},
        {"stop_when": {}},
        {"series": {"points": 1}, "stop_when": {"points": 2}},
        {"series": {"points": 9}},
    ):
        with pytest.raises(ValidationError):
            config_of(**wrong)
    judged = config_of(series={"points": 1, "rows": 3, "keep": "facts_right"})
    with pytest.raises(ConfigError, match=r"not measured here.*facts_right"):
        train_joint(judged, **inputs, out_dir=tmp_path / "a", measure=Scripted(fve=[0.1]))
    with pytest.raises(ConfigError, match=r"nothing measures joint\.series"):
        train_joint(judged, **inputs, out_dir=tmp_path / "b")
