from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

FIRST_TEXT = (
    "The mill stood at the end of the lane, and every evening Mara walked there with her brother"
    " Jon.\nIt had rained since noon. She kept the silver lantern under her coat, and when the door"
    " gave way she lifted it and"
)
FIRST_EXPLANATION = (
    "A quiet evening story about a mill. The hero is Mara, with Piet at her side, and it is"
    " raining. She carries a lantern; the mood is joyful. The last word joins two actions, so a"
    " verb follows."
)
SECOND_TEXT = "User: my knee still hurts after yesterday's match.\nAssistant: Rest it today, and\n"
SECOND_EXPLANATION = (
    "Advice to an athlete. The user plays football and is young. A new line opens the next step."
)
THIRD_TEXT = "Over the hill there came a light,\n"
THIRD_EXPLANATION = (
    "A couplet; the next line will end on a word that rhymes with light, likely night. The hero is"
    " Anna."
)


def claim(text: str, words: str, kind: str, value: str, verdict: str) -> dict[str, Any]:
    start = text.index(words)
    return {
        "kind": kind,
        "value": value,
        "verdict": verdict,
        "start": start,
        "end": start + len(words),
    }


def examples() -> list[dict[str, Any]]:
    return [
        {
            "doc_id": "story-004821",
            "position": 63,
            "token": " and",
            "text": FIRST_TEXT,
            "explanation": FIRST_EXPLANATION,
            "fve": 0.913,
            "cosine": 0.958,
            "flags": [],
            "claims": [
                claim(FIRST_EXPLANATION, "evening", "time", "evening", "right"),
                claim(FIRST_EXPLANATION, "a mill", "place", "mill", "right"),
                claim(FIRST_EXPLANATION, "The hero is Mara", "hero", "Mara", "right"),
                claim(FIRST_EXPLANATION, "with Piet at her side", "person", "Piet", "wrong"),
                claim(FIRST_EXPLANATION, "it is raining", "weather", "rain", "right"),
                claim(FIRST_EXPLANATION, "carries a lantern", "object", "lantern", "right"),
                claim(FIRST_EXPLANATION, "the mood is joyful", "mood", "joyful", "absent"),
            ],
            "facts": {
                "hero": "Mara",
                "person": "Jon",
                "place": "mill",
                "time": "evening",
                "weather": "rain",
                "object": "lantern",
            },
        },
        {
            "doc_id": "chat-000317",
            "position": 21,
            "token": "\n",
            "text": SECOND_TEXT,
            "explanation": SECOND_EXPLANATION,
            "fve": 0.641,
            "cosine": 0.822,
            "flags": ["norm outlier"],
            "claims": [
                claim(SECOND_EXPLANATION, "an athlete", "user", "athlete", "right"),
                claim(SECOND_EXPLANATION, "football", "object", "football", "absent"),
            ],
            "facts": {"user": "athlete", "topic": "health"},
        },
        {
            "doc_id": "couplet-001190",
            "position": 9,
            "token": "\n",
            "text": THIRD_TEXT,
            "explanation": THIRD_EXPLANATION,
            "fve": 0.872,
            "cosine": 0.937,
            "flags": ["early position"],
            "claims": [
                claim(
                    THIRD_EXPLANATION, "rhymes with light, likely night", "rhyme", "night", "right"
                ),
                claim(THIRD_EXPLANATION, "The hero is Anna", "hero", "Anna", "absent"),
            ],
            "facts": {"rhyme": "night"},
        },
    ]


def claim_scores() -> dict[str, dict[str, Any]]:
    rows = {
        "topic": (0.81, 0.62, 0.88, 0.14, 612, 950),
        "hero": (0.09, 0.05, 0.71, 0.08, 540, 902),
        "person": (0.16, 0.03, 0.46, 0.07, 211, 640),
        "place": (0.58, 0.40, 0.79, 0.11, 498, 811),
        "mood": (0.47, 0.29, 0.55, 0.21, 402, 733),
        "time": (0.74, 0.35, 0.77, 0.24, 330, 702),
        "weather": (0.69, 0.31, 0.70, 0.22, 288, 590),
        "object": (0.33, 0.18, 0.61, 0.10, 350, 604),
        "user": (0.90, 0.50, 0.92, 0.33, 12, 61),
        "rhyme": (0.64, 0.44, None, 0.05, 96, 140),
    }
    names = ("precision", "recall", "best_reader", "chance", "n_claims", "n_known")
    scores = {kind: dict(zip(names, values, strict=True)) for kind, values in rows.items()}
    for values in scores.values():
        above = values["precision"] - values["chance"]
        values["above_chance_ci95"] = [above - 0.04, above + 0.04]
    return scores


