"""Ask a trained NLA: explain, reconstruct, score, steer, trust, compare, continue."""

from typing import TYPE_CHECKING

from gloss.lazy import lazy_package

if TYPE_CHECKING:
    from gloss.nla.compare import Side
    from gloss.nla.executor import Executor, LocalExecutor, RowEvent, run_now
    from gloss.nla.nla import NLA
    from gloss.nla.questions import Bounds, Questions, TooLarge
    from gloss.nla.request import Sampling, Selection
    from gloss.nla.results import (
        Comparison,
        Explanations,
        Score,
        TextContinuation,
        TokenExplanation,
        Trust,
    )
    from gloss.nla.selection import Source
    from gloss.nla.steering_result import Continuation, Steering
    from gloss.text.positions import parse_positions

lazy_package(__name__)
