import pytest
import torch
from tiny_nla import D_MODEL, make_ar, make_av

from gloss.errors import TrainingError
from gloss.train.preflight import check_injection_reaches_forward, check_reward_path


def _activations():
    return torch.randn(2, D_MODEL, generator=torch.Generator().manual_seed(0))


def test_a_sound_pair_passes(lab_tokenizer):
    check_injection_reaches_forward(make_av(lab_tokenizer), _activations())
    check_reward_path(make_ar(lab_tokenizer))


@pytest.mark.invariant("4")
def test_an_av_that_reads_the_marker_instead_of_the_activation_is_refused(
    lab_tokenizer, monkeypatch
):
    av = make_av(lab_tokenizer)
    marker_alone = av.embedding(torch.tensor([av.tail_ids]))
    monkeypatch.setattr(
        av, "embed_after_prefix", lambda activations, _ids: marker_alone.expand(2, -1, -1)
    )
    with pytest.raises(TrainingError, match="does not depend on the injected activation"):
        check_injection_reaches_forward(av, _activations())


@pytest.mark.invariant("8")
def test_left_padding_is_noticed_before_it_ruins_the_rewards(lab_tokenizer, monkeypatch):
    def left_pad(rows, pad_id, device=None):
        width = max(map(len, rows))
        ids = torch.tensor([[*[pad_id] * (width - len(row)), *row] for row in rows])
        return ids, torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])

    monkeypatch.setattr("gloss.models.ar.right_pad", left_pad)
    with pytest.raises(TrainingError, match="other vectors in a batch"):
        check_reward_path(make_ar(lab_tokenizer))


def test_an_ar_that_gives_nan_is_refused(lab_tokenizer):
    ar = make_ar(lab_tokenizer)
    torch.nn.init.constant_(ar.head.weight, torch.nan)
    with pytest.raises(TrainingError, match="found nan"):
        check_reward_path(ar)
