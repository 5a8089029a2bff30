"""Steering as evaluation: does an edited explanation make the target act otherwise, as it says?

h           = activation of a text's last token                                       [d_model]
own         = the AV's explanations of h that name the fact, one greedy and others sampled
others      = explanations of other texts that name such a fact, the text's own value put in
Δ           = mean over them of AR(explanation with the intended value) − AR(explanation)
edit        : h + α‖h‖Δ/‖Δ‖ at that token, Δ over ``own``
averaged    : the same, Δ over ``others``: what the edit means to the AR whatever the text
patch       : the activation of a text that truly holds the intended value
unrelated   : as edit, another fact of the same explanations edited
random      : as edit, a Gaussian direction
elsewhere   : the averaged edit at a token in the middle of the text
none        : nothing
α           = the best of a few for each edit, on texts of their own; controls take the larger
rate        = share of the texts that the target goes on with as the intended value has it"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from gloss.contract import Explanation
from gloss.engines import Engine, ResidualEdit, Rollout, TextRequest
from gloss.engines.decoding import DecodingBatch
from gloss.errors import ConfigError
from gloss.models import ActivationReconstructor, steering_offset
from gloss.nla.steering_rates import wilson
from gloss.plugins import SteeringBench, SteeringCase
from gloss.seeds import keyed_bits
from gloss.target_model import Target, capture_activations
from gloss.text.document import Document
from gloss.text.tokens import read_tokens

ALPHAS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
SAMPLES, OTHERS = 7, 64
ROWS_TOGETHER = 64
CONTINUED_TOKENS = 16


@dataclass(frozen=True)
class _Site:
    """A case's tokens, its activation [d_model] and that of its partner, and another token's
    place."""

    case: SteeringCase
    token_ids: Sequence[int]
    activation: Tensor
    partner: Tensor
    middle: int
    at_middle: Tensor

    @property
    def last(self) -> int:
        """The token whose activation is moved."""
        return len(self.token_ids) - 1


Direction = Tensor | None
"""Of a site [d_model]; None where no explanation names the fact."""


def measure_steering(
    engine: Engine,
    ar: ActivationReconstructor,
    target: Target,
    layer: int,
    bench: SteeringBench,
    *,
    cases: int,
    tuned_on: int,
    max_new_tokens: int,
    seed: int,
) -> dict[str, Any]:
    """Rates with 95 % intervals on ``cases`` texts, by what was done; α was chosen on ``tuned_on``
    others. A text whose explanations do not name the fact counts as not steered.

    Raises: ConfigError without texts; ActivationError."""
    if cases < 1 or tuned_on < 1:
        raise ConfigError("too few texts to steer", expected="1 or more", found=(tuned_on, cases))
    sites = [_site(target, layer, case) for case in bench.cases(tuned_on + cases, seed)]
    explained = _explanations(engine, sites, max_new_tokens=max_new_tokens, seed=seed)
    directions = _directions(ar, bench, sites, explained, tuned_on)
    steering, tuning, tested = _Steering(target, layer, bench), sites[:tuned_on], sites[tuned_on:]
    by_alpha = {
        name: {
            alpha: _share(steering.acted(tuning, _at_last(tuning, of[:tuned_on], alpha)))
            for alpha in ALPHAS
        }
        for name, of in directions.items()
        if name != "unrelated"
    }
    best = {name: max(rates, key=rates.__getitem__) for name, rates in by_alpha.items()}
    left = {name: of[tuned_on:] for name, of in directions.items()}
    acted = {
        name: steering.acted(tested, offsets)
        for name, offsets in _all_offsets(tested, left, best, seed).items()
    }
    return {
        "kind": sites[0].case.kind,
        "n_texts": len(tested),
        "named": _share([direction is not None for direction in left["edit"]]),
        "alpha": best,
        "by_alpha": {
            name: {f"{alpha:g}": rate for alpha, rate in rates.items()}
            for name, rates in by_alpha.items()
        },
        "rates": {name: _rate(found) for name, found in acted.items()},
    }


Offsets = list[tuple[int, Tensor] | None]
"""By site the token and the offset [d_model] added there; None for no change."""


@dataclass(frozen=True)
class _Steering:
    target: Target
    layer: int
    bench: SteeringBench

    @torch.inference_mode()
    def acted(self, sites: Sequence[_Site], offsets: Offsets) -> list[bool]:
        """Which sites go on as intended, greedily, when their activations are moved."""
        batch = DecodingBatch(self.target, max_rows=ROWS_TOGETHER)
        continued: dict[int, Rollout] = {}
        for start in range(0, len(sites), ROWS_TOGETHER):
            for key in range(start, min(start + ROWS_TOGETHER, len(sites))):
                batch.add(key, self._request(sites[key], offsets[key]))
            continued |= batch.finish()
        return [
            self.bench.shown(site.case.kind, continued[key].text) == site.case.intended
            for key, site in enumerate(sites)
        ]

    def _request(self, site: _Site, offset: tuple[int, Tensor] | None) -> TextRequest:
        edit = None
        if offset is not None:
            place, vector = offset
            edit = ResidualEdit(self.layer, [place], vector.unsqueeze(0))
        return TextRequest(site.token_ids, 0.0, CONTINUED_TOKENS, 0, edit)


def _site(target: Target, layer: int, case: SteeringCase) -> _Site:
    ids, other = (
        read_tokens(target.tokenizer, Document("", text)).token_ids
        for text in (case.text, case.partner)
    )
    activations, partners = (_activations(target, layer, one) for one in (ids, other))
    middle = (len(ids) - 1) // 2
    return _Site(case, ids, activations[-1], partners[-1], middle, activations[middle])


@torch.inference_mode()
def _activations(target: Target, layer: int, ids: Sequence[int]) -> Tensor:
    row = torch.tensor([list(ids)], device=target.model.device)
    return capture_activations(target.model, row, None, layer)[0].float().cpu()


def _explanations(
    engine: Engine, sites: Sequence[_Site], *, max_new_tokens: int, seed: int
) -> list[list[str]]:
    """Of every site what the AV writes, greedily and sampled, where it can be extracted."""
    activations = torch.stack([site.activation for site in sites])
    greedy = engine.generate(activations, temperature=0.0, max_new_tokens=max_new_tokens, seed=seed)
    sampled = engine.generate(
        activations,
        temperature=1.0,
        max_new_tokens=max_new_tokens,
        seed=seed,
        num_samples=SAMPLES,
    )
    return [
        [
            written.text
            for rollout in (greedy[i], *sampled[i * SAMPLES : (i + 1) * SAMPLES])
            if isinstance(written := rollout.explanation, Explanation)
        ]
        for i in range(len(sites))
    ]


def _directions(
    ar: ActivationReconstructor,
    bench: SteeringBench,
    sites: Sequence[_Site],
    explained: Sequence[Sequence[str]],
    num_others: int,
) -> dict[str, list[Direction]]:
    """The edits' directions by site; those averaged over others take explanations of the first
    ``num_others`` sites, whose own averaged directions nothing is tested on."""
    drawn = zip_longest(*explained[:num_others])
    others = [text for some in drawn for text in some if text is not None][:OTHERS]
    pairs: dict[str, list[list[tuple[str, str]]]] = {"edit": [], "averaged": [], "unrelated": []}
    for site, own in zip(sites, explained, strict=True):
        case, (kind, _, other) = site.case, site.case.unrelated
        named = [(bench.edited(text, case.kind, case.value), text) for text in others]
        averaged = [said for said, _ in named if said is not None]
        pairs["edit"].append(_edits(bench, own, case.kind, case.intended))
        pairs["averaged"].append(_edits(bench, averaged, case.kind, case.intended))
        pairs["unrelated"].append(_edits(bench, own, kind, other))
    texts = list(dict.fromkeys(t for of in pairs.values() for some in of for p in some for t in p))
    if not texts:
        return {name: [None] * len(sites) for name in pairs}
    rebuilt = dict(zip(texts, ar.reconstruct(texts).float().cpu(), strict=True))
    return {
        name: [_mean([rebuilt[after] - rebuilt[before] for before, after in some]) for some in of]
        for name, of in pairs.items()
    }


def _edits(
    bench: SteeringBench, texts: Sequence[str], kind: str, value: str
) -> list[tuple[str, str]]:
    """Texts and what an edit makes of them, where it changes them."""
    edited = [(text, bench.edited(text, kind, value)) for text in texts]
    return [(before, after) for before, after in edited if after is not None and after != before]


def _mean(differences: Sequence[Tensor]) -> Direction:
    if not differences:
        return None
    mean = torch.stack(list(differences)).mean(dim=0)
    return mean if bool(mean.any()) else None


def _at_last(sites: Sequence[_Site], directions: Sequence[Direction], alpha: float) -> Offsets:
    return [
        None
        if direction is None
        else (site.last, steering_offset(site.activation, direction, alpha))
        for site, direction in zip(sites, directions, strict=True)
    ]


def _all_offsets(
    sites: Sequence[_Site],
    directions: Mapping[str, Sequence[Direction]],
    alphas: Mapping[str, float],
    seed: int,
) -> Mapping[str, Offsets]:
    own = torch.Generator().manual_seed(keyed_bits(seed, "", purpose="steering control") >> 1)
    random = [torch.randn(site.activation.shape, generator=own) for site in sites]
    larger = max(alphas.values())
    return {
        "none": [None] * len(sites),
        **{name: _at_last(sites, directions[name], alpha) for name, alpha in alphas.items()},
        "patch": [(site.last, site.partner - site.activation) for site in sites],
        "unrelated": _at_last(sites, directions["unrelated"], larger),
        "random": _at_last(sites, random, larger),
        "elsewhere": [
            None
            if direction is None
            else (site.middle, steering_offset(site.at_middle, direction, larger))
            for site, direction in zip(sites, directions["averaged"], strict=True)
        ],
    }


def _share(acted: Sequence[bool]) -> float:
    return sum(acted) / len(acted)


def _rate(acted: Sequence[bool]) -> dict[str, Any]:
    return {"rate": _share(acted), "ci95": wilson(sum(acted), len(acted))}
