"""The whole evaluation with scripted halves: each number of ``results.json`` by hand.

Activations are ±e1 of unequal norms, so that their direction variance is 1; a text tells the AR
the trip and the sign, and it rebuilds the activation with the error chosen for that trip."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gloss.contract import DatasetSidecar
from gloss.engines import Rollout
from gloss.errors import DatasetError
from gloss.evaluate import EvaluateConfig, NLAFolders, evaluate, measure, on_labels
from gloss.train.inputs import TrainingRows, trust_record

FOLDERS = NLAFolders(*map(Path, ("av_sft", "ar_sft", "av", "ar")))
ERRORS = {"sft": 0.8, "sft_sampled": 1.2, "rl": 0.2, "rl_sampled": 0.6, "labels": 0.4}
IDS = [f"d{i // 4}" for i in range(40)]
SIGNS = np.array([1.0, -1.0] * 20)


def _rows(ids=IDS, signs=SIGNS, norms=None, texts=(), path="heldout"):
    norms = np.arange(1, len(ids) + 1) if norms is None else norms
    along = signs[: len(ids)] * norms
    vectors = np.stack([along, np.zeros(len(ids))], axis=1).astype(np.float32)
    sidecar = DatasetSidecar(
        dataset_id="d", stage="rl", row_count=len(ids), base_model="m", d_model=2, layer=3
    )
    blank = [""] * len(ids)
    positions = list(range(50, 50 + len(ids)))
    contexts = ["a few words"] * len(ids)
    return TrainingRows(Path(path), vectors, list(texts), ids, contexts, positions, blank, sidecar)


class Halves:
    """Both halves after a stage; remembers what was asked of it."""

    sidecar = None

    def __init__(self, name):
        self.name = name

    @property
    def av(self):
        return self

    def generate(self, activations, *, temperature, max_new_tokens, seed, rows=None):
        """Writes the trip and the activation's own numbers; row 7 of the RL fails when greedy."""
        trip = self.name.removeprefix("av_") + ("_sampled" if temperature else "")
        trip = trip.replace("av", "rl")
        written = []
        for row, (x, _) in zip(rows or [0], activations.tolist(), strict=True):
            text = f"<explanation>{trip} {math.copysign(1, x)}</explanation>"
            failed = trip == "rl" and row == 7
            ids = (5,) * 20 if failed else (1, 2, 3, 4)
            written.append(Rollout(ids, "cut off" if failed else text, not failed))
        return written

    def reconstruct(self, texts):
        """[cos, sin] of an angle with the direction MSE 2(1 − cos) of the trip."""
        vectors = []
        for text in texts:
            trip, _, sign = text.partition(" ")
            if trip not in ERRORS:  # of a blind control
                trip, sign = "none", "1"
            cos = 1 - ERRORS.get(trip, 2.0) / 2
            vectors.append([float(sign) * cos, math.sqrt(1 - cos * cos)])
        return torch.tensor(vectors)

    def encode_prompts(self, texts):
        return texts

    reconstruct_encoded = reconstruct


@pytest.fixture
def scripted(monkeypatch):
    """The evaluation with scripted halves over given files; ``files`` maps names to rows."""
    files = {"heldout": _rows()}
    monkeypatch.setattr(measure, "load_av", lambda name, **_: Halves(str(name)))
    monkeypatch.setattr(measure, "load_ar", lambda name, **_: Halves(str(name)))
    monkeypatch.setattr(measure, "LocalEngine", lambda av: av)
    monkeypatch.setattr(measure, "check_same_activations", lambda *sidecars: None)
    for module in (measure, on_labels):
        monkeypatch.setattr(module, "read_training_rows", lambda path, **_: files[str(path)])
    return files


def _evaluated(files, **options):
    config = EvaluateConfig(**{"max_rows": 40, "bootstrap_resamples": 400, **options})
    given = {
        name: Path(file)
        for name, file in (("heldout_labels", "labels"), ("probe_dataset", "probe"))
        if file in files
    }
    return evaluate(config, nla=FOLDERS, heldout=Path("heldout"), **given)


