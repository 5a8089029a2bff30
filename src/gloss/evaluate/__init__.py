"""How far an explanation can be trusted: FVE with intervals, controls, claims against truth."""

from typing import TYPE_CHECKING

from gloss.lazy import lazy_package

if TYPE_CHECKING:
    from gloss.evaluate.claims import ClaimMeasures, ClaimScores, measure_claims
    from gloss.evaluate.evaluate_config import EvaluateConfig
    from gloss.evaluate.intervals import Documents, bootstrap_fve, bootstrap_gain
    from gloss.evaluate.measure import NLAFolders, evaluate, evaluate_nla
    from gloss.evaluate.readers import BestReader, FactRows, best_reader
    from gloss.evaluate.rewrites import measure_rewrites
    from gloss.evaluate.round_trip import RoundTrip, control_errors, control_fves, round_trip
    from gloss.evaluate.series_measures import SeriesOf
    from gloss.plugins import ClaimJudge, FactKinds, JudgedClaim, Verdict

lazy_package(__name__)
