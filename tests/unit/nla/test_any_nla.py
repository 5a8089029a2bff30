"""Any NLA is measured on any file of activations, and nothing is said of texts that nobody has."""

import json

import numpy as np
import pytest
from tiny_nla import D_MODEL

from gloss.cli.main import app
from gloss.errors import ActivationError, DatasetError, SidecarError
from gloss.evaluate import EvaluateConfig, evaluate_nla
from gloss.lab.judge import LabJudge

CONFIG = EvaluateConfig(max_rows=6, max_new_tokens=8, bootstrap_resamples=100)
NEEDS_TEXT = {"last_words", "other_token", "position_mean"}


@pytest.fixture
def array(tmp_path):
    file = tmp_path / "some.npy"
    np.save(file, np.random.default_rng(0).normal(size=(8, D_MODEL)).astype("float32"))
    return file


@pytest.mark.invariant("any-nla")
def test_an_array_has_no_control_that_needs_a_text_and_no_interval(speaking, array):
    results = evaluate_nla(CONFIG, speaking, array)
    assert results["n_heldout"] == 6
    assert set(results["fve"]) == {"ar_on_labels", "rl", "rl_sampled", "rl_ci95"}
    assert set(results["blind"]["controls"]) == {"one_text", "av_of_noise", "av_of_mean"}
    assert results["blind"]["last_words"] is None
    assert results["fve"]["rl_ci95"] is None
    assert (results["truth"], results["trust"], results["claims"]) == ({}, None, {})
    assert set(results["rewrites"]) >= {"reordered", "prose_only"}
    json.dumps(results, allow_nan=False)


def test_the_truth_is_asked_only_where_documents_are_known(speaking, array):
    with pytest.raises(DatasetError, match="a row is of none"):
        evaluate_nla(CONFIG, speaking, array, judge=LabJudge())


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (np.ones((1, D_MODEL)), ActivationError, "too few"),
        (np.ones((4, D_MODEL + 1)), SidecarError, ""),
        (np.zeros((4, D_MODEL)), ActivationError, "without a direction.*row 0, one of 4"),
        (np.full((4, D_MODEL), np.nan), ActivationError, "row 0, one of 4"),
    ],
)
def test_what_cannot_be_measured_is_refused(speaking, tmp_path, rows, error, message):
    np.save(tmp_path / "bad.npy", rows.astype("float32"))
    with pytest.raises(error, match=message):
        evaluate_nla(CONFIG, speaking, tmp_path / "bad.npy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to measure"),
        (["run", "--activations", "x.npy"], "a run is measured as its own settings say"),
        (["run", "--judge", "lab"], "a run is measured as its own settings say"),
        (["run", "--seed", "3"], "a run is measured as its own settings say"),
        (["run", "--out", "there"], "a run is measured as its own settings say"),
        (["run", "--nla", "there"], "a run is measured as its own settings say"),
        (["--activations", "x.npy", "--judge", "nobody"], "unknown judge"),
    ],
)
def test_options_that_would_not_count_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        app(["evaluate", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_verb_writes_what_the_report_reads(speaking_folder, array, tmp_path, capsys):
    out = tmp_path / "measured"
    with pytest.raises(SystemExit) as stopped:
        app(
            [
                "evaluate",
                "--nla",
                str(speaking_folder),
                "--activations",
                str(array),
                "--out",
                str(out),
            ]
        )
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "Greedy" in shown
    assert "RL, greedy" not in shown
    assert "Last words" not in shown
    assert json.loads((out / "results.json").read_text())["n_heldout"] == 8
    with pytest.raises(SystemExit) as stopped:
        app(["results", "report", str(out)])
    assert stopped.value.code == 0
    assert (out / "report.html").is_file()
