"""A few rows as they are shown, drawn at random: not picked by how well they went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from gloss.evaluate.evaluate_config import EvaluateConfig
from gloss.evaluate.round_trip import RoundTrip
from gloss.models import cosine
from gloss.nla.flags import activation_flags
from gloss.plugins import ClaimJudge
from gloss.train.inputs import TrainingRows

CONTEXT_CHARS = 400


def random_examples(
    config: EvaluateConfig,
    judge: ClaimJudge | None,
    rows: TrainingRows,
    trip: RoundTrip,
    known: Sequence[Mapping[str, str]],
) -> list[dict[str, Any]]:
    """Rows drawn at random from different documents: not picked by how well they went."""
    picked: dict[str, int] = {}
    for index in np.random.default_rng(config.seed).permutation(len(rows)).tolist():
        picked.setdefault(rows.doc_ids[index], index)
    examples = []
    for i in list(picked.values())[: config.examples]:
        context, text = rows.contexts[i], trip.texts[i] or trip.rollouts[i].text
        claims = judge.judge(text, rows.doc_ids[i], context) if judge else []
        examples.append(
            {
                "doc_id": rows.doc_ids[i],
                "position": rows.positions[i],
                "token": rows.tokens[i],
                "text": context[-CONTEXT_CHARS:],
                "explanation": text,
                "fve": 1 - float(trip.errors[i]) / trip.variance,
                "cosine": cosine(float(trip.errors[i])),
                "flags": [*([] if trip.extracted[i] else ["failed"]), *_flags(rows, i)],
                "claims": [asdict(claim) for claim in claims],
                "facts": dict(known[i]),
            }
        )
    return examples


def _flags(rows: TrainingRows, index: int) -> tuple[str, ...]:
    norm = float(np.linalg.norm(rows.vectors[index].astype(np.float64)))
    usual, position = rows.sidecar.norm_statistics, rows.positions[index]
    return activation_flags(norm=norm, norm_statistics=usual, position=position)
