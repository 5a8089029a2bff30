"""The example notebook runs, and what it shows is HTML without scripts or widgets."""

from pathlib import Path

import pytest
from speaking_nla import save_speaking_nla

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
import nbformat  # noqa: E402  (comes with nbclient)

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "reading.ipynb"


def shown(notebook):
    """The HTML outputs, and everything as text."""
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    html = [
        output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})
    ]
    return html, str(outputs)


@pytest.fixture(scope="module")
def executed(tmp_path_factory, lab_tokenizer):
    folder = tmp_path_factory.mktemp("notebook")
    save_speaking_nla(folder / "gloss-runs" / "standard", lab_tokenizer)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook


def test_every_cell_runs_and_shows_tables(executed):
    html, _ = shown(executed)
    assert len(html) == 3
    assert all("<table>" in one for one in html)


def test_what_is_saved_is_what_the_cells_show():
    nbformat.validate(saved := nbformat.read(NOTEBOOK, as_version=4))
    html, text = shown(saved)
    assert len(html) == 3
    assert not any(word in "".join(html) for word in ("<script", "onerror", "javascript:"))
    assert "Error" not in text
    assert "widget" not in str(saved.metadata)
