"""The figures of the report: FVE over RL, claims against their ceiling, text over RL, time per
stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gloss.report.claims_tables import KindScores
from gloss.report.formatting import count, decimal, duration, finite, percent
from gloss.report.headline import CONTROL_NAMES
from gloss.report.run_files import section
from gloss.report.svg import BAND, FAINT, FIRST, GRID, INK, MUTED, PAPER, SECOND, Drawing, draw
from gloss.report.trust_sections import MIN_CLAIMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOWEST_FVE_DRAWN = -0.3
WIDE_INCHES, NARROW_INCHES = 7.4, 3.7

Series = tuple[list[int], list[float]]
Metrics = Sequence[Mapping[str, Any]]


def fve_figure(results: Mapping[str, Any], metrics: Metrics) -> Drawing | None:
    """FVE over RL steps beside the SFT level and the controls; None without a curve to draw."""
    sampled, heldout = series(metrics, "fve_sampled"), series(metrics, "fve_heldout")
    if not sampled[0]:
        return None
    levels = _fve_levels(results, sampled, heldout)
    told = ", ".join(f"{label} {decimal(value)}" for label, value, _, _ in levels)
    first, last = decimal(sampled[1][0]), decimal(sampled[1][-1])
    description = (
        f"Line chart of FVE over {len(sampled[0])} joint RL steps. Sampled FVE of the training"
        f" batch goes from {first} to {last}. Levels: {told}."
    )
    return draw("fve", description, lambda narrow: _paint_fve(narrow, sampled, heldout, levels))


def claims_figure(scores: Sequence[KindScores]) -> Drawing | None:
    """Precision and recall per kind between chance and the probe's ceiling; None without claims."""
    rows = [row for row in scores if row.precision is not None or row.recall is not None]
    if not rows:
        return None
    told = "; ".join(
        f"{row.kind}: precision {percent(row.precision)}, recall {percent(row.recall)}, "
        f"probe {percent(row.probe_ceiling)}, chance {percent(row.chance)}, {row.n_claims} claims"
        for row in rows
    )
    return draw(
        "claims",
        f"Dot plot of claim scores per kind of fact. {told}.",
        lambda narrow: _paint_claims(narrow, rows),
    )


def text_figure(metrics: Metrics) -> Drawing | None:
    """Explanation length and failure rate over RL steps; None where neither was logged."""
    tokens, failures = series(metrics, "explanation_tokens"), series(metrics, "failure_rate")
    panels = [
        (title, values, share)
        for title, values, share in (
            ("Tokens per explanation", tokens, False),
            ("Extraction failures", failures, True),
        )
        if values[0]
    ]
    if not panels:
        return None
    told = "; ".join(
        f"{title} from {_shown(values[1][0], share)} to {_shown(values[1][-1], share)}"
        for title, values, share in panels
    )
    return draw(
        "text",
        f"Line charts over joint RL steps. {told}.",
        lambda narrow: _paint_text(narrow, panels),
    )


def seconds_figure(results: Mapping[str, Any]) -> Drawing | None:
    """Bars of the time each stage took; None where it was not measured."""
    measured = {
        name: finite(value)
        for name, value in section(results, "seconds").items()
        if name != "total"
    }
    stages = {name: value for name, value in measured.items() if value is not None}
    if not stages:
        return None
    told = ", ".join(f"{name} {duration(value)}" for name, value in stages.items())
    return draw(
        "seconds",
        f"Bar chart of time per stage: {told}.",
        lambda narrow: _paint_seconds(narrow, stages),
    )


def series(metrics: Metrics, name: str) -> Series:
    """Steps and values of one metric, without the steps that lack it."""
    points = [
        (int(row["step"]), value) for row in metrics if (value := finite(row.get(name))) is not None
    ]
    return [step for step, _ in points], [value for _, value in points]


def moving_mean(values: Sequence[float]) -> list[float]:
    """Centred mean over about a tenth of the curve; short curves stay as they are."""
    half = len(values) // 20
    windows = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]


Level = tuple[str, float, str, str]


