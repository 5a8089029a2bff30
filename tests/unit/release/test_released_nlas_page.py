"""Every example of docs/released_nlas.md runs, in order, against the stand-in."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

PAGE = Path(__file__).parents[3] / "docs" / "released_nlas.md"


@pytest.fixture
def served(hub, nla_folder, tmp_path, monkeypatch):
    for half in ("av", "ar"):
        hub.add(f"kitft/nla-tiny-L2-{half}", nla_folder / half)
        hub.add("owner/both", nla_folder / half, inside=f"{half}/")
    hub.add("owner/target", nla_folder / "target")
    (tmp_path / "here").mkdir()
    for half in ("av", "ar"):
        (tmp_path / "here" / "folder").mkdir(exist_ok=True)
        (tmp_path / "here" / "folder" / half).symlink_to(nla_folder / half)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    return hub


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_every_python_example_and_every_row_of_the_table_runs(served):
    names: dict = {}
    assert len(blocks("python")) == 2
    for block in blocks("python"):
        exec(block, names)
    rows = re.findall(r"\| `(gloss\.load\(.*?\))`", PAGE.read_text(encoding="utf-8"))
    assert len(rows) == 5
    for row in rows:
        assert eval(row, names).reconstruct(["x"]).shape[0] == 1


def test_every_command_runs(served):
    from gloss.cli.main import app

    commands = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    assert len(commands) == 9
    for command in commands:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.stderr)
        assert result.stdout
    assert set(served.repos["me/nla-mine-ar"].revisions["main"]) >= {
        "README.md",
        "model.safetensors",
        "value_head.safetensors",
    }
