"""Measure how far an explanation can be trusted: FVE with intervals, controls, and claims against
known truth.
"""

from gloss.evaluate.claims import ClaimScores, FactRows, score_claims
from gloss.evaluate.measure import EvaluateConfig, NLAFolders, evaluate
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
