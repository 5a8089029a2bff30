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

    ``min_position`` is the first that the NLA was trained on; the first ten are outliers whatever
    it was trained on.
    ``norm_statistics`` are those of the training activations; without a ``p99`` no norm is an
    outlier."""
    flags = []
    if position is not None and position < max(FIRST_USUAL_POSITION, min_position or 0):
        flags.append("early position")
    if special:
        flags.append("special token")
    usual = norm_statistics.get("p99")
    if usual is not None and norm > OUTLIER_FACTOR * float(usual):
        flags.append("norm outlier")
    return tuple(flags)