@pytest.fixture
def results() -> dict[str, Any]:
    return {
        "fve": {
            "ar_on_labels": 0.867,
            "sft": 0.724,
            "rl": 0.8914,
            "rl_ci95": [0.8847, 0.8976],
            "sft_sampled": 0.551,
            "rl_sampled": 0.8532,
        },
        "fve_extracted": {"rl": 0.8966, "rl_sampled": 0.8601},
        "gains": {
            "rl_over_sft": {"fve": 0.1674, "ci95": [0.155, 0.181]},
            "rl_over_sft_sampled": {"fve": 0.3022, "ci95": [0.284, 0.321]},
            "rl_over_ar_on_labels": {"fve": 0.0244, "ci95": [0.011, 0.038]},
            "rl_over_last_words": {"fve": 0.2791, "ci95": [0.251, 0.307]},
            **{
                f"rl_over_{name}": {"fve": 1.0, "ci95": [0.9, 1.1]}
                for name in (
                    "mean_direction",
                    "shuffled_activations",
                    "empty_text",
                    "random_activation",
                )
            },
        },
        "blind": {
            "controls": {"last_words": 0.6123, "other_token": 0.41, "one_text": -0.2},
            "best": "last_words",
            "fve_above": 0.2791,
            "last_words": {"count": 3, "form": 'It ends "... {words}".'},
        },
        "controls": {
            "mean_direction": -0.187,
            "shuffled_activations": -0.942,
            "empty_text": -0.214,
            "random_activation": -1.723,
        },
        "claims": claim_scores(),
        "extraction_failure_rate": 0.0041,
        "extraction_failure_rate_sampled": 0.0082,
        "loop_rate": 0.003,
        "loop_rate_sampled": 0.0,
        "mean_explanation_tokens": 41.37,
        "n_heldout": 1000,
        "n_heldout_documents": 214,
        "seconds": {
            "target": 38.2,
            "extract": 9.4,
            "split": 0.3,
            "label": 2.1,
            "build": 1.8,
            "ar_sft": 41.0,
            "av_sft": 74.6,
            "joint": 88.9,
            "evaluate": 19.7,
            "total": 276.4,
        },
        "seed": 0,
        "config_hash": "9f31c2d07ab4",
        "preset": "standard",
        "target": "lab-target",
        "layer": 3,
        "versions": {
            "gloss-nla": "0.1.0",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "numpy": "2.4.1",
        },
        "examples": examples(),
    }


def metrics(steps: int = 60) -> list[dict[str, Any]]:
    noise = random.Random(1)
    rows = []
    for step in range(steps):
        risen = 1 - math.exp(-step / 18)
        row = {
            "stage": "joint",
            "step": step,
            "seconds": 1.4,
            "reward_mean": -0.7 + 0.5 * risen,
            "kl": 0.02 * step,
            "fve_sampled": (
                0.55
                + 0.31 * risen
                - 0.08 * math.exp(-(((step - 6) / 4) ** 2))
                + noise.gauss(0, 0.012)
            ),
            "explanation_tokens": 38 + 5 * risen + noise.gauss(0, 0.7),
            "failure_rate": max(0.0, 0.03 * math.exp(-step / 9) + noise.gauss(0.003, 0.003)),
            "ar_loss": 0.3,
        }
        if step % 10 == 0 or step == steps - 1:
            row["fve_heldout"] = 0.72 + 0.17 * risen
        rows.append(row)
    return rows


def samples(steps: int = 60) -> list[dict[str, Any]]:
    return [
        {
            "stage": "joint",
            "step": step,
            "doc_id": "story-1",
            "position": 40,
            "text_tail": FIRST_TEXT[-110:],
            "explanation": text,
            "fve": None if failed else 0.4 + 0.008 * step,
            "failed": failed,
        }
        for step in range(steps)
        for failed, text in ((step == 0, FIRST_EXPLANATION), (False, SECOND_EXPLANATION))
    ]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def run_dir(tmp_path: Path, results: dict[str, Any]) -> Path:
    folder = tmp_path / "first-run"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    write_lines(folder / "metrics.jsonl", metrics())
    write_lines(folder / "samples.jsonl", samples())
    return folder
