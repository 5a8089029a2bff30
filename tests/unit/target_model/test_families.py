"""What is captured, truncated, injected, generated, saved, padded and trained is what the family
itself computes, for all.
"""

import copy

import pytest
import torch
from family_models import D_MODEL, FAMILIES, LAYER, NUM_BLOCKS, WINDOW, family_model, text_side
from safetensors import safe_open

from gloss.contract import ModelSidecar, choose_marker
from gloss.engines import LocalEngine
from gloss.models import (
    ActivationReconstructor,
    ActivationVerbalizer,
    load_ar,
    load_av,
    save_ar,
    save_av,
)
from gloss.models.injection import inject
from gloss.target_model import (
    backbone_of,
    blocks_of,
    capture_activations,
    known_families,
    load_target,
    next_token_logits,
    output_logits,
    truncate_blocks,
)

AV_TEMPLATE = (
    "Explain this vector of a language model, in a few words: <concept>{injection_char}</concept>"
)
AR_TEMPLATE = "What a language model has in mind: <text>{explanation}</text> <activation>"
TEXTS = [
    "The mood is calm.",
    "Ada is here, and it rains at the harbor.\nThe story is set at dawn, and the gulls sleep.",
    "x",
]
LENGTHS = (13, 20, 1)


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def built(family, lab_tokenizer):
    """The model as the family's class makes it: for a wrapper, the wrapper."""
    return family_model(family, len(lab_tokenizer))


@pytest.fixture(scope="module")
def model(built):
    """The causal LM that Gloss works on: for a wrapper, its text side."""
    return text_side(built)


@pytest.fixture(scope="module")
def av(model, lab_tokenizer):
    return ActivationVerbalizer(model, lab_tokenizer, _sidecar(lab_tokenizer, "av"))


@pytest.fixture(scope="module")
def ar(model, lab_tokenizer):
    found = ActivationReconstructor.from_target(
        copy.deepcopy(model), LAYER, lab_tokenizer, _sidecar(lab_tokenizer, "ar")
    )
    return found.requires_grad_(False)


def _sidecar(tokenizer, role):
    return ModelSidecar(
        role=role,
        d_model=D_MODEL,
        layer=LAYER,
        injection_scale=20.0 if role == "av" else None,
        mse_scale=D_MODEL**0.5,
        marker=choose_marker(tokenizer, AV_TEMPLATE).marker,
        ar_suffix_ids=None,
        av_template=AV_TEMPLATE,
        ar_template=AR_TEMPLATE,
    )


def _activations(n=3):
    return torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(1))


def _ids(n=2, tokens=20):
    return torch.randint(10, 500, (n, tokens), generator=torch.Generator().manual_seed(0))


def _close(one, other, atol=1e-4):
    torch.testing.assert_close(one, other, atol=atol, rtol=1e-4)


def _whole_prompts(av, activations):
    ids = torch.tensor([av.prefix_ids + av.tail_ids]).expand(len(activations), -1)
    scale = av.sidecar.injection_scale
    return ids, inject(av.embedding(ids), ids, activations, marker=av.marker, injection_scale=scale)


def test_the_table_holds_every_family_of_the_registry():
    assert {family.model_type for family in FAMILIES} == set(known_families())


@pytest.mark.invariant("15")
def test_activation_k_is_hidden_state_k_plus_one(built):
    ids = _ids()
    with torch.inference_mode():
        hidden = built(ids, output_hidden_states=True).hidden_states
        captured = [capture_activations(built, ids, None, layer) for layer in range(NUM_BLOCKS)]
    for layer in range(NUM_BLOCKS - 1):
        _close(captured[layer], hidden[layer + 1], atol=1e-5)
    assert (captured[-1] - hidden[-1]).abs().max() > 1e-2, (
        "the last block's output stands before the final norm"
    )


