"""Names are the field's: what docs/glossary.toml replaces stands in no identifier."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
SOURCE = REPO / "src" / "gloss"
GLOSSARY = tomllib.loads((REPO / "docs" / "glossary.toml").read_text(encoding="utf-8"))
FILES = sorted(f for f in SOURCE.rglob("*.py") if "lab" not in f.relative_to(SOURCE).parts)


def identifiers(text):
    """Every name that the source defines or uses."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.alias):
            yield from (node.asname or node.name).split(".")


def words(identifier):
    """The words of a snake_case or CamelCase name, in lower case."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", identifier)
    return [part.lower() for part in parts]


def replaced(text):
    """(identifier, what to say instead) for every identifier with such a word."""
    for name in dict.fromkeys(identifiers(text)):
        spelled = " ".join(words(name))
        for old, new in GLOSSARY["replaced"].items():
            if re.search(rf"\b{old}\b", spelled):
                yield name, new


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_identifiers_use_the_fields_words(file):
    allowed = GLOSSARY["allowed"].get(file.relative_to(SOURCE).as_posix(), [])
    found = [pair for pair in replaced(file.read_text(encoding="utf-8")) if pair[0] not in allowed]
    assert found == []


def test_what_is_allowed_is_still_there():
    for name, allowed in GLOSSARY["allowed"].items():
        there = {found for found, _ in replaced((SOURCE / name).read_text(encoding="utf-8"))}
        assert set(allowed) <= there, name


def test_a_word_is_found_in_any_spelling():
    text = "class TheOutbox:\n  def go_on(self, heat=1): return roomy_cache.told"
    found = {name for name, _ in replaced(text)}
    assert found == {"TheOutbox", "go_on", "heat", "roomy_cache", "told"}
