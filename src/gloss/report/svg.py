"""Matplotlib figures as inline SVG in the page's own colours and fonts, light and dark alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMES = ("ink", "muted", "faint", "grid", "first", "second", "band", "paper")
_COLOURS = [f"#0{digit}0{digit}0{digit}" for digit in "12345678"]
INK, MUTED, FAINT, GRID, FIRST, SECOND, BAND, PAPER = _COLOURS
"""Stand-ins for the page's colours of these names, which take their places in the markup."""
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.major.width": 0.7,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.08,
    "lines.solid_capstyle": "butt",
}


class Drawing(NamedTuple):
    """One figure in two widths, as SVG markup with what a screen reader says in its place."""

    wide: str
    narrow: str


def draw(name: str, description: str, paint: Callable[[bool], Figure]) -> Drawing:
    """Paints a figure for a desktop and, with ``paint(True)``, for a phone."""
    import matplotlib

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):  # type: ignore[dict-item]
        return Drawing(
            _inline(paint(False), f"{name}-w", description),
            _inline(paint(True), f"{name}-n", description),
        )


def _inline(figure: Figure, prefix: str, description: str) -> str:
    buffer = StringIO()
    figure.savefig(
        buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        _adapt(element, prefix)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-label", description)
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _adapt(element: ElementTree.Element, prefix: str) -> None:
    """Makes ids those of this figure alone, and colours the page's."""
    link = element.attrib.pop(f"{{{_XLINK}}}href", None)
    if link is not None:
        element.set("href", f"#{prefix}-{link.removeprefix('#')}")
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set(name, f"{prefix}-{value}")
        elif name in {"style", "clip-path", "fill", "stroke"}:
            value = re.sub(r"url\(#", f"url(#{prefix}-", value)
            for colour, css_name in zip(_COLOURS, _NAMES, strict=True):
                value = value.replace(colour, f"var(--{css_name})")
            element.set(name, value)
