"""What a point of a series is measured by, on the smoke preset's NLA and its held-out rows."""

import pytest
import torch

from gloss.engines import LocalEngine
from gloss.evaluate import SeriesOf, round_trip
from gloss.lab.judge import LabJudge
from gloss.models import load_ar, load_av
from gloss.train.config import Measure
from gloss.train.inputs import read_training_rows


@pytest.fixture(scope="module")
def measured(small_run):
    engine = LocalEngine(load_av(small_run / "nla" / "av"))
    ar = load_ar(small_run / "nla" / "ar")
    rows = read_training_rows(small_run / "datasets" / "heldout.parquet", text_column=None)
    rows = rows.take(range(24))
    found = SeriesOf(LabJudge(), 72, 0)(engine, ar, rows)
    return engine, ar, rows, found


def test_its_numbers_are_those_of_a_round_trip(measured):
    engine, ar, rows, found = measured
    vectors = torch.from_numpy(rows.vectors)
    trip = round_trip(engine, ar, vectors, temperature=0.0, max_new_tokens=72, seed=0)
    assert found["fve"] == pytest.approx(trip.fve)
    assert found["tokens"] == trip.mean_tokens
    assert found["fve_above_blind"] == pytest.approx(found["fve"] - found["fve_last_words"])
    judge = LabJudge()
    claims = [
        claim.verdict
        for text, doc_id, context in zip(trip.texts, rows.doc_ids, rows.contexts, strict=True)
        for claim in judge.judge(text, doc_id, context)
    ]
    assert found["claims_right"] == pytest.approx(claims.count("right") / len(claims))
    assert 0 < found["commonest"] <= 1
    assert found["kept"]["reordered"] != found["kept"]["light"]


def test_every_measure_that_may_decide_is_there_and_without_truth_those_of_fve(measured):
    engine, ar, rows, found = measured
    names = set(Measure.__args__)
    assert names <= set(found)
    blind = SeriesOf(None, 72, 0)(engine, ar, rows)
    assert names & set(blind) == {"fve", "fve_sampled", "fve_above_blind"}
