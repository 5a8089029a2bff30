"""The shape of the source: file names, modules and functions that can be found and read."""

import ast
import dataclasses
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "gloss"
FILES = sorted(SOURCE.rglob("*.py"))
LONGEST_FUNCTION, LONGEST_MODULE = 60, 400


def functions(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or 0) - node.lineno + 1


def test_no_file_name_stands_in_two_packages():
    names = [file.name for file in FILES if file.name != "__init__.py"]
    assert len(names) > 150
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_no_module_is_too_long_to_be_read():
    lengths = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {name: n for name, n in lengths.items() if n > LONGEST_MODULE} == {}


def test_no_function_is_too_long_to_be_read():
    found = [(file.name, *one) for file in FILES for one in functions(file)]
    assert len(found) > 1000
    assert [one for one in found if one[2] > LONGEST_FUNCTION] == []


@pytest.mark.parametrize(
    "module",
    [
        *(
            f"gloss.contract.{name}"
            for name in ("explanation", "foreign_text", "marker", "sidecar")
        ),
        *(f"gloss.evaluate.{name}" for name in ("claims", "intervals", "measure", "round_trip")),
        "gloss.data.split",
        "gloss.nla.results",
    ],
)
def test_what_is_measured_and_recorded_cannot_be_changed_afterwards(module):
    found = vars(importlib.import_module(module)).values()
    own = [each for each in found if isinstance(each, type) and each.__module__ == module]
    records = [each for each in own if dataclasses.is_dataclass(each)]
    assert records
    assert all(each.__dataclass_params__.frozen for each in records)
