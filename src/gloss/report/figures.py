"""The figures of the report; each is left out (None) where its numbers are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gloss.formatting import count, decimal, duration, finite, percent
from gloss.report.claims_tables import KindScores
from gloss.report.measures import controls
from gloss.report.svg import BAND, FAINT, FIRST, GRID, INK, MUTED, PAPER, SECOND, Drawing, draw
from gloss.report.trust_sections import MIN_CLAIMS
from gloss.store.run_files import section

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOWEST_FVE_DRAWN = -0.3
LINE_HEIGHT = 0.055
LONGEST_LABEL = 32
WIDE_INCHES, NARROW_INCHES = 7.4, 3.7

Series = tuple[list[int], list[float]]
Metrics = Sequence[Mapping[str, Any]]

TEXT_METRICS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "explanation_tokens": ("Tokens per explanation", partial(decimal, digits=1)),
    "failure_rate": ("Extraction failures", percent),
}

POINT_MEASURES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "fve": ("FVE, greedy", decimal),
    "fve_above_blind": ("FVE above the last words", decimal),
    "claims_right": ("Claims right, greedy", percent),
    "claims_right_sampled": ("Claims right, sampled", percent),
    "commonest": ("Commonest value of a kind", percent),
    "tokens": ("Tokens per explanation", partial(decimal, digits=1)),
}
"""What the series of checkpoints is drawn by: title and form."""


class Level(NamedTuple):
    """A number named at the right edge of the FVE figure; without a style it has no line."""

    label: str
    value: float
    colour: str
    style: str


def fve_figure(results: Mapping[str, Any], metrics: Metrics) -> Drawing | None:
    """FVE over RL steps beside the SFT level and the controls."""
    sampled, heldout = series(metrics, "fve_sampled"), series(metrics, "fve_heldout")
    if not sampled[0]:
        return None
    levels = _fve_levels(results, sampled, heldout)
    named = ", ".join(f"{level.label} {decimal(level.value)}" for level in levels)
    first, last = decimal(sampled[1][0]), decimal(sampled[1][-1])
    description = (
        f"Line chart of FVE over {len(sampled[0])} joint RL steps. Sampled FVE of the training"
        f" batch goes from {first} to {last}. Levels: {named}."
    )
    return draw("fve", description, lambda narrow: _paint_fve(narrow, sampled, heldout, levels))


def claims_figure(scores: Sequence[KindScores]) -> Drawing | None:
    """Precision and recall per kind between chance and the best reader."""
    rows = [row for row in scores if row.precision is not None or row.recall is not None]
    if not rows:
        return None
    named = "; ".join(
        f"{row.kind}: precision {percent(row.precision)}, recall {percent(row.recall)}, "
        f"best reader {percent(row.best_reader)}, chance {percent(row.chance)},"
        f" {row.n_claims} claims"
        for row in rows
    )
    description = f"Dot plot of claim scores per kind of fact. {named}."
    return draw("claims", description, lambda narrow: _paint_claims(narrow, rows))


def text_figure(metrics: Metrics) -> Drawing | None:
    """Explanation length and failure rate over RL steps."""
    panels = {name: values for name in TEXT_METRICS if (values := series(metrics, name))[0]}
    if not panels:
        return None
    named = []
    for name, (_, curve) in panels.items():
        title, form = TEXT_METRICS[name]
        named.append(f"{title} from {form(curve[0])} to {form(curve[-1])}")
    description = f"Line charts over joint RL steps. {'; '.join(named)}."
    return draw("text", description, lambda narrow: _paint_text(narrow, panels))


def points_figure(results: Mapping[str, Any]) -> Drawing | None:
    """What the series of checkpoints measured over RL steps, a panel each."""
    found = section(results, "series").get("points")
    rows = [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
    rows = [one for one in rows if isinstance(one.get("step"), int)]
    panels = {name: drawn for name in POINT_MEASURES if len((drawn := series(rows, name))[0]) > 1}
    if not panels:
        return None
    named = []
    for name, (_, values) in panels.items():
        title, form = POINT_MEASURES[name]
        named.append(f"{title} from {form(values[0])} to {form(values[-1])}")
    description = f"Line charts over joint RL steps, on rows set apart. {'; '.join(named)}."
    return draw("points", description, lambda narrow: _paint_points(narrow, panels))


def calibration_figure(results: Mapping[str, Any]) -> Drawing | None:
    """How often claims of a trust score are right, over the score."""
    score = section(section(results, "trust"), "score")
    points = [
        (predicted, true, int(finite(one.get("n")) or 0))
        for one in score.get("calibration") or []
        if (predicted := finite(one.get("predicted"))) is not None
        and (true := finite(one.get("true"))) is not None
    ]
    if not points:
        return None
    said = ", ".join(f"{percent(p)} said, {percent(t)} right" for p, t, _ in points)
    return draw(
        "calibration",
        f"Share of claims that is right over their trust score: {said}.",
        lambda narrow: _paint_calibration(narrow, points),
    )


def seconds_figure(results: Mapping[str, Any]) -> Drawing | None:
    """Bars of the time each stage took."""
    seconds = {name: finite(value) for name, value in section(results, "seconds").items()}
    stages = {n: value for n, value in seconds.items() if value is not None and n != "total"}
    if not stages:
        return None
    named = ", ".join(f"{name} {duration(value)}" for name, value in stages.items())
    description = f"Bar chart of time per stage: {named}."
    return draw("seconds", description, lambda narrow: _paint_seconds(narrow, stages))


def series(metrics: Metrics, name: str) -> Series:
    """Steps and values of one metric, without the steps that lack it."""
    rows = [row for row in metrics if finite(row.get(name)) is not None]
    return [row["step"] for row in rows], [float(row[name]) for row in rows]


def moving_mean(values: Sequence[float]) -> list[float]:
    """Centred mean over about a tenth of the curve; short curves stay as they are."""
    half = len(values) // 20
    windows = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def _fve_levels(results: Mapping[str, Any], sampled: Series, heldout: Series) -> list[Level]:
    fve = section(results, "fve")
    wanted: list[tuple[str, Any, str, str]] = [
        ("RL greedy", fve.get("rl", heldout[1][-1] if heldout[1] else None), SECOND, ""),
        ("RL sampled", fve.get("rl_sampled", sampled[1][-1]), FIRST, ""),
        ("SFT greedy", fve.get("sft"), SECOND, "--"),
        ("SFT sampled", fve.get("sft_sampled"), FIRST, "--"),
    ]
    for name, level in controls(results).items():
        short = name.removesuffix(" activations").removesuffix(" activation")
        wanted.append((short, level, MUTED, ":"))
    return [
        Level(label, value, colour, style)
        for label, raw, colour, style in wanted
        if (value := finite(raw)) is not None
    ]


def _paint_fve(narrow: bool, sampled: Series, heldout: Series, levels: Sequence[Level]) -> Figure:
    figure = _figure(narrow, 3.7)
    axes = figure.subplots()
    values = [*sampled[1], *heldout[1], *(level.value for level in levels if level.style)]
    low = min(max(LOWEST_FVE_DRAWN, min(values)) - 0.06, -0.1)
    steps = [*sampled[0], *heldout[0]]
    axes.set(xlabel="joint RL step", ylim=(low, 1.02))
    axes.set_xlim(min(steps), max(max(steps), min(steps) + 1))
    axes.grid(axis="x", visible=False)
    axes.axhline(0, color=FAINT, linewidth=0.9)
    for _, value, colour, style in levels:
        if style and value >= low:
            axes.axhline(value, color=colour, linestyle=style, linewidth=1.1)
    _plot_smoothed(axes, sampled)
    dots: Any = {"linewidth": 0.8, "markersize": 4.5, "markeredgecolor": PAPER}
    axes.plot(*heldout, "o-", color=SECOND, clip_on=any(v < low for v in heldout[1]), **dots)
    _label_levels(axes, levels)
    return figure


def _plot_smoothed(axes: Axes, values: Series) -> None:
    axes.plot(*values, color=FIRST, linewidth=0.8, alpha=0.4)
    axes.plot(values[0], moving_mean(values[1]), color=FIRST, linewidth=2, solid_capstyle="round")


def _label_levels(axes: Axes, levels: Sequence[Level]) -> None:
    """Names the levels beside the right edge, apart from each other, each tied to its height."""
    low, high = axes.get_ylim()
    ordered = sorted(levels, key=lambda level: level.value)
    anchors = [min(max(level.value, low), high) for level in ordered]
    places = spread(anchors, LINE_HEIGHT * (high - low), low)
    beside: Any = axes.get_yaxis_transform()
    for level, anchor, place in zip(ordered, anchors, places, strict=True):
        tie, text = ([1.0, 1.035], [anchor, place]), f"{level.label} {decimal(level.value)}"
        axes.plot(*tie, color=FAINT, linewidth=0.6, transform=beside, clip_on=False)
        text = f"↓ {text}" if level.value < low else text
        axes.text(1.05, place, text, color=level.colour, va="center", size=8.2, transform=beside)


def spread(anchors: Sequence[float], gap: float, low: float) -> list[float]:
    """Places for labels wanted at ascending ``anchors``: at least ``gap`` apart and none below
    ``low``."""
    groups: list[list[float]] = []

    def bottom(group: Sequence[float]) -> float:
        return max(low, sum(group) / len(group) - gap * (len(group) - 1) / 2)

    for anchor in anchors:
        groups.append([anchor])
        while len(groups) > 1 and bottom(groups[-2]) + gap * len(groups[-2]) > bottom(groups[-1]):
            last = groups.pop()
            groups[-1].extend(last)
    return [bottom(group) + gap * i for group in groups for i in range(len(group))]


def _paint_claims(narrow: bool, rows: Sequence[KindScores]) -> Figure:
    figure = _figure(narrow, 0.78 + 0.36 * len(rows))
    axes = figure.subplots()
    kinds = [_label(row.kind) for row in rows]
    if narrow:
        kinds = [f"{kind} ({count(row.n_claims)})" for kind, row in zip(kinds, rows, strict=True)]
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.45, -0.55))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_yticks(range(len(rows)), kinds, color=INK)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    for place, row in enumerate(rows):
        _paint_kind(axes, place, row)
    if not narrow:
        numbers = [f"{count(row.n_claims)} / {count(row.n_known)}" for row in rows]
        beside: Any = {"color": MUTED, "transform": axes.get_yaxis_transform()}
        axes.text(1.03, -0.62, "claims / known", va="bottom", size=7.5, **beside)
        for place, text in enumerate(numbers):
            axes.text(1.03, place, text, va="center", size=8.2, **beside)
    return figure


def _paint_kind(axes: Axes, place: int, row: KindScores) -> None:
    chance, ceiling = row.chance, row.best_reader
    if chance is not None and ceiling is not None:
        axes.barh(place, ceiling - chance, left=chance, height=0.3, color=BAND, linewidth=0)
    for value, colour in ((chance, MUTED), (ceiling, INK)):
        if value is not None:
            axes.plot([value] * 2, [place - 0.24, place + 0.24], color=colour, linewidth=1.6)
    if row.recall is not None:
        diamond: Any = {"markersize": 5.6, "markeredgecolor": SECOND, "markeredgewidth": 1.5}
        axes.plot(row.recall, place, "D", color=PAPER, clip_on=False, **diamond)
    if row.precision is not None:
        dot: Any = {"markersize": 8.2, "markeredgecolor": PAPER}
        alpha = 0.4 if row.n_claims < MIN_CLAIMS else 1.0
        axes.plot(row.precision, place, "o", color=FIRST, alpha=alpha, clip_on=False, **dot)


def _paint_text(narrow: bool, panels: Mapping[str, Series]) -> Figure:
    rows, columns = (len(panels), 1) if narrow else (1, len(panels))
    figure = _figure(narrow, 2.0 * rows)
    for place, (name, values) in enumerate(panels.items(), start=1):
        title, form = TEXT_METRICS[name]
        axes = figure.add_subplot(rows, columns, place)
        _plot_smoothed(axes, values)
        axes.set(title=title, xlabel="joint RL step", ylim=(0, max(values[1]) * 1.15 or 0.01))
        axes.margins(x=0)
        axes.grid(axis="x", visible=False)
        axes.locator_params(axis="y", nbins=5)
        if form is percent:
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}\u00a0%")
    return figure


def _paint_points(narrow: bool, panels: Mapping[str, Series]) -> Figure:
    columns = 2 if narrow else 3
    rows = -(-len(panels) // columns)
    figure = _figure(narrow, 1.75 * rows)
    for place, (name, values) in enumerate(panels.items(), start=1):
        title, form = POINT_MEASURES[name]
        axes = figure.add_subplot(rows, columns, place)
        axes.plot(*values, "-o", color=FIRST, markersize=4.5, markeredgecolor=PAPER, clip_on=False)
        low, high = min(0.0, *values[1]), max(0.01, *values[1])
        axes.set(ylim=(1.15 * low, 1.15 * high))
        axes.set_title(title, fontsize=8.2)
        axes.margins(x=0)
        axes.grid(axis="x", visible=False)
        axes.locator_params(axis="both", nbins=4)
        if form is percent:
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}\u00a0%")
    return figure


def _paint_calibration(narrow: bool, points: Sequence[tuple[float, float, int]]) -> Figure:
    figure = _figure(narrow, 3.0)
    axes = figure.subplots()
    ticks = [0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"]
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="trust score", ylabel="claims that are right")
    axes.set_xticks(*ticks)
    axes.set_yticks(*ticks)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2)
    said, true, _ = zip(*points, strict=True)
    axes.plot(said, true, "-o", color=FIRST, markersize=6.5, markeredgecolor=PAPER, clip_on=False)
    return figure


def _paint_seconds(narrow: bool, stages: Mapping[str, float]) -> Figure:
    figure = _figure(narrow, 0.2 + 0.25 * len(stages))
    axes = figure.subplots()
    places, seconds = range(len(stages)), list(stages.values())
    bars = axes.barh(places, seconds, height=0.52, color=FIRST, alpha=0.75)
    axes.bar_label(bars, list(map(duration, seconds)), padding=5, color=MUTED, fontsize=8.2)
    axes.set_yticks(places, list(map(_label, stages)), color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, max(*seconds, 1e-9) * (1.3 if narrow else 1.5))
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.axvline(0, color=GRID, linewidth=0.9)
    return figure


def _label(name: str) -> str:
    return name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"


def _figure(narrow: bool, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(NARROW_INCHES if narrow else WIDE_INCHES, height))
