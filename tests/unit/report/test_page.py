from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gloss.errors import GlossError
from gloss.report import write_report

VOID = {"meta", "br", "img", "link", "input", "hr", "path", "use", "line", "circle", "rect"}


class Page(HTMLParser):
    """Tags, ids, texts and nesting errors of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.misnested: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        for value in filter(None, values.values()):
            self.references += re.findall(r"url\(#([^)]+)\)", value)
        if str(values.get("href", "")).startswith("#"):
            self.references.append(str(values["href"])[1:])
        self.references += (values.get("aria-labelledby") or "").split()
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.misnested.append(tag)

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def rewrite(run_dir: Path, results: dict[str, Any]) -> None:
    (run_dir / "results.json").write_text(json.dumps(results), encoding="utf-8")


def read(run_dir: Path) -> str:
    return write_report(run_dir).read_text(encoding="utf-8")


def test_report_shows_numbers_figures_and_cards(run_dir: Path) -> None:
    page = Page(read(run_dir))
    assert page.misnested == []
    assert page.open == []
    for wanted in (
        "0.891",
        "0.885 to 0.898",
        "−0.942",
        "0.41 %",
        "9f31c2d07ab4",
        "4 min 36 s",
        "torch 2.13.0",
        "first-run",
    ):
        assert wanted in page.text, wanted
    figures = [values for tag, values in page.tags if tag == "svg" and values.get("role") == "img"]
    assert len(figures) == 8
    assert all(len(str(values["aria-label"])) > 30 for values in figures)
    assert sum(tag == "article" for tag, _ in page.tags) == 3


def test_a_run_that_beats_no_guess_is_told_so_at_the_head(
    run_dir: Path, results: dict[str, Any]
) -> None:
    assert "Above a blind guess" in read(run_dir)
    assert 'class="alarm"' not in read(run_dir)
    results["gains"]["rl_over_last_words"]["ci95"] = [-0.02, 0.03]
    rewrite(run_dir, results)
    page = read(run_dir)
    said = "does not show that activations were read"
    assert page.index('class="alarm"') < page.index(said) < page.index('class="tiles"')


def test_ids_are_unique_and_every_reference_has_its_target(run_dir: Path) -> None:
    page = Page(read(run_dir))
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)


def test_tables_have_headers_with_scope(run_dir: Path) -> None:
    headers = [values for tag, values in Page(read(run_dir)).tags if tag == "th"]
    assert headers
    assert all(values.get("scope") in {"col", "row", "rowgroup"} for values in headers)


def test_report_needs_no_network_and_no_script(run_dir: Path) -> None:
    html = read(run_dir)
    tags = {tag for tag, _ in Page(html).tags}
    assert tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert "default-src 'none'" in html
    outside = set(re.findall(r"(?:https?:)?//[\w./-]+", html)) - {"http://www.w3.org/2000/svg"}
    assert outside == set()
    assert "@import" not in html


def test_figures_take_every_colour_from_the_page(run_dir: Path) -> None:
    html = read(run_dir)
    figures = re.findall(r"<svg xmlns.*?</svg>", html, flags=re.S)
    assert len(figures) == 8
    for figure in figures:
        assert not re.search(r"#[0-9a-f]{6}\b", re.sub(r'(id|href|clip-path)="[^"]*"', "", figure))
    assert "prefers-color-scheme: dark" in html


def test_same_files_give_the_same_bytes(run_dir: Path, tmp_path: Path) -> None:
    first = write_report(run_dir, tmp_path / "first.html").read_bytes()
    assert first == write_report(run_dir, tmp_path / "second" / "page.html").read_bytes()
    assert sorted(path.name for path in run_dir.iterdir()) == [
        "metrics.jsonl",
        "results.json",
        "samples.jsonl",
    ]


def test_markup_in_model_text_stays_text(run_dir: Path, results: dict[str, Any]) -> None:
    attack = '<script>alert(1)</script> "><img src=x onerror=alert(2)> </style> {{ 7 * 7 }} $x^2$'
    example = results["examples"][0]
    example.update(
        explanation=attack,
        text=attack,
        token=attack[-3:],
        doc_id=attack,
        flags=[attack],
        facts={attack: attack},
    )
    example["claims"] = [{"kind": attack, "value": attack, "verdict": attack, "start": 0, "end": 8}]
    results["claims"][attack] = results["claims"]["topic"]
    results["versions"][attack] = results["target"] = results["preset"] = attack
    rewrite(run_dir, results)
    line = {
        "stage": "joint",
        "step": 1,
        "text_tail": attack,
        "explanation": attack,
        "fve": 0.1,
        "failed": False,
    }
    (run_dir / "samples.jsonl").write_text(json.dumps(line), encoding="utf-8")
    page = Page(read(run_dir))
    assert {"script", "img"}.isdisjoint(tag for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, values in page.tags for name in values)
    assert page.text.count("<script>alert(1)</script>") > 5
    assert "{{ 7 * 7 }}" in page.text
    assert page.misnested == []


def test_claims_carry_colour_and_symbol(run_dir: Path) -> None:
    html = read(run_dir)
    assert 'class="claim right" title="hero = Mara: right"' in html
    assert 'class="claim wrong" title="person = Piet: wrong, truth is Jon"' in html
    text = Page(html).text
    for wanted in (
        "The hero is Mara✓ (right)",
        "with Piet at her side✗ (wrong)",
        "the mood is joyful○ (absent)",
    ):
        assert wanted in text
    assert "person: Piet (truth: Jon)" in text


def test_token_is_highlighted_at_the_end_of_its_text(
    run_dir: Path, results: dict[str, Any]
) -> None:
    assert "she lifted it<mark> and</mark></div>" in read(run_dir)
    results["examples"][0]["token"] = " elsewhere"
    rewrite(run_dir, results)
    assert "she lifted it and</div>" in read(run_dir)
    assert "Token: <mark> elsewhere</mark>" in read(run_dir)


def test_missing_optional_files_are_noted(run_dir: Path) -> None:
    (run_dir / "metrics.jsonl").unlink()
    (run_dir / "samples.jsonl").unlink()
    text = Page(read(run_dir)).text
    assert "metrics.jsonl is not in the run folder" in text
    assert "samples.jsonl is not in the run folder" in text
    assert "Left out: no FVE of joint RL steps" in text
    assert "0.891" in text


def test_results_without_any_part_still_give_a_page(run_dir: Path) -> None:
    rewrite(run_dir, {"fve": {"rl": 0.5}, "controls": {}, "claims": {}, "examples": None})
    page = Page(read(run_dir))
    assert page.misnested == []
    for wanted in ("no known truth", "holds no examples", "holds no times", "No controls"):
        assert wanted in page.text


def test_values_that_are_null_or_nan_show_as_a_dash(run_dir: Path, results: dict[str, Any]) -> None:
    results["fve"].update(ar_on_labels=None, rl_ci95=[None, None])
    results["controls"]["shuffled_activations"] = float("nan")
    results["claims"] = {"topic": dict.fromkeys(results["claims"]["topic"])}
    results["examples"][0].update(
        fve=None, cosine=float("nan"), claims=[{"kind": "hero", "value": "A", "verdict": "right"}]
    )
    rewrite(run_dir, results)
    page = Page(read(run_dir))
    assert "nan" not in page.text.lower().split()
    assert "FVE —, cosine —" in page.text
    assert "None" not in page.text


def test_half_written_metrics_line_is_left_out_and_counted(run_dir: Path) -> None:
    with (run_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"stage": "joint", "step": 60, "fve_samp')
    assert "1 line of metrics.jsonl could not be read" in Page(read(run_dir)).text


def test_lines_of_other_stages_are_not_drawn(run_dir: Path) -> None:
    before = read(run_dir)
    with (run_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"stage": "av_sft", "step": 900, "fve_sampled": 0.1}\n')
    assert read(run_dir) == before


def test_a_run_of_one_step_far_below_zero_is_drawn(run_dir: Path, results: dict[str, Any]) -> None:
    line = {
        "stage": "joint",
        "step": 0,
        "fve_sampled": -2.5,
        "fve_heldout": -3.0,
        "failure_rate": 0.0,
    }
    (run_dir / "metrics.jsonl").write_text(json.dumps(line), encoding="utf-8")
    results["claims"] = {"the other person in the story": results["claims"]["person"]}
    rewrite(run_dir, results)
    html = read(run_dir)
    assert "Sampled FVE of the training batch goes from −2.50 to −2.50" in html
    assert "the other person in the story (211)" in html


def test_broken_unicode_can_be_written(run_dir: Path, results: dict[str, Any]) -> None:
    results["examples"][0]["text"] = "a \ud800 \u202e\x1b[31m b"
    rewrite(run_dir, results)
    html = read(run_dir)
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "a \ufffd \ufffd\ufffd[31m b" in html


@pytest.mark.invariant("edges-8")
@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[1]",
        "{}",
        '{"fve": {}}',
        '{"fve": {"rl": "0.7"}}',
        '{"fve": "0.7"}',
        '{"fve": {"rl": 0.7}, "controls": {"empty_text": "low"}}',
        '{"fve": {"rl": 0.7}, "examples": ["x"]}',
        '{"fve": {"rl": 0.7}, "examples": [{"claims": ["x"]}]}',
        '{"fve": {"rl": 0.7}, "claims": {"mood": "right"}}',
        '{"fve": {"rl": 0.7}, "heldout_errors": "none"}',
        '{"fve": {"rl": 0.7}, "n_heldout": "160"}',
    ],
)
def test_unusable_results_say_where_and_what_to_do(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content, encoding="utf-8")
    with pytest.raises(GlossError) as caught:
        write_report(tmp_path)
    assert str(tmp_path / "results.json") in str(caught.value)
    assert "gloss quickstart" in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_importing_the_report_loads_no_heavy_library() -> None:
    heavy = "{'matplotlib', 'jinja2', 'rich', 'torch', 'numpy'}"
    code = f"import sys, gloss.report; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_series_of_checkpoints_is_drawn_and_says_which_is_the_nla(run_dir, results):
    points = [
        {"step": s, "fve": f, "claims_right": c} for s, f, c in ((0, 0.2, 0.9), (4, 0.5, 0.7))
    ]
    ended = {"kept_step": 0, "stopped": "claims_right fell", "keep": "claims_right"}
    results["series"] = {"points": [*points, "torn", {"step": "x", "fve": 1}], **ended}
    (run_dir / "results.json").write_text(json.dumps(results), encoding="utf-8")
    page = write_report(run_dir).read_text(encoding="utf-8")
    assert "FVE, greedy from 0.20 to 0.50; Claims right, greedy from 90" in page
    assert "The NLA is the checkpoint of step 0, the best by claims_right." in page
    assert "The training ended early: claims_right fell." in page
    results["series"] = {"points": points[:1]}
    (run_dir / "results.json").write_text(json.dumps(results), encoding="utf-8")
    assert "series of checkpoints" not in write_report(run_dir).read_text(encoding="utf-8")
