"""Reading with a trained NLA: explain, reconstruct, score, steer."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from gloss.errors import ActivationError, ConfigError, CorpusError, PositionError
from gloss.models import direction_mse
from gloss.text.document import Document

TEXT = (
    "Leo felt joyful that dawn. He fixed the bait and his mother pulled the trout. Leo mended"
    " the net"
)


def test_explain_gives_one_explanation_per_position_with_its_score(nla):
    found = nla.explain(TEXT, positions="0,12-14")
    assert [item.position for item in found] == [0, 12, 13, 14]
    assert found[0].token == "Leo"
    assert "early position" in found[0].flags
    assert "early position" not in found[1].flags
    item = found[1]
    if item.text is not None:
        activation = nla.activations(TEXT)[12]
        expected = direction_mse(nla.reconstruct([item.text])[0], activation).item()
        assert item.cosine == pytest.approx(1 - expected / 2, abs=1e-5)
        assert item.fve == pytest.approx(1 - expected / nla.recorded.direction_variance, abs=1e-5)


def test_explaining_a_text_and_its_activations_is_the_same(nla):
    from_text = nla.explain(TEXT, positions=[10, 15])
    from_vectors = nla.explain(nla.activations(TEXT)[[10, 15]])
    assert [item.response for item in from_text] == [item.response for item in from_vectors]


def test_samples_are_seeded(nla):
    first, again, other = (
        nla.explain(TEXT, positions=12, samples=3, seed=seed) for seed in (1, 1, 2)
    )
    assert len(first) == 3
    assert [item.response for item in first] == [item.response for item in again]
    assert [item.response for item in first] != [item.response for item in other]


def test_explanations_print_as_table_json_and_html_and_escape_model_text(nla):
    found = nla.explain(TEXT, positions=-1)
    assert "explanation" in str(found)
    assert json.loads(json.dumps(found.to_dicts()))[0]["layer"] == nla.layer
    assert "<table>" in found._repr_html_()
    hostile = replace(
        found, explanations=(replace(found[0], text="<script>alert(1)</script> [bold]"),)
    )
    assert "<script>" not in hostile._repr_html_()
    assert "[bold]" in str(hostile)


def test_a_norm_outlier_and_a_special_token_are_flagged(nla):
    vector = nla.activations(TEXT)[12] * 100
    assert "norm outlier" in nla.explain(vector.unsqueeze(0))[0].flags
    rendered = Document("chat", "<|im_start|>user\nhello there", rendered=True)
    assert "special token" in nla.explain(rendered, positions=0)[0].flags


def test_scores_do_not_depend_on_the_norm(nla):
    vectors = nla.activations(TEXT)[12:14]
    texts = ["The mood is joyful.", "Leo is the hero."]
    one, scaled = nla.score(texts, vectors), nla.score(texts, vectors * 7)
    assert one[0].cosine == pytest.approx(scaled[0].cosine, abs=1e-5)


def test_wrong_input_is_refused(nla):
    with pytest.raises(PositionError):
        nla.explain(TEXT, positions=999)
    with pytest.raises(ActivationError, match="wrong activations"):
        nla.explain(torch.ones(2, 5))
    with pytest.raises(ActivationError, match="no direction"):
        nla.explain(torch.zeros(1, 128))
    with pytest.raises(ActivationError, match="differ in number"):
        nla.score(["x"], torch.ones(2, 128))
    with pytest.raises(ConfigError, match="does not hold the words"):
        nla.steer(TEXT, edit=("no such words", "x"))
    with pytest.raises(CorpusError, match="empty"):
        nla.explain("")


def test_steering_without_strength_changes_nothing_and_random_has_equal_strength(nla):
    result = nla.steer(
        TEXT,
        edit=("calm", "gloomy"),
        original="The mood is calm.",
        unrelated=("It rains.", "The sun shines."),
        alphas=(0.0, 1.0),
    )
    by_kind = {(c.edit, c.alpha): c.text for c in result.continuations}
    controls = ("edit", "random", "elsewhere", "unrelated")
    assert len({by_kind["none", 0.0], *(by_kind[kind, 0.0] for kind in controls)}) == 1
    assert set(by_kind) == {("none", 0.0), *((kind, a) for kind in controls for a in (0.0, 1.0))}
    assert result.edited == "The mood is gloomy."


def test_an_edit_that_changes_nothing_is_refused(nla):
    with pytest.raises(ActivationError, match="no direction to steer"):
        nla.steer(TEXT, edit=("calm", "calm"), original="The mood is calm.")


def _gloss(*arguments, stdin=""):
    command = [sys.executable, "-m", "gloss.cli.main", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)


def test_the_reading_verbs_work_from_the_command_line(small_run, tmp_path):
    nla = ["--nla", str(small_run)]
    explained = _gloss("explain", "-", *nla, "--positions", "11,12", "--json", stdin=TEXT)
    assert explained.returncode == 0, explained.stderr
    assert [item["position"] for item in json.loads(explained.stdout)] == [11, 12]
    rebuilt = _gloss(
        "reconstruct", "The mood is calm.", *nla, "--out", str(tmp_path / "v.safetensors")
    )
    assert rebuilt.returncode == 0, rebuilt.stderr
    file = str(small_run / "splits/heldout.parquet")
    scored = _gloss(
        "score",
        "--text",
        "The mood is calm.",
        "--activations",
        file,
        "--limit",
        "3",
        "--json",
        *nla,
    )
    assert len(json.loads(scored.stdout)) == 3
    edit = ["--edit", "calm=>gloomy", "--explanation", "The mood is calm."]
    steered = _gloss("steer", TEXT, *edit, "--alpha", "1", "--json", *nla)
    kinds = {c["edit"] for c in json.loads(steered.stdout)["continuations"]}
    always = {"none", "edit", "random", "elsewhere"}
    assert always <= kinds <= {*always, "unrelated"}


def test_report_and_evaluate_work_on_a_finished_run(small_run):
    reported = _gloss("report", str(small_run))
    assert reported.returncode == 0, reported.stderr
    page = (small_run / "report.html").read_text()
    assert "<svg" in page
    assert "http-equiv" in page
    assert "<script src" not in page
