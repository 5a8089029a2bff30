import pytest
import torch

from gloss.contract import InjectionMarker
from gloss.errors import ActivationError, InjectionError
from gloss.models import inject, injection_sites

MARKER = InjectionMarker("㈎", 7, 3, 4)
IDS = torch.tensor([[7, 3, 7, 4, 7], [3, 7, 4, 7, 3]])
SITES = torch.tensor([2, 1])


def _embeddings(dtype=torch.float32):
    return torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)).to(dtype)


def _activations():
    return torch.randn(2, 8, generator=torch.Generator().manual_seed(1))


def _inject(embeddings=None, ids=IDS, activations=None, scale=5.0):
    embeddings = _embeddings() if embeddings is None else embeddings
    activations = _activations() if activations is None else activations
    return inject(embeddings, ids, activations, marker=MARKER, injection_scale=scale)


@pytest.mark.invariant("1")
def test_the_activation_takes_the_markers_place_at_the_injection_scale_and_nothing_else_changes():
    injected, rows = _inject(), torch.arange(2)
    torch.testing.assert_close(injected[rows, SITES].norm(dim=1), torch.tensor([5.0, 5.0]))
    cosines = torch.cosine_similarity(injected[rows, SITES], _activations())
    torch.testing.assert_close(cosines, torch.ones(2))
    others = torch.ones(2, 5, dtype=torch.bool)
    others[rows, SITES] = False
    assert torch.equal(injected[others], _embeddings()[others])


@pytest.mark.parametrize("factor", [1e-20, 1e-3, 7.0, 1e20])
def test_an_activations_own_norm_does_not_reach_the_model(factor):
    torch.testing.assert_close(_inject(activations=_activations() * factor), _inject())


def test_a_sidecar_that_says_raw_injects_the_activation_as_it_is():
    injected = _inject(scale=None)
    assert torch.equal(injected[torch.arange(2), SITES], _activations())


@pytest.mark.invariant("4")
def test_the_marker_needs_its_id_and_both_neighbours():
    assert injection_sites(IDS, MARKER).nonzero().tolist() == [[0, 2], [1, 1]]
    for ids in ([3, 7, 5], [5, 7, 4], [3, 8, 4], [7, 4, 3], [4, 3, 7]):
        assert not injection_sites(torch.tensor([ids]), MARKER).any()


@pytest.mark.invariant("4", "marker-count")
@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ([[3, 7, 4, 3, 7, 4], [3, 7, 4, 9, 9, 9]], r"\[2, 1\]"),
        ([[3, 7, 5, 9, 9, 9], [3, 7, 4, 9, 9, 9]], r"\[0, 1\]"),
        ([[3, 7, 4, 9, 9, 9]], r"\[1\] in 1 rows"),
    ],
)
def test_marker_sites_and_activations_must_be_equally_many(ids, found):
    embeddings = torch.ones(len(ids), 6, 8)
    with pytest.raises(InjectionError, match=f"do not match.*{found}"):
        _inject(embeddings, torch.tensor(ids))


def test_an_activation_of_another_width_is_refused():
    with pytest.raises(InjectionError, match="width: expected 8, found 1"):
        _inject(activations=torch.ones(2, 1))


@pytest.mark.invariant("gold-without-direction")
@pytest.mark.parametrize("scale", [5.0, None])
@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_an_activation_without_direction_is_never_injected(bad, scale):
    activations = _activations()
    activations[1] = bad
    with pytest.raises(ActivationError, match="row 1 has no direction"):
        _inject(activations=activations, scale=scale)


@pytest.mark.invariant("float16-norms")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_injection_keeps_the_models_number_format_but_scales_in_float32(dtype):
    tiny = _activations() * 1e-30
    injected = _inject(_embeddings(dtype), activations=tiny)
    assert injected.dtype == dtype
    norms = injected[torch.arange(2), SITES].float().norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([5.0, 5.0]), rtol=1e-2, atol=0)
