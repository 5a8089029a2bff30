"""Claims judged against known truth: right by kind, beside the best reader, chance and collapse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gloss.evaluate.intervals import Documents, Interval, Numbers
from gloss.evaluate.readers import BestReader, FactRows, best_reader
from gloss.evaluate.round_trip import other_documents
from gloss.plugins import ClaimJudge, FactKinds, JudgedClaim, fact_kinds

Judged = Sequence[Sequence[JudgedClaim]]


@dataclass(frozen=True)
class ClaimScores:
    """Of one kind: shares of claims and of known facts that are right, best reader and chance.

    ``majority`` is the share of the commonest value among the known facts. ``n_values``,
    ``commonest`` and ``entropy`` (bits) tell collapse: how many values are claimed, the share of
    the commonest, how evenly. ``above_chance_ci95`` is the 95 % interval of precision minus chance,
    resampling documents. ``held`` says whether activations hold the kind by how the target was
    made, None where nobody knows; a ``privileged`` kind is not in the text."""

    precision: float | None
    recall: float | None
    best_reader: float | None
    chance: float | None
    n_claims: int
    n_known: int
    majority: float | None = None
    n_values: int = 0
    commonest: float | None = None
    entropy: float | None = None
    precision_ci95: Interval | None = None
    above_chance_ci95: Interval | None = None
    best_reader_ci95: Interval | None = None
    linear_reader: float | None = None
    nonlinear_reader: float | None = None
    shuffled_reader: float | None = None
    held: bool | None = None
    privileged: bool | None = None


@dataclass(frozen=True)
class ClaimMeasures:
    """Scores of the greedy explanations after RL by kind, what is right over all kinds in every
    trip, and the facts known at each row."""

    kinds: dict[str, ClaimScores]
    truth: dict[str, Any]
    known: Sequence[Mapping[str, str]]


def measure_claims(
    judge: ClaimJudge,
    texts: Mapping[str, Sequence[str]],
    doc_ids: Sequence[str],
    contexts: Sequence[str],
    *,
    heldout: FactRows,
    probe_rows: FactRows | None,
    resamples: int = 2000,
    seed: int = 0,
) -> ClaimMeasures:
    """Judges the explanations [n] of every trip. The kinds are scored for ``texts["rl"]``; their
    ``chance`` judges the same texts against other documents."""
    places = list(zip(doc_ids, contexts, strict=True))
    others = [places[row] for row in other_documents(doc_ids, seed=seed)]
    documents = Documents.of(doc_ids, resamples=resamples, seed=seed)
    judged = {name: _judged(judge, some, places) for name, some in texts.items()}
    moved = _judged(judge, texts["rl"], others)
    kinds = {}
    for kind in sorted(_kinds(judged["rl"], moved).union(*heldout.known)):
        reader = None
        if probe_rows is not None:
            reader = best_reader(kind, probe_rows, heldout, resamples=resamples, seed=seed)
        scores = _scores(kind, judged["rl"], moved, heldout, documents)
        kinds[kind] = ClaimScores(**scores, **_reading(reader), **_standing(kind, judge))
    truth: dict[str, Any] = {
        name: _truth(claims, documents, fact_kinds(judge)) for name, claims in judged.items()
    }
    for how in ("", "_sampled"):
        if f"sft{how}" in judged and f"rl{how}" in judged:
            pair = judged[f"rl{how}"], judged[f"sft{how}"]
            truth[f"rl_over_sft{how}"] = _gain(*pair, documents, fact_kinds(judge))
    return ClaimMeasures(kinds, truth, heldout.known)


def _kinds(*judged: Judged) -> set[str]:
    return {claim.kind for some in judged for claims in some for claim in claims}


def _judged(
    judge: ClaimJudge, explanations: Sequence[str], places: Sequence[tuple[str, str]]
) -> Judged:
    return [judge.judge(text, *at) for text, at in zip(explanations, places, strict=True)]


def _scores(
    kind: str, judged: Judged, moved: Judged, heldout: FactRows, documents: Documents
) -> dict[str, Any]:
    claims, right = _per_row(judged, {kind})
    by_chance, right_by_chance = _per_row(moved, {kind})
    values = [claim.value for row in judged for claim in row if claim.kind == kind]
    known = np.array([kind in facts for facts in heldout.known], dtype=bool)
    precision, chance = (
        _shares(documents, *pair) for pair in ((right, claims), (right_by_chance, by_chance))
    )
    return {
        "precision": _share(right.sum(), claims.sum()),
        "recall": _share((right[known] > 0).sum(), known.sum()),
        "chance": _share(right_by_chance.sum(), by_chance.sum()),
        "n_claims": int(claims.sum()),
        "n_known": int(known.sum()),
        "majority": _share_of_commonest([facts[kind] for facts in heldout.known if kind in facts]),
        "n_values": len(set(values)),
        "commonest": _share_of_commonest(values),
        "entropy": _entropy(values),
        "precision_ci95": documents.interval(precision),
        "above_chance_ci95": documents.interval(precision - chance),
    }


def _reading(reader: BestReader | None) -> dict[str, Any]:
    if reader is None:
        return {"best_reader": None}
    return {
        "best_reader": reader.accuracy,
        "best_reader_ci95": reader.ci95,
        "linear_reader": reader.linear,
        "nonlinear_reader": reader.nonlinear,
        "shuffled_reader": reader.shuffled,
    }


def _standing(kind: str, judge: ClaimJudge) -> dict[str, Any]:
    known = fact_kinds(judge)
    if known is None:
        return {"held": None, "privileged": None}
    stands = kind in known.held or kind in known.text_only
    return {
        "held": kind in known.held if stands else None,
        "privileged": kind in known.privileged if stands else None,
    }


def _truth(judged: Judged, documents: Documents, known: FactKinds | None) -> dict[str, Any]:
    """What is right over all kinds; facts and privileged claims apart where kinds are known."""
    found: dict[str, Any] = {"all": _right(judged, documents, None)}
    if known is not None:
        not_held = _per_row(judged, known.text_only)[0] > 0
        found |= {
            "facts": _right(judged, documents, known.facts),
            "privileged": _right(judged, documents, known.privileged),
            "names_not_held": float(not_held.mean()),
        }
    return found


def _right(judged: Judged, documents: Documents, kinds: Collection[str] | None) -> dict[str, Any]:
    claims, right = _per_row(judged, kinds)
    return {
        "precision": _share(right.sum(), claims.sum()),
        "ci95": documents.interval(_shares(documents, right, claims)),
        "n_claims": int(claims.sum()),
    }


def _gain(
    after: Judged, before: Judged, documents: Documents, known: FactKinds | None
) -> dict[str, Any]:
    """Precision after RL minus before, in the same resamples."""
    found = {}
    for name, kinds in (("all", None), ("facts", known.facts if known else None)):
        if name == "facts" and known is None:
            continue
        parts = [_per_row(judged, kinds) for judged in (after, before)]
        shares = [_share(right.sum(), claims.sum()) for claims, right in parts]
        resampled = [_shares(documents, right, claims) for claims, right in parts]
        missing = shares[0] is None or shares[1] is None
        found[name] = {
            "precision": None if missing else shares[0] - shares[1],  # type: ignore[operator]
            "ci95": documents.interval(resampled[0] - resampled[1]),
        }
    return found


def _per_row(judged: Judged, kinds: Collection[str] | None) -> tuple[Numbers, Numbers]:
    """Of every row the number of its claims of some kinds (None: of any), and of the right ones."""
    verdicts = [
        [claim.verdict for claim in row if kinds is None or claim.kind in kinds] for row in judged
    ]
    claims = np.array([len(row) for row in verdicts], dtype=np.float64)
    return claims, np.array([row.count("right") for row in verdicts], dtype=np.float64)


def _shares(documents: Documents, part: Numbers, total: Numbers) -> Numbers:
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: Numbers = documents.sums(part) / documents.sums(total)
        return shares


def _share(part: float, total: float) -> float | None:
    return float(part / total) if total else None


def _share_of_commonest(values: Sequence[str]) -> float | None:
    return _share(max(Counter(values).values()), len(values)) if values else None


def _entropy(values: Sequence[str]) -> float | None:
    """In bits."""
    if not values:
        return None
    shares = np.array(list(Counter(values).values())) / len(values)
    return float(-(shares * np.log2(shares)).sum()) + 0.0
