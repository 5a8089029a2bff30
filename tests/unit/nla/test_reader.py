from dataclasses import replace

import pytest
import torch
from tiny_nla import D_MODEL, LAYER, with_bos

from gloss.errors import SidecarError
from gloss.models import load_ar, save_ar
from gloss.nla import NLA
from gloss.text.document import Document

TEXT = "The mood is calm and Ada is here while it rains at the harbor and the gulls sleep"


@pytest.mark.invariant("15")
def test_activations_are_the_raw_output_of_block_k(nla_folder):
    """Not hidden_states[K], as the reference's README has it, and not normalised."""
    nla = NLA(nla_folder)
    ids = nla.tokens(TEXT).token_ids
    with torch.inference_mode():
        hidden = nla.target.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    torch.testing.assert_close(nla.activations(TEXT), hidden[LAYER + 1][0])
    assert (nla.activations(TEXT) - hidden[LAYER][0]).abs().max() > 1e-2
    assert nla.activations(TEXT).norm(dim=1).std() > 1e-2


@pytest.mark.invariant("3")
def test_early_positions_are_flagged_in_every_result(nla_folder):
    found = NLA(nla_folder).explain(TEXT, positions=[0, 11, 12])
    assert ["early position" in item.flags for item in found] == [True, True, False]


@pytest.mark.invariant("3")
def test_the_first_ten_positions_are_flagged_even_if_they_were_trained_on(nla_folder):
    nla = NLA(nla_folder)
    nla.recorded = nla.recorded.model_copy(update={"min_position": 0})
    found = nla.explain(TEXT, positions=[9, 10])
    assert ["early position" in item.flags for item in found] == [True, False]


@pytest.mark.invariant("3")
def test_special_tokens_are_flagged_also_those_that_the_tokenizer_gives_no_name(nla_folder):
    nla = NLA(nla_folder)
    tokenizer = nla.target.tokenizer
    tokenizer.add_tokens(["<|header|>"], special_tokens=True)
    nla.target.model.resize_token_embeddings(len(tokenizer))
    assert tokenizer.convert_tokens_to_ids("<|header|>") not in tokenizer.all_special_ids
    text = Document("d", "<|im_start|>user<|header|> hello", rendered=True)
    found = nla.explain(text, positions=[0, 2, -1])
    assert ["special token" in item.flags for item in found] == [True, True, False]


@pytest.mark.invariant("3")
def test_a_norm_far_above_the_training_datas_is_flagged(nla_folder):
    direction = torch.nn.functional.normalize(torch.ones(1, D_MODEL))
    flags = [NLA(nla_folder).explain(direction * norm)[0].flags for norm in (99.0, 101.0)]
    assert ["norm outlier" in found for found in flags] == [False, True]


@pytest.mark.invariant("6")
def test_a_text_that_brings_its_own_bos_has_one(nla_folder):
    nla = NLA(nla_folder)
    tokenizer = with_bos(nla.target.tokenizer)
    tokenizer.save_pretrained(nla_folder / "target")
    bos = tokenizer.bos_token_id
    own = Document("d", tokenizer.bos_token + TEXT, rendered=True)
    with_own, without = (NLA(nla_folder).tokens(text).token_ids for text in (own, TEXT))
    assert with_own == without
    assert without.count(bos) == 1
    assert without[0] == bos


@pytest.mark.invariant("5")
def test_halves_of_different_layers_do_not_read_together(nla_folder):
    ar = load_ar(nla_folder / "ar")
    shallow = type(ar).from_target(
        ar.backbone, LAYER - 1, ar.tokenizer, replace(ar.sidecar, layer=LAYER - 1)
    )
    save_ar(shallow, nla_folder / "ar")
    with pytest.raises(SidecarError, match="different activations: layer: expected 2, found 1"):
        NLA(nla_folder).reconstruct(["x"])


def test_a_failed_extraction_is_none_with_a_flag_and_no_score(nla_folder):
    item = NLA(nla_folder).explain(TEXT)[0]
    assert (item.text, item.fve, item.cosine) == (None, None, None)
    assert "extraction failed" in item.flags
    assert item.response
