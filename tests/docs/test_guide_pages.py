"""Every example of every documentation page runs, or says in a comment why not."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from docs_examples import RUNNABLE, examples, run_page
from served_nla import serving
from speaking_nla import SAYINGS, directions, save_speaking_nla
from tiny_nla import LAYER, write_rows

import gloss
from gloss.pipeline.last_run import remember_quickstart
from gloss.pipeline.run_config import read_config

REPO = Path(__file__).resolve().parents[2]
DOCS = REPO / "docs"
RELEASED = "kitft/nla-qwen2.5-7b-L20"
DOCUMENTS = [
    "The mill stood at the end of the lane, and every evening Mara walked there with her brother.",
    "The gulls sleep at the harbor while it rains, and Ada is calm and waits for the rain to end.",
]
SETTINGS = f"""
name = "my-model"
target = "gloss-runs/standard/target"

[corpus]
source = "documents.jsonl"

[extract]
layer = {LAYER}
positions_per_doc = 3
min_position = 5
max_tokens = 64
top_next_tokens = 5

[split]
av_sft = 0.3
ar_sft = 0.3
rl = 0.2
heldout = 0.2

[label]
labeller = "extractive"
settings = {{ keywords = 2, quote_words = 2, next_tokens = 1, max_chars = 60 }}

[build]
av_template = "Say what you know here.\\n{{injection_char}}"
ar_template = "<text>{{explanation}}</text> <activation>"

[ar_sft]
steps = 2
batch_size = 4
optimizer = {{ lr = 1e-3 }}

[av_sft]
steps = 2
batch_size = 4
optimizer = {{ lr = 1e-3 }}

[joint]
steps = 1
prompts_per_step = 2
group_size = 2
max_new_tokens = 4
evaluate_rows = 2
av = {{ lr = 1e-3 }}
ar = {{ lr = 1e-3 }}

[evaluate]
max_rows = 4
"""
"""The guide's ``my-model.toml``, for a tiny target."""


@pytest.fixture(scope="session")
def speaking_folder(tmp_path_factory, lab_tokenizer):
    return save_speaking_nla(tmp_path_factory.mktemp("speaking"), lab_tokenizer)


@pytest.fixture
def folder(tmp_path, speaking_folder, lab_tokenizer, monkeypatch):
    """What a reader of the pages has: an NLA ``my-nla``, the quickstart's run, a corpus, a config,
    a transcript, a text.
    """
    (tmp_path / "my-nla").symlink_to(speaking_folder)
    run = tmp_path / "gloss-runs" / "standard"
    for half in ("av", "ar"):
        (run / "nla").mkdir(parents=True, exist_ok=True)
        (run / "nla" / half).symlink_to(speaking_folder / half)
    (run / "target").symlink_to(speaking_folder / "target")
    (run / "splits").mkdir()
    write_rows(run / "splits" / "heldout.parquet", lab_tokenizer, directions().numpy())
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    remember_quickstart(run)
    records = ({"id": f"d{i}", "text": DOCUMENTS[i % 2]} for i in range(40))
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (tmp_path / "my-model.toml").write_text(SETTINGS)
    chat = [
        {"role": "user", "content": DOCUMENTS[0]},
        {"role": "assistant", "content": "It rains."},
    ]
    (tmp_path / "chat.json").write_text(json.dumps(chat))
    (tmp_path / "page.txt").write_text(DOCUMENTS[1])
    return tmp_path


def test_the_readme(folder):
    printed = run_page(REPO / "README.md", folder, lambda text: text.replace(RELEASED, "my-nla"))
    assert "random" in printed[0]  # steering's control
    assert "mood" in printed[-1]  # what was searched for


def test_the_guide(folder):
    printed = "".join(run_page(DOCS / "guide.md", folder))
    assert SAYINGS[0].splitlines()[0] in printed
    assert '"rl": {' in printed  # the datasets that build made
    assert (folder / "nla" / "av" / "model.safetensors").is_file()


