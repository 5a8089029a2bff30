from dataclasses import replace

import pytest
import torch
from tiny_models import random_model
from tiny_nla import D_MODEL, SCALE, make_av, nla_sidecar
from torch import nn

from gloss.errors import InjectionError, MarkerError, SidecarError
from gloss.models import ActivationVerbalizer


def _activations(n=2):
    return torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(1))


class ScaledEmbedding(nn.Embedding):
    """As in Gemma and T5: the forward multiplies by √d."""

    def forward(self, ids):
        return super().forward(ids) * self.embedding_dim**0.5


@pytest.mark.invariant("7")
def test_the_activation_is_injected_behind_the_embeddings_own_scaling(lab_tokenizer):
    model = random_model(vocab_size=len(lab_tokenizer))
    scaled = ScaledEmbedding(*model.model.embed_tokens.weight.shape)
    scaled.weight = model.model.embed_tokens.weight
    model.set_input_embeddings(scaled)
    av = ActivationVerbalizer(model, lab_tokenizer, nla_sidecar(lab_tokenizer, "av"))
    embedded = av.embed_after_prefix(_activations(), torch.tensor([[9], [10]])).detach()
    torch.testing.assert_close(embedded[:, 1].norm(dim=1), torch.full((2,), SCALE))
    ids = torch.tensor([[*av.tail_ids, 9], [*av.tail_ids, 10]])
    others = [i for i in range(ids.shape[1]) if i != 1]
    torch.testing.assert_close(
        embedded[:, others], scaled.weight[ids[:, others]].detach() * D_MODEL**0.5
    )


@pytest.mark.invariant("embedding-rounding")
def test_float32_embeddings_are_not_rounded(lab_tokenizer):
    av = make_av(lab_tokenizer)
    embedded = av.embed_after_prefix(_activations())
    others = [i for i in range(len(av.tail_ids)) if i != 1]
    table = av.model.model.embed_tokens.weight
    assert torch.equal(embedded[0, others], table[torch.tensor(av.tail_ids)[others]])
    assert not torch.equal(table, table.bfloat16().float())


def test_the_prompt_is_cut_before_the_markers_left_neighbour(lab_tokenizer):
    av = make_av(lab_tokenizer)
    marker = av.marker
    assert av.tail_ids[:3] == [marker.left_neighbor_id, marker.token_id, marker.right_neighbor_id]
    assert marker.token_id not in av.prefix_ids


@pytest.mark.invariant("5")
@pytest.mark.parametrize("field", ["token_id", "left_neighbor_id", "right_neighbor_id"])
def test_a_prompt_without_the_marker_at_its_place_stops_the_av_before_any_work(
    field, lab_tokenizer
):
    good = nla_sidecar(lab_tokenizer, "av")
    wrong = replace(good, marker=replace(good.marker, **{field: getattr(good.marker, field) + 1}))
    with pytest.raises(MarkerError, match="not where it must be"):
        ActivationVerbalizer(random_model(vocab_size=len(lab_tokenizer)), lab_tokenizer, wrong)


@pytest.mark.parametrize("missing", ["marker", "av_template"])
def test_an_av_needs_marker_and_template(missing, lab_tokenizer):
    with pytest.raises(SidecarError, match="an AV needs"):
        make_av(lab_tokenizer, **{missing: None})


@pytest.mark.parametrize("shape", [(2, 1), (2, D_MODEL + 1), (D_MODEL,)])
def test_activations_of_another_shape_are_refused(shape, lab_tokenizer):
    with pytest.raises(InjectionError, match="wrong activations"):
        make_av(lab_tokenizer).embed_after_prefix(torch.ones(shape))


@pytest.mark.invariant("16")
def test_every_training_response_ends_with_the_stop_token_which_is_no_part_of_its_text(
    lab_tokenizer,
):
    av = make_av(lab_tokenizer)
    texts = ["<explanation>\nThe mood is calm.\n</explanation>", "x"]
    ids, mask = av.encode_responses(texts)
    for row, real, text in zip(ids, mask, texts, strict=True):
        tokens = row[real].tolist()
        assert tokens[-1] == av.stop_id
        assert av.stop_id not in tokens[:-1]
        assert av.decode(tokens) == text


def test_the_injection_scale_of_the_sidecar_is_used(lab_tokenizer):
    for scale in (3.0, 80.0):
        embedded = make_av(lab_tokenizer, injection_scale=scale).embed_after_prefix(_activations())
        torch.testing.assert_close(embedded[:, 1].norm(dim=1), torch.full((2,), scale))
