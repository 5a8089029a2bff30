from pathlib import Path

import numpy as np
import pytest
import torch

from gloss.contract import DatasetSidecar
from gloss.engines import Rollout
from gloss.evaluate import EvaluateConfig, RoundTrip
from gloss.evaluate.random_examples import random_examples
from gloss.train.inputs import TrainingRows

GOOD = "<explanation>said</explanation>"


@pytest.mark.invariant("3")
def test_examples_carry_the_reasons_to_distrust_them():
    """Documents a to d: as usual, at an early position, with a norm above twice the usual, without
    an explanation.
    """
    vectors = np.ones((4, 4), dtype=np.float32) * np.array([[1], [1], [3], [1]], dtype=np.float32)
    sidecar = DatasetSidecar(
        dataset_id="d",
        stage="rl",
        row_count=4,
        base_model="m",
        d_model=4,
        layer=1,
        norm_statistics={"p99": 2.0},
    )
    documents, blank = list("abcd"), [""] * 4
    rows = TrainingRows(
        Path("rows"), vectors, blank, documents, blank, [10, 9, 10, 10], blank, sidecar
    )
    extracted = torch.tensor([True, True, True, False])
    rollouts = [Rollout((1,), GOOD if found else "cut", bool(found)) for found in extracted]
    trip = RoundTrip(
        rollouts, torch.from_numpy(vectors), torch.tensor([0.0, 0.0, 0.0, 2.0]), extracted, 0.5
    )
    examples = random_examples(EvaluateConfig(), None, rows, trip, [{}] * 4)
    flags = {example["doc_id"]: example["flags"] for example in examples}
    assert flags == {"a": [], "b": ["early position"], "c": ["norm outlier"], "d": ["failed"]}
    shown = {example["doc_id"]: (example["explanation"], example["fve"]) for example in examples}
    assert shown["a"] == ("said", 1.0)
    assert shown["d"] == ("cut", -3.0)
