"""The compatibility page says of a tool only what the test of that tool says."""

import importlib.util
from pathlib import Path

import pytest
from family_models import FAMILIES

SCRIPT = Path(__file__).resolve().parents[2] / "docs/make_compatibility.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_compatibility", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["make_compatibility"] = module
    spec.loader.exec_module(module)
    return module


def test_every_family_has_a_row_and_every_tool_a_column(script):
    rows = [
        line.split(" | ")
        for line in script.page().splitlines()
        if line.startswith("| `") and "test_" not in line
    ]
    assert [row[0].strip("| `") for row in rows] == [family.name for family in FAMILIES]
    assert {len(row) for row in rows} == {len(script.TOOLS) + 5}
    assert {row[-1].strip(" |") for row in rows} == {"stand-in only"}


def test_only_tests_that_run_for_each_family_count(script):
    source = (
        "@pytest.fixture(params=FAMILIES)\ndef family(request): ...\ndef model(family): ...\n"
        "def test_a(model): ...\ndef test_b(family): ...\ndef test_c(tmp_path): ...\n"
    )
    assert script.family_checks(source) == {"test_a", "test_b"}
    with pytest.raises(SystemExit, match="skipped"):
        script.family_checks(source + "pytest.skip()")


def test_a_tool_reads_the_families_that_its_test_names(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "REPO", tmp_path)
    tool = script.Tool("x", "test_x.py", "says", names=(("gemma3", "gemma3_text"),))
    assert script.named_families(tool) == set()
    (tmp_path / "test_x.py").write_text('FAMILIES = {"qwen2": 1, "gemma3": 2, "unknown": 3}\n')
    assert script.named_families(tool) == {"qwen2", "gemma3_text"}


def test_a_new_check_needs_a_line_on_the_page(script, monkeypatch):
    monkeypatch.setattr(script, "CHECKS", dict(list(script.CHECKS.items())[1:]))
    with pytest.raises(SystemExit, match="test_activation_k_is_hidden_state"):
        script.page()