def _fve_levels(results: Mapping[str, Any], sampled: Series, heldout: Series) -> list[Level]:
    """Label, value, colour and line style (empty: no line) of everything named at the
    right edge.
    """
    fve, controls = section(results, "fve"), section(results, "controls")
    wanted: list[tuple[str, Any, str, str]] = [
        ("RL greedy", fve.get("rl", heldout[1][-1] if heldout[1] else None), SECOND, ""),
        ("RL sampled", fve.get("rl_sampled", sampled[1][-1]), FIRST, ""),
        ("SFT greedy", fve.get("sft"), SECOND, "--"),
        ("SFT sampled", fve.get("sft_sampled"), FIRST, "--"),
        *((_short(name), controls.get(key), MUTED, ":") for key, name in CONTROL_NAMES.items()),
    ]
    return [
        (label, value, colour, style)
        for label, raw, colour, style in wanted
        if (value := finite(raw)) is not None
    ]


def _short(control: str) -> str:
    return control.removesuffix(" activations").removesuffix(" activation")


def _paint_fve(narrow: bool, sampled: Series, heldout: Series, levels: Sequence[Level]) -> Figure:
    figure, axes = _canvas(
        narrow, height=3.7, left=0.42, right=1.32 if narrow else 1.75, bottom=0.48, top=0.12
    )
    values = [*sampled[1], *heldout[1], *(value for _, value, _, style in levels)]
    low = max(LOWEST_FVE_DRAWN, min(values)) - 0.06
    axes.set_ylim(min(low, -0.1), 1.02)
    steps = [*sampled[0], *heldout[0]]
    axes.set_xlim(min(steps), max(max(steps), min(steps) + 1))
    axes.axhline(0, color=FAINT, linewidth=0.9)
    for _, value, colour, style in levels:
        if style and value >= axes.get_ylim()[0]:
            axes.axhline(value, color=colour, linestyle=style, linewidth=1.1)
    axes.plot(*sampled, color=FIRST, linewidth=0.8, alpha=0.4)
    axes.plot(sampled[0], moving_mean(sampled[1]), color=FIRST, linewidth=2)
    hidden = any(value < axes.get_ylim()[0] for value in heldout[1])
    axes.plot(
        *heldout,
        "o-",
        color=SECOND,
        linewidth=0.8,
        markersize=4.5,
        markeredgecolor=PAPER,
        clip_on=hidden,
    )
    axes.set_xlabel("joint RL step")
    axes.grid(axis="x", visible=False)
    _label_levels(axes, levels, line_height=0.055)
    return figure


def _label_levels(axes: Axes, levels: Sequence[Level], *, line_height: float) -> None:
    low, high = axes.get_ylim()
    gap = line_height * (high - low)
    ordered = sorted(levels, key=lambda level: level[1])
    anchors = [min(max(value, low), high) for _, value, _, _ in ordered]
    transform = axes.get_yaxis_transform()
    for (label, value, colour, _), anchor, place in zip(
        ordered, anchors, spread(anchors, gap, low), strict=True
    ):
        axes.plot(
            [1.0, 1.035],
            [anchor, place],
            color=FAINT,
            linewidth=0.6,
            transform=transform,
            clip_on=False,
        )
        below = "↓ " if value < low else ""
        axes.text(
            1.05,
            place,
            f"{below}{label} {decimal(value)}",
            color=colour,
            va="center",
            fontsize=8.2,
            transform=transform,
        )


def spread(anchors: Sequence[float], gap: float, low: float) -> list[float]:
    """Places for labels wanted at ascending ``anchors``: at least ``gap`` apart and none below
    ``low``.
    """
    groups: list[list[float]] = []
    for anchor in anchors:
        groups.append([anchor])
        while len(groups) > 1 and _top(groups[-2], gap, low) + gap > _bottom(groups[-1], gap, low):
            last = groups.pop()
            groups[-1].extend(last)
    return [_bottom(group, gap, low) + gap * i for group in groups for i in range(len(group))]


def _bottom(group: Sequence[float], gap: float, low: float) -> float:
    return max(low, sum(group) / len(group) - gap * (len(group) - 1) / 2)


def _top(group: Sequence[float], gap: float, low: float) -> float:
    return _bottom(group, gap, low) + gap * (len(group) - 1)


