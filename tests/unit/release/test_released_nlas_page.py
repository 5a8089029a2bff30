"""Every example of docs/released_nlas.md runs, in order, against the stand-in."""

import re
from pathlib import Path

import pytest
from docs_examples import examples, run_page

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


def test_every_example_and_every_row_of_the_table_runs(served):
    import gloss

    printed = run_page(PAGE, Path.cwd())
    assert len([example for example in examples(PAGE) if example.language == "python"]) == 2
    assert len(printed) == 6
    assert all(printed[i] for i in (0, 2, 3, 4, 5))
    rows = re.findall(r"\| `(gloss\.load\(.*?\))`", PAGE.read_text(encoding="utf-8"))
    assert len(rows) == 5
    for row in rows:
        assert eval(row, {"gloss": gloss}).reconstruct(["x"]).shape[0] == 1
    assert set(served.repos["me/nla-mine-ar"].revisions["main"]) >= {
        "README.md",
        "model.safetensors",
        "value_head.safetensors",
    }