def test_the_guides_config_is_one(tmp_path):
    (block,) = (e.content for e in examples(DOCS / "guide.md") if e.language == "toml")
    (tmp_path / "my-model.toml").write_text(block)
    config = read_config(tmp_path / "my-model.toml")
    assert config.name == "my-model"
    assert set(tomllib.loads(SETTINGS)) <= set(tomllib.loads(block)) | {"threads"}


def test_the_guide_is_short():
    assert len((DOCS / "guide.md").read_text(encoding="utf-8").split()) <= 3500


def test_every_setting_of_a_config(folder, monkeypatch):
    from gloss.cli.main import app

    page = DOCS / "config.md"
    labeller = next(e.content for e in examples(page) if e.language == "python")
    (folder / "my_labels.py").write_text(labeller)
    monkeypatch.chdir(folder)
    for command in (
        "extract --config my-model.toml --out activations",
        "split --config my-model.toml --activations activations --out splits",
    ):
        with pytest.raises(SystemExit) as end:
            app(["data", *command.split()])
        assert not end.value.code
    printed = "".join(run_page(page, folder))
    assert '"dropped": 0' in printed


def test_reading_at_scale(folder, lab_tokenizer):
    write_rows(folder / "activations.parquet", lab_tokenizer, np.tile(directions().numpy(), (5, 1)))
    printed = run_page(DOCS / "reading_at_scale.md", folder)
    assert "40 explanations by my-nla at layer 2" in printed[2]
    assert "the mood is calm" in "".join(printed)
    assert (folder / "best.jsonl").read_text(encoding="utf-8").count("\n") == 10


def test_bring_your_own_activations(folder):
    run_page(DOCS / "bring_your_own_activations.md", folder)


def test_the_http_interface(folder, speaking_folder):
    with serving({"my-nla": gloss.load(speaking_folder)}) as client:
        address = str(client.base_url).rstrip("/")
        printed = run_page(
            DOCS / "api.md", folder, lambda text: text.replace("http://127.0.0.1:5009", address)
        )
    assert str(LAYER) in printed[0]


ELSEWHERE = {
    "docs/released_nlas.md": "tests/unit/release/test_released_nlas_page.py",
    "docs/serve_engines.md": "tests/unit/test_serve_engines_page.py",
}
"""Pages that need servers of their own."""


def pages():
    """Every documentation page."""
    return [REPO / "README.md", *sorted(DOCS.rglob("*.md"))]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(REPO).as_posix())
def test_no_page_is_left_out(page):
    found = [example for example in examples(page) if example.language in RUNNABLE]
    fences = page.read_text(encoding="utf-8").count("\n```") // 2
    assert fences == len(examples(page)), "a fence without a language, or not closed"
    assert all(len(example.reason.split()) > 2 for example in found if not example.is_run)
    if any(example.is_run for example in found):
        name = page.relative_to(REPO).as_posix()
        runner = Path(__file__) if name not in ELSEWHERE else REPO / ELSEWHERE[name]
        source = runner.read_text(encoding="utf-8")
        assert f'"{page.name}"' in source, f"{name} is run by no test"
        assert "run_page(" in source


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("```python\nassert 1 == 2\n```", "page.md:3: AssertionError"),
        (
            "```bash\ngloss results search x missing.parquet\n```",
            "page.md:3: gloss results search x missing.parquet ended with 2",
        ),
        ("<!-- ends with 1: why -->\n```bash\ngloss --version\n```", "ended with 0"),
        ("```bash\nrm -r x\n```", "only gloss commands are run"),
        ("```console\nrm -r x\n```", "only gloss commands are run"),
        ("```bash\ngloss lab documents 1\n```", "an old name of a verb"),
    ],
)
def test_an_example_that_fails_is_named(tmp_path, block, message):
    (tmp_path / "page.md").write_text(f"# A page\n\n{block}\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=message):
        run_page(tmp_path / "page.md", tmp_path)


def test_what_is_marked_is_not_run(tmp_path):
    (tmp_path / "page.md").write_text(
        "<!-- not run: there is no such module -->\n```python\nimport nothing\n```\n\n"
        "```text\nx\n```\n",
        encoding="utf-8",
    )
    assert [example.is_run for example in examples(tmp_path / "page.md")] == [False, False]
    assert run_page(tmp_path / "page.md", tmp_path) == []