def test_the_second_headline_is_what_stands_above_the_best_blind_control(scripted):
    """One text for all is right about one sign only: 0.2 for those rows, 3.8 for the others."""
    results = _evaluated(scripted)
    blind, gain = results["blind"], results["gains"]["rl_over_other_token"]
    assert set(blind["controls"]) >= {"last_words", "one_text", "other_token", "position_mean"}
    assert blind["best"] == max(blind["controls"], key=blind["controls"].get)
    best = blind["controls"][blind["best"]]
    assert blind["fve_above"] == pytest.approx(results["fve"]["rl"] - best, abs=1e-6)
    assert blind["controls"]["last_words"] == pytest.approx(-1, abs=1e-5)  # orthogonal to all
    assert blind["controls"]["one_text"] < 0.1
    assert gain["ci95"][0] <= gain["fve"] <= gain["ci95"][1]


@pytest.mark.invariant("numbers-3")
def test_every_trip_stands_under_its_own_name(scripted):
    """The variance is 1; one of forty greedy explanations after RL failed and counts 2."""
    results = _evaluated(scripted)
    fve = results["fve"]
    assert fve["sft"] == pytest.approx(0.2, abs=1e-5)
    assert fve["sft_sampled"] == pytest.approx(-0.2, abs=1e-5)
    assert fve["rl"] == pytest.approx(1 - (39 * 0.2 + 2) / 40, abs=1e-5)
    assert fve["rl_sampled"] == pytest.approx(0.4, abs=1e-5)
    assert fve["ar_on_labels"] is None
    assert fve["rl_ci95"][0] < fve["rl"] < fve["rl_ci95"][1]
    extracted = {"sft": 0.2, "sft_sampled": -0.2, "rl": 0.8, "rl_sampled": 0.4}
    assert results["fve_extracted"] == pytest.approx(extracted, abs=1e-5)
    assert results["extraction_failure_rate"] == 1 / 40
    assert results["extraction_failure_rate_sampled"] == 0
    assert (results["loop_rate"], results["loop_rate_sampled"]) == (1 / 40, 0)
    assert results["mean_explanation_tokens"] == pytest.approx((39 * 4 + 20) / 40)
    assert (results["layer"], results["n_heldout"], results["n_heldout_documents"]) == (3, 40, 10)
    assert results["heldout_errors"] == pytest.approx([0.2] * 39 + [2.0], abs=1e-4)
    json.dumps(results, allow_nan=False)


@pytest.mark.invariant("numbers-7")
def test_a_gain_is_the_difference_of_two_lines_with_an_interval_of_its_own(scripted):
    scripted["labels"] = _rows(texts=[f"labels {sign}" for sign in SIGNS])
    results = _evaluated(scripted)
    gains = results["gains"]
    rl = 1 - (39 * 0.2 + 2) / 40
    assert gains["rl_over_sft"]["fve"] == pytest.approx(rl - 0.2, abs=1e-5)
    assert gains["rl_over_sft_sampled"]["fve"] == pytest.approx(0.6, abs=1e-5)
    assert gains["rl_over_sft_sampled"]["ci95"] == pytest.approx((0.6, 0.6), abs=1e-5)
    assert gains["rl_over_ar_on_labels"]["fve"] == pytest.approx(rl - 0.6, abs=1e-5)
    low, high = gains["rl_over_ar_on_labels"]["ci95"]
    assert low < rl - 0.6 < high
    for name, value in results["controls"].items():
        assert gains[f"rl_over_{name}"]["fve"] == pytest.approx(rl - value, abs=1e-5)
    low, high = gains["rl_over_shuffled_activations"]["ci95"]
    assert low < gains["rl_over_shuffled_activations"]["fve"] < high


@pytest.mark.invariant("numbers-6")
def test_labels_are_measured_on_the_very_rows_of_the_other_lines(scripted):
    """The file of labels is in another order and holds more; a row of it that was not drawn has a
    label that would spoil the number."""
    texts = [f"labels {sign}" for sign in SIGNS]
    whole = _evaluated({**scripted, "labels": scripted.setdefault("labels", _rows(texts=texts))})
    assert whole["fve"]["ar_on_labels"] == pytest.approx(0.6, abs=1e-5)
    assert whole["n_heldout_labelled"] == 40
    few = _evaluated(scripted, max_rows=12)
    drawn = measure.sample_documents(IDS, 12, seed=0)
    assert few["n_heldout"] == few["n_heldout_labelled"] == 12
    order = list(range(39, -1, -1))
    spoilt = [f"labels {SIGNS[i]}" if i in drawn else f"labels {-SIGNS[i]}" for i in order]
    labels = _rows(
        ids=[IDS[i] for i in order], signs=SIGNS[order], norms=np.array(order) + 1, texts=spoilt
    )
    scripted["labels"] = labels
    few = _evaluated(scripted, max_rows=12)
    assert few["fve"]["ar_on_labels"] == pytest.approx(0.6, abs=1e-5)
    scripted["labels"] = labels.take([order.index(row) for row in drawn[:5]])
    assert _evaluated(scripted, max_rows=12)["n_heldout_labelled"] == 5