@pytest.mark.invariant("last-block")
def test_the_last_block_is_captured_as_a_hook_sees_it(built):
    seen = []
    handle = blocks_of(built)[-1].register_forward_hook(
        lambda _m, _i, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.inference_mode():
        built(_ids())
        handle.remove()
        _close(capture_activations(built, _ids(), None, NUM_BLOCKS - 1), seen[0], atol=1e-5)


@pytest.mark.parametrize("layer", [0, LAYER])
def test_capture_runs_exactly_k_plus_one_blocks(built, layer):
    ran = []
    handles = [
        b.register_forward_pre_hook(lambda *_, i=i: ran.append(i))
        for i, b in enumerate(blocks_of(built))
    ]
    with torch.inference_mode():
        capture_activations(built, _ids(), None, layer)
    for handle in handles:
        handle.remove()
    assert ran == list(range(layer + 1))


def test_right_padding_changes_neither_activations_nor_next_tokens(built):
    rows = [_ids(1, length) for length in LENGTHS]
    ids = torch.stack(
        [torch.nn.functional.pad(row[0], (0, max(LENGTHS) - row.shape[1])) for row in rows]
    )
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)).long()
    with torch.inference_mode():
        padded, logits = (
            capture_activations(built, ids, mask, LAYER),
            next_token_logits(built, ids, mask),
        )
        for i, row in enumerate(rows):
            _close(padded[i, : LENGTHS[i]], capture_activations(built, row, None, LAYER)[0])
            _close(logits[i], built(row).logits[0, -1])


def test_logits_from_hidden_states_are_the_models_own(model):
    with torch.inference_mode():
        hidden = backbone_of(model)(input_ids=_ids()).last_hidden_state
        assert torch.equal(output_logits(model, hidden), model(_ids()).logits)


@pytest.mark.invariant("9")
def test_truncation_keeps_k_plus_one_blocks_and_their_config(model):
    backbone = copy.deepcopy(backbone_of(model))
    layer_types = getattr(backbone.config, "layer_types", None)
    truncate_blocks(backbone, LAYER)
    config = backbone.config
    assert len(blocks_of(backbone)) == LAYER == config.num_hidden_layers
    if layer_types is not None:
        assert config.layer_types == layer_types[:LAYER]
    if getattr(config, "mlp_only_layers", None):
        assert config.mlp_only_layers == [1]


def test_a_fresh_ar_gives_the_activation_of_its_own_prompt(ar, model):
    assert len(blocks_of(ar.backbone)) == LAYER + 1
    for text in TEXTS:
        ids = torch.tensor(ar.encode([text]))
        with torch.inference_mode():
            expected = capture_activations(model, ids, None, LAYER)[:, -1]
            _close(ar([text]), expected)


@pytest.mark.invariant("8")
def test_reconstructions_do_not_depend_on_their_batch(ar):
    with torch.inference_mode():
        alone = torch.cat([ar([text]) for text in TEXTS])
        _close(ar(TEXTS), alone)
        _close(ar.reconstruct(TEXTS, batch_size=2), alone)


@pytest.mark.invariant("7", "embedding-rounding")
def test_injection_stands_behind_the_embedding_scale(av, model, family):
    """The first block reads the activation at the injection scale, and every other token as the
    model itself embeds it.
    """
    ids, embedded = _whole_prompts(av, _activations())
    read, site = [], len(av.prefix_ids) + 1
    handle = blocks_of(model)[0].register_forward_pre_hook(
        lambda _m, inputs: read.append(inputs[0])
    )
    with torch.inference_mode():
        backbone_of(model)(input_ids=ids)
        backbone_of(model)(inputs_embeds=embedded)
    handle.remove()
    plain, injected = read
    others = [i for i in range(ids.shape[1]) if i != site]
    assert torch.equal(plain[:, others], injected[:, others])
    positions = (
        model.transformer.wpe.weight[site] if family.name == "gpt2" else torch.zeros(D_MODEL)
    )
    rows = injected[:, site] - positions
    _close(rows.norm(dim=-1), torch.full((3,), 20.0))
    _close(torch.nn.functional.cosine_similarity(rows, _activations(), dim=-1), torch.ones(3))


@pytest.mark.invariant("gemma3-wrapper")
def test_greedy_tokens_equal_generate_with_embeddings(av):
    ids, embedded = _whole_prompts(av, _activations())
    assert len(av.prefix_ids) > WINDOW, (
        "the prompt's beginning must be longer than a sliding window"
    )
    expected = av.model.generate(
        inputs_embeds=embedded,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=16,
        do_sample=False,
        eos_token_id=list(av.stop_ids),
        pad_token_id=av.pad_id,
    )
    rollouts = LocalEngine(av).generate(_activations(), temperature=0, max_new_tokens=16, seed=0)
    for row, rollout in zip(expected.tolist(), rollouts, strict=True):
        assert list(rollout.token_ids) == row[: len(rollout.token_ids)]
        assert rollout.text == av.decode(row[: len(rollout.token_ids)])
    assert sum(len(rollout.token_ids) for rollout in rollouts) >= 24


