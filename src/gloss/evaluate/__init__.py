"""How far an explanation can be trusted: FVE with intervals, controls, claims against truth."""

from typing import TYPE_CHECKING

from gloss.lazy import lazy_package

if TYPE_CHECKING:
    from gloss.evaluate.claims import ClaimScores, FactRows, score_claims
    from gloss.evaluate.evaluate_config import EvaluateConfig
    from gloss.evaluate.measure import NLAFolders, evaluate
    from gloss.evaluate.round_trip import RoundTrip, bootstrap_fve, control_fves, round_trip
    from gloss.plugins import ClaimJudge, JudgedClaim, Verdict

__all__ = [
    "ClaimJudge",
    "ClaimScores",
    "EvaluateConfig",
    "FactRows",
    "JudgedClaim",
    "NLAFolders",
    "RoundTrip",
    "Verdict",
    "bootstrap_fve",
    "control_fves",
    "evaluate",
    "round_trip",
    "score_claims",
]

lazy_package(__name__)