@pytest.mark.invariant("numbers-6")
def test_rows_are_of_drawn_documents_and_keep_their_own_seeds(scripted, monkeypatch):
    seen = []
    generate = Halves.generate

    def noting(self, activations, **options):
        if "rows" in options:  # a blind control has none
            seen.append((options["rows"], activations.abs()[:, 0].tolist(), options["seed"]))
        return generate(self, activations, **options)

    monkeypatch.setattr(Halves, "generate", noting)
    _evaluated(scripted, max_rows=8, seed=11)
    drawn = measure.sample_documents(IDS, 8, seed=11)
    assert drawn != list(range(8))
    assert seen == [(drawn, [row + 1.0 for row in drawn], 11)] * 4


class KnowsNothing:
    def judge(self, explanation, doc_id, context):
        return []

    def known(self, doc_id, context):
        return {"sign": doc_id}


@pytest.mark.invariant("numbers-5")
def test_a_probe_is_not_fitted_on_documents_that_are_held_out(scripted):
    scripted["probe"] = _rows(ids=["other"] * 20 + IDS[20:], path="probe")
    config = EvaluateConfig(max_rows=4)
    options = {"nla": FOLDERS, "heldout": Path("heldout"), "probe_dataset": Path("probe")}
    with pytest.raises(DatasetError, match=r"held out.*'d5', one of 5"):
        evaluate(config, judge=KnowsNothing(), **options)
    scripted["probe"] = _rows(ids=[f"train {i}" for i in range(40)])
    assert evaluate(config, judge=KnowsNothing(), **options)["n_heldout"] == 4
    without = EvaluateConfig(max_rows=4, probe_rows=0)
    scores = evaluate(without, judge=KnowsNothing(), **options)["claims"]["sign"]
    assert scores["best_reader"] is None


@pytest.mark.invariant("numbers-8")
def test_examples_are_drawn_without_a_look_at_how_well_they_went(scripted, monkeypatch):
    """Documents of other sizes; the same seed draws the same rows whatever the errors."""
    first = _evaluated(scripted, examples=6)["examples"]
    monkeypatch.setitem(ERRORS, "rl", 3.9)
    second = _evaluated(scripted, examples=6)["examples"]
    places = [[(one["doc_id"], one["position"]) for one in each] for each in (first, second)]
    assert places[0] == places[1]
    assert len({doc_id for doc_id, _ in places[0]}) == 6
    found = {
        one["position"]
        for seed in range(25)
        for one in _evaluated(scripted, examples=6, seed=seed)["examples"]
    }
    assert len(found) > 35
    assert _evaluated(scripted, examples=0)["examples"] == []
    assert len(_evaluated(scripted, examples=99)["examples"]) == 10


def test_an_example_shows_the_last_400_characters_of_its_text(scripted):
    long = "".join(chr(97 + i % 26) for i in range(1000))
    scripted["heldout"] = dataclasses.replace(_rows(), contexts=[long] * len(IDS))
    examples = _evaluated(scripted, examples=3)["examples"]
    assert [one["text"] for one in examples] == [long[-400:]] * 3


def test_progress_ends_when_the_last_pass_does(scripted, monkeypatch):
    stages = []

    class Watched(measure.Stage):
        def __enter__(self):
            stages.append(self)
            return super().__enter__()

    monkeypatch.setattr(measure, "Stage", Watched)
    _evaluated(scripted)
    assert [(one.done, one.total) for one in stages] == [(8, 8)]


@pytest.mark.invariant("numbers-2")
def test_a_checkpoint_records_variance_and_mean_of_directions_not_of_raw_vectors():
    """[100, 0] and [0, 1] at norm √2: the mean is [√½, √½], √½ from each in both places."""
    rows = _rows(ids=["a", "b"])
    vectors = np.array([[100.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    recorded = trust_record(TrainingRows(**{**vars(rows), "vectors": vectors}))
    assert recorded.mean_direction == (0.7071, 0.7071)
    assert recorded.direction_variance == pytest.approx(0.5, abs=1e-6)
