"""The drawing of the house names files and tests that exist, and no package is left out."""

import re
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
SOURCE = REPO / "src" / "gloss"
PAGE = (REPO / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_file_it_names_exists():
    named = set(re.findall(r"\b[a-z_]+(?:/[a-z_]+)*/[a-z_]+\.(?:py|js|toml)\b", PAGE))
    named |= set(re.findall(r"`([a-z_]+\.py)`", PAGE))
    named -= {"docs/glossary.toml"} | {name for name in named if name.startswith("tests/")}
    assert len(named) > 40
    below = [name for name in named if not (SOURCE / name).is_file()]
    assert [name for name in below if not (REPO / "tests" / name).is_file()] == []


def test_every_package_stands_in_the_drawing():
    drawing = PAGE.split("```")[1]
    packages = [p.name for p in SOURCE.iterdir() if (p / "__init__.py").is_file()]
    assert [name for name in packages if not re.search(rf"\b{name}\b", drawing)] == []
