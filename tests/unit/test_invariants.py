"""The table of invariants and the list of mutants name tests that exist, and mutants still fit the
source.
"""

import ast
import re
import subprocess
from functools import cache

import pytest
from mutants import REPO, Mutant, judge, located, mutated, read_mutants

TABLE = REPO / "docs" / "invariants.md"
MUTANTS = read_mutants()


@cache
def _tests_of(file):
    tree = ast.parse((REPO / "tests" / file).read_text(encoding="utf-8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def _exists(test):
    file, separator, name = test.partition("::")
    if not (REPO / "tests" / file).is_file():
        return False
    return not separator or name.partition("[")[0] in _tests_of(file)


def test_every_invariant_has_a_row_with_its_tests():
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 17))
    without = [number for number, tests in rows if ".py::test_" not in tests]
    assert not without


def test_every_test_named_in_the_table_exists():
    named = re.findall(r"`([\w/]+\.py::\w+)`", TABLE.read_text(encoding="utf-8"))
    assert len(named) > 80
    assert [test for test in named if not _exists(test)] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_source_and_names_tests_that_exist(mutant):
    mutated(mutant, REPO / "src" / "gloss")
    assert [located(test, REPO / "tests") for test in mutant.tests]
    assert mutant.tests


def test_there_are_mutants_enough():
    assert len(MUTANTS) >= 25


@pytest.mark.parametrize(
    ("returncode", "stdout", "state"),
    [
        (0, "3 passed", "SURVIVED"),
        (1, "FAILED tests/a.py::test_x - AssertionError: assert 1 == 2", "killed"),
        (1, "FAILED tests/a.py::test_x[a b] - assert 1 == 2", "killed"),
        (1, "FAILED tests/a.py::test_x - ImportError: no such name", "broken"),
        (1, "FAILED tests/a.py::test_x - NameError: name 'y' is not defined", "broken"),
        (1, "ERROR tests/a.py::test_x - ValueError: in a fixture", "broken"),
        (2, "ERROR tests/a.py - SyntaxError", "broken"),
        (4, "not found: tests/a.py::test_y", "broken"),
        (-9, "", "broken"),
    ],
)
def test_only_a_failing_test_kills_a_mutant(returncode, stdout, state):
    assert judge(subprocess.CompletedProcess([], returncode, stdout, ""))[0] == state


def test_a_mutant_is_found_when_a_line_is_wrapped_renamed_or_moved(tmp_path):
    mutant = Mutant("m", "train/old.py", "loss = mean(total, n)", "loss = mean(n)", ("t",))
    for index, (file, line) in enumerate(
        (
            ("train/old.py", "loss = mean(total, n)"),
            ("train/old.py", "loss = mean(\n    total,\n    n,\n)"),
            ("models/new.py", "loss = mean(total, n)"),
            ("models/new.py", "error = average(summed, count)"),
        )
    ):
        source = tmp_path / str(index)
        (source / file).parent.mkdir(parents=True)
        (source / file).write_text(f"x = 1\n{line}\n")
        assert mutated(mutant, source)[0] == source / file
    assert mutated(mutant, source)[1].endswith("error = average(count)\n")


def test_a_mutant_that_stands_nowhere_or_twice_is_refused(tmp_path):
    mutant = Mutant("m", "a.py", "a = b + c", "a = b", ("t",))
    (tmp_path / "a.py").write_text("a = b - c\n")
    with pytest.raises(ValueError, match="never once"):
        mutated(mutant, tmp_path)
    (tmp_path / "a.py").write_text("a = b + c\na = b + c\n")
    with pytest.raises(ValueError, match="never once"):
        mutated(mutant, tmp_path)
