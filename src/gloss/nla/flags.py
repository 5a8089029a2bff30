"""Reasons to distrust an activation, the same wherever results are shown."""

from __future__ import annotations

from collections.abc import Mapping

OUTLIER_FACTOR = 2.0
FIRST_USUAL_POSITION = 10


def activation_flags(
    *,
    norm: float,
    norm_statistics: Mapping[str, float],
    position: int | None = None,
    min_position: int | None = None,
    special: bool = False,
) -> tuple[str, ...]:
    """``early position``, ``special token`` and ``norm outlier``, where they apply.

    The first ten positions are early, and all before ``min_position``, the first that the NLA was
    trained on; ``norm_statistics`` are those of its training activations."""
    first, usual = max(FIRST_USUAL_POSITION, min_position or 0), norm_statistics.get("p99")
    reasons = {
        "early position": position is not None and position < first,
        "special token": special,
        "norm outlier": usual is not None and norm > OUTLIER_FACTOR * usual,
    }
    return tuple(reason for reason, applies in reasons.items() if applies)
