"""The losses of AR SFT and AV SFT against plain formulas on whole rows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_nla import D_MODEL, make_ar, make_av

from gloss.contract import DatasetSidecar
from gloss.models import direction_mse
from gloss.train import sft
from gloss.train.inputs import TrainingRows

TEXTS = ["The mood is calm.", "Ada is here, and it rains at the harbor.\nSet at dawn.", "x", "dawn"]


def _rows(texts, scale=1.0):
    vectors = np.random.default_rng(0).normal(size=(len(texts), D_MODEL)).astype(
        np.float32
    ) * np.float32(scale)
    sidecar = DatasetSidecar(
        dataset_id="d", stage="rl", row_count=4, base_model="m", d_model=D_MODEL, layer=2
    )
    contexts = [f"one two three four {text}" for text in texts]
    blank = [""] * len(texts)
    return TrainingRows(
        Path("rows"), vectors, texts, blank, contexts, [0] * len(texts), blank, sidecar
    )


@pytest.fixture(params=[2, 64])
def chunk_rows(request, monkeypatch):
    monkeypatch.setattr(sft, "CHUNK_ROWS", request.param)


@pytest.mark.usefixtures("chunk_rows")
def test_the_ars_loss_is_the_mean_direction_mse_however_it_is_cut(lab_tokenizer):
    ar = make_ar(lab_tokenizer)
    ar.head.weight.requires_grad_(True)
    rows = _rows(TEXTS)
    loss = sft._accumulate_ar(ar, rows, ar.encode(TEXTS), np.arange(4))
    alone = torch.cat(
        [direction_mse(ar([t]), torch.from_numpy(rows.vectors[[i]])) for i, t in enumerate(TEXTS)]
    )
    assert loss == pytest.approx(float(alone.mean().detach()), abs=1e-5)
    (expected,) = torch.autograd.grad(alone.mean(), [ar.head.weight])
    torch.testing.assert_close(ar.head.weight.grad, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.invariant("1")
def test_the_ar_learns_directions_the_norm_of_an_activation_does_not_count(lab_tokenizer):
    ar = make_ar(lab_tokenizer)
    ar.head.weight.requires_grad_(True)
    losses = [
        sft._accumulate_ar(ar, _rows(TEXTS, s), ar.encode(TEXTS), np.arange(4))
        for s in (1e-3, 1.0, 1e4)
    ]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)


def test_an_ar_that_gives_nan_has_the_loss_nan(lab_tokenizer):
    ar = make_ar(lab_tokenizer)
    torch.nn.init.constant_(ar.head.weight, torch.nan)
    assert np.isnan(sft._accumulate_ar(ar, _rows(TEXTS), ar.encode(TEXTS), np.arange(4)))


@pytest.mark.invariant("16")
@pytest.mark.usefixtures("chunk_rows")
def test_the_avs_loss_is_a_mean_over_all_response_tokens_with_the_stop_token(lab_tokenizer):
    av = make_av(lab_tokenizer)
    weight = av.model.model.layers[0].mlp.up_proj.weight.requires_grad_(True)
    rows = _rows(TEXTS)
    responses = av.response_ids(TEXTS)
    assert [row[-1] for row in responses] == [av.stop_id] * 4
    loss = sft._accumulate_av(av, rows, responses, np.arange(4))
    terms = []
    for i, text in enumerate(TEXTS):
        ids, mask = av.encode_responses([text])
        assert ids[0].tolist() == responses[i]
        terms.append(-av.response_logprobs(torch.from_numpy(rows.vectors[[i]]), ids, mask))
    alone = torch.cat(terms)
    assert len(alone) == sum(map(len, responses))
    assert loss == pytest.approx(float(alone.mean().detach()), abs=1e-4)
    got = weight.grad.clone()
    (expected,) = torch.autograd.grad(alone.mean(), [weight])
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-3)


def test_the_reading_warm_up_writes_the_texts_last_words():
    assert sft._last_words(_rows(["end"]), 2) == ["<explanation>\nfour end\n</explanation>"]


@pytest.mark.invariant("runs-8")
def test_log_probabilities_are_those_of_the_distribution_that_is_sampled(lab_tokenizer):
    av = make_av(lab_tokenizer)
    vectors = torch.randn(2, D_MODEL, generator=torch.Generator().manual_seed(0))
    ids, mask = av.encode_responses(["a boat", "the lake"])
    with torch.no_grad():
        logits = av.response_logits(vectors, ids, mask).float()
        plain, flat = (av.response_logprobs(vectors, ids, mask, temperature=t) for t in (1.0, 2.0))
    chosen = ids[mask].unsqueeze(1)
    torch.testing.assert_close(plain, logits.log_softmax(-1).gather(1, chosen)[:, 0])
    torch.testing.assert_close(flat, (logits / 2).log_softmax(-1).gather(1, chosen)[:, 0])
    assert not torch.allclose(plain, flat)
