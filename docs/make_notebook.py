"""Runs examples/reading.ipynb in the working folder, which holds gloss-runs/standard, and keeps the
outputs.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "reading.ipynb"

if __name__ == "__main__":
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(Path.cwd())}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which would differ every time
        if cell.cell_type == "code":  # warnings of other packages, with this machine's paths
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, NOTEBOOK)
    print(NOTEBOOK)
