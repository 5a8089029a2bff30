"""Matplotlib figures as inline SVG whose colours and fonts are the page's, for light and dark
alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, FAINT, GRID, FIRST, SECOND, BAND, PAPER = (
    f"#0{digit}0{digit}0{digit}" for digit in "12345678"
)
_CSS_NAMES = {
    INK: "--ink", MUTED: "--muted", FAINT: "--faint", GRID: "--grid",
    FIRST: "--first", SECOND: "--second", BAND: "--band", PAPER: "--paper",
}  # fmt: skip
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": True,
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
    "axes.titlecolor": INK,
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
    "savefig.facecolor": "none",
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Drawing:
    """One figure in two widths, as SVG markup, with what a screen reader says in its place."""

    wide: str
    narrow: str
    description: str


def draw(name: str, description: str, paint: Callable[[bool], Figure]) -> Drawing:
    """Paints a figure for a desktop and for a phone; ``paint`` is told whether the narrow one is
    wanted.
    """
    import matplotlib

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):  # type: ignore[dict-item]
        wide, narrow = (
            _inline(paint(is_narrow), f"{name}-{width}", description)
            for is_narrow, width in ((False, "w"), (True, "n"))
        )
    return Drawing(wide, narrow, description)


def _inline(figure: Figure, prefix: str, description: str) -> str:
    buffer = StringIO()
    figure.savefig(
        buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
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
    link = element.attrib.pop(f"{{{_XLINK}}}href", None)
    if link is not None:
        element.set("href", f"#{prefix}-{link.removeprefix('#')}")
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set(name, f"{prefix}-{value}")
        elif name in {"style", "clip-path", "fill", "stroke"}:
            value = re.sub(r"url\(#", f"url(#{prefix}-", value)
            for colour, css_name in _CSS_NAMES.items():
                value = value.replace(colour, f"var({css_name})")
            element.set(name, value)
