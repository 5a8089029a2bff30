"""What the series of a run's checkpoints is measured by, small enough to be done on the way.

fve, fve_sampled   round trips, greedy and at temperature 1
fve_last_words     the text's last words in the form of the explanations: no activation was read
fve_above_blind    greedy FVE above that
failure_rate, loop_rate, tokens, distinct   how the texts are; the share of different ones
claims_right, claims_right_sampled, facts_right   precision, where a judge knows the truth
commonest          the share of the commonest value among a kind's claims, mean over kinds: collapse
kept               by rewrite the share of the FVE that is left, None at or below 0"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gloss.engines import Engine
from gloss.evaluate.blind import last_words_errors
from gloss.evaluate.claims import measure_claims
from gloss.evaluate.intervals import Documents
from gloss.evaluate.readers import FactRows
from gloss.evaluate.rewrites import measure_rewrites
from gloss.evaluate.round_trip import RoundTrip, round_trip
from gloss.models import ActivationReconstructor, fraction_of_variance_explained
from gloss.plugins import ClaimJudge
from gloss.train.inputs import TrainingRows

RESAMPLES = 100


@dataclass(frozen=True)
class SeriesOf:
    """Measures a point of a series; see the list above. ``judge`` knows what is true, if any."""

    judge: ClaimJudge | None
    max_new_tokens: int
    seed: int

    def __call__(
        self, engine: Engine, ar: ActivationReconstructor, rows: TrainingRows
    ) -> Mapping[str, Any]:
        """The numbers by name."""
        activations = torch.from_numpy(rows.vectors)
        greedy, sampled = (
            round_trip(
                engine,
                ar,
                activations,
                temperature=temperature,
                max_new_tokens=self.max_new_tokens,
                seed=self.seed,
            )
            for temperature in (0.0, 1.0)
        )
        documents = Documents.of(rows.doc_ids, resamples=RESAMPLES, seed=self.seed)
        rewrites = measure_rewrites(ar, greedy, activations, self.judge, documents, seed=self.seed)
        found: dict[str, Any] = {
            "fve": greedy.fve,
            "fve_sampled": sampled.fve,
            "failure_rate": greedy.failure_rate,
            "loop_rate": greedy.loop_rate,
            "tokens": greedy.mean_tokens,
            "distinct": len(set(greedy.texts)) / len(greedy.texts),
            "kept": {name: one["kept"] for name, one in rewrites.items()},
        }
        errors = last_words_errors(ar, greedy, activations, rows.contexts)
        if errors is not None:
            blind = fraction_of_variance_explained(errors, greedy.variance)
            found |= {"fve_last_words": blind, "fve_above_blind": greedy.fve - blind}
        return {**found, **self._claims(rows, greedy, sampled)}

    def _claims(
        self, rows: TrainingRows, greedy: RoundTrip, sampled: RoundTrip
    ) -> dict[str, float | None]:
        judge = self.judge
        if judge is None:
            return {}
        known = [judge.known(*row) for row in zip(rows.doc_ids, rows.contexts, strict=True)]
        measured = measure_claims(
            judge,
            {"rl": greedy.texts, "rl_sampled": sampled.texts},
            rows.doc_ids,
            rows.contexts,
            heldout=FactRows(rows.vectors, known, rows.doc_ids),
            probe_rows=None,
            resamples=RESAMPLES,
            seed=self.seed,
        )
        shares = [kind.commonest for kind in measured.kinds.values() if kind.commonest is not None]
        truth = measured.truth
        return {
            "claims_right": truth["rl"]["all"]["precision"],
            "claims_right_sampled": truth["rl_sampled"]["all"]["precision"],
            "facts_right": truth["rl"].get("facts", {}).get("precision"),
            "commonest": float(np.mean(shares)) if shares else None,
        }