def _whole_sequence_logprobs(av, responses):
    rows = []
    for activation, response in zip(_activations(len(responses)), responses, strict=True):
        prompt, embedded = _whole_prompts(av, activation.unsqueeze(0))
        ids = torch.tensor([[*av.tokenizer.encode(response, add_special_tokens=False), av.stop_id]])
        logits = av.model(inputs_embeds=torch.cat([embedded, av.embedding(ids)], dim=1)).logits
        predicted = logits[0, prompt.shape[1] - 1 : -1].log_softmax(-1)
        rows.append(predicted[torch.arange(ids.shape[1]), ids[0]])
    return torch.cat(rows)


def test_the_shared_prefix_gives_log_probabilities_and_gradients_of_whole_sequences(av):
    ids, mask = av.encode_responses(TEXTS)
    av.model.train()
    shared, whole = (
        av.response_logprobs(_activations(), ids, mask),
        _whole_sequence_logprobs(av, TEXTS),
    )
    av.model.eval()
    _close(shared, whole)
    parameters = [parameter for parameter in av.model.parameters() if parameter.requires_grad]
    gradients = [
        torch.autograd.grad(loss.sum(), parameters, allow_unused=True) for loss in (shared, whole)
    ]
    largest = max(float(gradient.abs().max()) for gradient in gradients[1] if gradient is not None)
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=2e-5 * largest, rtol=1e-3)


def _names(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        return list(file.keys())


@pytest.mark.invariant("12")
def test_a_saved_av_loads_to_the_same_outputs(av, tmp_path):
    save_av(av, tmp_path / "av")
    loaded = load_av(tmp_path / "av")
    save_av(loaded, tmp_path / "again")
    assert _names(tmp_path / "av") == _names(tmp_path / "again")
    ids, mask = av.encode_responses(TEXTS)
    with torch.inference_mode():
        expected = av.response_logits(_activations(), ids, mask)
        assert torch.equal(loaded.response_logits(_activations(), ids, mask), expected)
        assert torch.equal(
            load_av(tmp_path / "again").response_logits(_activations(), ids, mask), expected
        )


def test_a_marker_row_added_to_the_embedding_is_saved_and_loaded(model, lab_tokenizer, tmp_path):
    grown, rows = copy.deepcopy(model), len(lab_tokenizer) + 1
    grown.resize_token_embeddings(rows)
    av = ActivationVerbalizer(grown, lab_tokenizer, _sidecar(lab_tokenizer, "av"))
    save_av(av, tmp_path / "av")
    loaded, (ids, mask) = load_av(tmp_path / "av"), av.encode_responses(TEXTS)
    with torch.inference_mode():
        logits = loaded.response_logits(_activations(), ids, mask)
        assert logits.shape[1] == rows == loaded.embedding.num_embeddings
        assert torch.equal(logits, av.response_logits(_activations(), ids, mask))


@pytest.mark.invariant("12")
def test_a_saved_ar_loads_to_the_same_outputs(ar, tmp_path):
    torch.nn.init.normal_(ar.head.weight, generator=torch.Generator().manual_seed(3))
    save_ar(ar, tmp_path / "ar")
    loaded = load_ar(tmp_path / "ar")
    save_ar(loaded, tmp_path / "again")
    assert _names(tmp_path / "ar") == _names(tmp_path / "again")
    with torch.inference_mode():
        assert torch.equal(loaded(TEXTS), ar(TEXTS))
        assert torch.equal(load_ar(tmp_path / "again")(TEXTS), ar(TEXTS))
    torch.nn.init.eye_(ar.head.weight)


@pytest.mark.invariant("12", "gemma3-wrapper")
def test_a_saved_target_loads_to_the_same_activations(built, lab_tokenizer, tmp_path):
    built.save_pretrained(tmp_path)
    lab_tokenizer.save_pretrained(tmp_path)
    target = load_target(tmp_path)
    assert (target.d_model, target.num_blocks) == (D_MODEL, NUM_BLOCKS)
    assert not any("vision" in name for name, _ in target.model.named_parameters())
    with torch.inference_mode():
        expected = capture_activations(built, _ids(), None, LAYER)
        assert torch.equal(capture_activations(target.model, _ids(), None, LAYER), expected)
        assert torch.equal(target.model(_ids()).logits, built(_ids()).logits)
