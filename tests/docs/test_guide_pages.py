"""Every example of the guide pages on reading runs."""

from pathlib import Path

import numpy as np
import pytest
from docs_examples import examples, run_page
from speaking_nla import directions, save_speaking_nla
from tiny_nla import write_rows

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="session")
def speaking_folder(tmp_path_factory, lab_tokenizer):
    return save_speaking_nla(tmp_path_factory.mktemp("speaking"), lab_tokenizer)


@pytest.fixture
def folder(tmp_path, speaking_folder):
    """An empty folder but for the NLA ``my-nla``."""
    (tmp_path / "my-nla").symlink_to(speaking_folder)
    return tmp_path


def test_reading_at_scale(folder, lab_tokenizer):
    write_rows(folder / "activations.parquet", lab_tokenizer, np.tile(directions().numpy(), (5, 1)))
    printed = run_page(DOCS / "reading_at_scale.md", folder)
    assert "40 explanations by my-nla at layer 2" in printed[2]
    assert "the mood is calm" in "".join(printed)
    assert (folder / "best.jsonl").read_text(encoding="utf-8").count("\n") == 10


def test_bring_your_own_activations(folder):
    run_page(DOCS / "bring_your_own_activations.md", folder)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("```python\nassert 1 == 2\n```", "page.md:3: AssertionError"),
        (
            "```bash\ngloss search x missing.parquet\n```",
            "page.md:3: gloss search x missing.parquet ended with 2",
        ),
        ("```bash exits=1\ngloss --version\n```", "ended with 0"),
        ("```bash\nrm -r x\n```", "only gloss commands are run"),
    ],
)
def test_an_example_that_fails_is_named(tmp_path, block, message):
    (tmp_path / "page.md").write_text(f"# A page\n\n{block}\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=message):
        run_page(tmp_path / "page.md", tmp_path)


def test_what_is_marked_is_not_run(tmp_path):
    (tmp_path / "page.md").write_text(
        "```python not-run\nimport nothing\n```\n\n```text\nx\n```\n", encoding="utf-8"
    )
    assert [example.is_run for example in examples(tmp_path / "page.md")] == [False, False]
    assert run_page(tmp_path / "page.md", tmp_path) == []