def _paint_claims(narrow: bool, rows: Sequence[KindScores]) -> Figure:
    height = 0.78 + 0.36 * len(rows)
    labels = [f"{row.kind} ({count(row.n_claims)})" if narrow else row.kind for row in rows]
    figure, axes = _canvas(
        narrow,
        height=height,
        left=_label_inches(labels),
        right=0.2 if narrow else 1.5,
        bottom=0.44,
        top=0.22,
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.grid(axis="y", visible=False)
    beside = axes.get_yaxis_transform()
    for place, row in enumerate(rows):
        _paint_kind(axes, place, row)
        if not narrow:
            numbers = f"{count(row.n_claims)} / {count(row.n_known)}"
            axes.text(
                1.03, place, numbers, color=MUTED, va="center", fontsize=8.2, transform=beside
            )
    axes.set_yticks(range(len(rows)), labels, color=INK)
    if not narrow:
        axes.text(
            1.03, -0.62, "claims / known", color=MUTED, va="bottom", fontsize=7.5, transform=beside
        )
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.spines["left"].set_visible(False)
    return figure


def _paint_kind(axes: Axes, place: int, row: KindScores) -> None:
    chance, ceiling = row.chance, row.probe_ceiling
    if chance is not None and ceiling is not None:
        axes.barh(place, ceiling - chance, left=chance, height=0.3, color=BAND, linewidth=0)
    if chance is not None:
        axes.plot(
            [chance, chance],
            [place - 0.24, place + 0.24],
            color=MUTED,
            linewidth=1.6,
            solid_capstyle="butt",
        )
    if ceiling is not None:
        axes.plot(
            [ceiling, ceiling],
            [place - 0.24, place + 0.24],
            color=INK,
            linewidth=1.6,
            solid_capstyle="butt",
        )
    if row.recall is not None:
        axes.plot(
            row.recall,
            place,
            "D",
            color=PAPER,
            markeredgecolor=SECOND,
            markeredgewidth=1.5,
            markersize=5.6,
            clip_on=False,
        )
    if row.precision is not None:
        faint = 0.4 if row.n_claims < MIN_CLAIMS else 1.0
        axes.plot(
            row.precision,
            place,
            "o",
            color=FIRST,
            markeredgecolor=PAPER,
            markersize=8.2,
            clip_on=False,
            alpha=faint,
        )


def _paint_text(narrow: bool, panels: Sequence[tuple[str, Series, bool]]) -> Figure:
    from matplotlib.figure import Figure

    width = NARROW_INCHES if narrow else WIDE_INCHES
    shape = (len(panels), 1) if narrow else (1, len(panels))
    figure = Figure(figsize=(width, 2.0 * shape[0]))
    height = 2.0 * shape[0]
    figure.subplots_adjust(
        left=0.42 / width,
        right=1 - 0.14 / width,
        bottom=0.46 / height,
        top=1 - 0.3 / height,
        wspace=0.2,
        hspace=0.55,
    )
    for place, (title, values, share) in enumerate(panels):
        axes = figure.add_subplot(*shape, place + 1)
        axes.plot(*values, color=FIRST, linewidth=0.8, alpha=0.4)
        axes.plot(values[0], moving_mean(values[1]), color=FIRST, linewidth=2)
        axes.set_title(title)
        axes.set_ylim(0, max(values[1]) * 1.15 or 0.01)
        axes.margins(x=0)
        axes.grid(axis="x", visible=False)
        axes.set_xlabel("joint RL step")
        axes.locator_params(axis="y", nbins=5)
        if share:
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}\u00a0%")
    return figure


def _paint_seconds(narrow: bool, stages: Mapping[str, float]) -> Figure:
    height = 0.2 + 0.25 * len(stages)
    left = _label_inches(list(stages))
    figure, axes = _canvas(
        narrow, height=height, left=left, right=0.85 if narrow else 2.4, bottom=0.08, top=0.08
    )
    places = range(len(stages))
    axes.barh(places, list(stages.values()), height=0.52, color=FIRST, linewidth=0, alpha=0.75)
    axes.set_yticks(places, list(stages), color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, max(*stages.values(), 1e-9))
    axes.set_xticks([])
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.axvline(0, color=GRID, linewidth=0.9)
    for place, value in enumerate(stages.values()):
        axes.annotate(
            duration(value),
            (value, place),
            (5, 0),
            textcoords="offset points",
            va="center",
            color=MUTED,
            fontsize=8.2,
        )
    return figure


def _label_inches(labels: Sequence[str]) -> float:
    """Room for the longest label at the left, up to half of the narrow figure."""
    return min(0.3 + 0.072 * max(map(len, labels)), NARROW_INCHES / 2)


def _canvas(
    narrow: bool, *, height: float, left: float, right: float, bottom: float, top: float
) -> tuple[Figure, Axes]:
    """A figure with one set of axes and margins in inches."""
    from matplotlib.figure import Figure

    width = NARROW_INCHES if narrow else WIDE_INCHES
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    )
    return figure, axes


def _shown(value: float, share: bool) -> str:
    return percent(value) if share else decimal(value, 1)
