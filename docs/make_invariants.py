"""Writes docs/invariants.md: each rule of docs/invariants.toml with the tests that hold it.

A test says so itself: ``@pytest.mark.invariant("4")``. ``--check`` only says whether the page fits.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from itertools import groupby
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
PAGE = REPO / "docs" / "invariants.md"
RULES = REPO / "docs" / "invariants.toml"
HEAD = """\
# Invariants

What an NLA gets wrong silently, what Gloss does about it, and the tests that fail if it stops doing
so. Test ids are below `tests/`; a test names its rule with `@pytest.mark.invariant("ID")`, and
`make docs` writes this page from those marks and from `docs/invariants.toml`. `make mutants-named`
breaks the code in each of these ways and shows that the suite notices; `make mutants` in ways that
nobody chose.
"""


def rules() -> list[dict[str, str]]:
    """The rules, in order."""
    found: list[dict[str, str]] = tomllib.loads(RULES.read_text(encoding="utf-8"))["rule"]
    return found


def marked_tests() -> dict[str, list[str]]:
    """Ids of the tests that hold each rule."""
    marked: dict[str, list[str]] = {}
    for file in sorted((REPO / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                test = f"{file.relative_to(REPO / 'tests').as_posix()}::{node.name}"
                for rule in (i for mark in node.decorator_list for i in _rules_of(mark)):
                    marked.setdefault(rule, []).append(test)
    return marked


def _rules_of(mark: ast.expr) -> list[Any]:
    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.invariant":
        return [argument.value for argument in mark.args if isinstance(argument, ast.Constant)]
    return []


def page() -> str:
    """The text of the page."""
    marked = marked_tests()
    lines = [HEAD]
    for section, group in groupby(rules(), key=lambda rule: rule["section"]):
        lines += [f"## {section}\n", "| rule | what it says | what Gloss does | tests |"]
        lines += ["|---|---|---|---|"]
        for rule in group:
            tests = "<br>".join(f"`{test}`" for test in marked.get(rule["id"], []))
            lines.append(f"| {rule['id']} | {rule['text']} | {rule.get('does', '')} | {tests} |")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Writes or checks the page; 1 if it does not fit, or a rule has no test or is not known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if the page is old")
    wanted, marked = {rule["id"] for rule in rules()}, set(marked_tests())
    if wanted != marked:
        print(f"without a test: {wanted - marked}; unknown: {marked - wanted}", file=sys.stderr)
        return 1
    if parser.parse_args().check:
        if PAGE.read_text(encoding="utf-8") != page():
            print("docs/invariants.md is old: run make docs", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
