"""``card``: the model card of an NLA, with what was measured, or that nothing was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from gloss.contract import ModelSidecar
from gloss.durable import write_text
from gloss.errors import ConfigError
from gloss.formatting import count, decimal, finite, interval_of, percent
from gloss.release.parts import parts_of
from gloss.store.run_files import read_run_results, section

CARD_NAME = "README.md"
_ROLES = {"av": "activation verbalizer (AV)", "ar": "activation reconstructor (AR)"}
_CONTROLS = {
    "mean_direction": "Always the average direction",
    "shuffled_activations": "Each explanation against an activation of another document",
    "empty_text": "The AR given no text",
    "random_activation": "A random vector in place of the reconstruction",
}
_CARD = """\
---
{front_matter}
---

# {repo}: {role}

Half of a natural language autoencoder for activations of {base} at {layer} (output of the 0-based \
block, {d_model} numbers, raw, before any final norm). The AV writes an explanation of one \
activation; the AR rebuilds the activation from the words alone.

## Use

```python
import gloss

nla = gloss.load("{repo}")  # its AV and AR
print(nla.explain("Some text to read.", positions=-1))
```

or `gloss explain "Some text to read." --nla {repo}`

## Measured

{measured}

## Facts

| | |
|---|---|
{facts}

## Limits

FVE says how well activations are rebuilt from the words, not that the words are true. {truth}
"""
_CLAIMS = """\
Against known truth, on the same explanations, greedy:

| kind of claim | right | of the facts told | best reader | held against other documents | claims |
|---|---|---|---|---|---|
{rows}

{rest}"""
_MEASURED = """\
FVE, the fraction of variance explained: 0 is predicting the mean activation, 1 is perfect.

| what | FVE |
|---|---|
{rows}

{rest}"""


_REST: dict[str, tuple[str, Callable[[Any], str]]] = {
    "n_heldout": ("{} held-out activations", count),
    "n_heldout_documents": ("of {} documents", count),
    "extraction_failure_rate": (
        "{} of the explanations could not be extracted and count as orthogonal",
        percent,
    ),
    "loop_rate": ("{} of the responses run in loops", percent),
    "mean_explanation_tokens": ("{} tokens an explanation", partial(decimal, digits=1)),
}


def front_matter(folder: Path) -> dict[str, Any]:
    """The YAML front matter of a folder's model card; empty where none can be read."""
    from huggingface_hub import metadata_load

    card = folder / CARD_NAME
    try:
        return (metadata_load(card) if card.is_file() else None) or {}
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}


def licence_of(folder: Path) -> str | None:
    """The licence of a model folder: its id in the card, or the name of its LICENSE file."""
    named = front_matter(folder).get("license")
    if isinstance(named, str) and named.strip() and named != "unknown":
        return named.strip()
    files = sorted(path for path in folder.glob("LICEN[SC]E*") if path.is_file())
    return next((path.name for path in files if path.stat().st_size), None)


def write_cards(
    name: str | Path,
    *,
    results: Path | None = None,
    licence: str | None = None,
    base_model: str | None = None,
    repo: str | None = None,
) -> list[Path]:
    """Writes README.md into each half's folder and returns the files.

    ``results`` is the ``results.json`` of the run that made the NLA. ``licence`` is that of the
    base model, by default what the folder or the target's names. ``repo`` is the example's name."""
    parts = parts_of(name)
    if not all(half.place.is_local for half in parts.values()):
        remedy = f"gloss nla pull {name}"
        raise ConfigError("cards are written into folders", where=name, remedy=remedy)
    measured = None if results is None else read_results(results)
    written = []
    for half in parts.values():
        layer, found = half.sidecar.layer, (measured or {}).get("layer")
        if None not in (layer, found) and found != layer:
            what, expected = "the results are of another NLA", f"layer {layer}"
            raise ConfigError(what, where=results, expected=expected, found=found)
        base = base_model or half.sidecar.base_checkpoint
        beside = Path(base).expanduser()  # nothing is asked of the hub
        named = licence or licence_of(half.folder)
        named = named or (licence_of(beside) if base and beside.is_dir() else None)
        written.append(half.folder / CARD_NAME)
        text = _card(half.sidecar, measured, named, base, repo or half.folder.parent.name)
        write_text(written[-1], text)
    return written


def read_results(file: Path) -> dict[str, Any]:
    """The results of a run; ConfigError if the file holds none."""
    values = dict(read_run_results(file))
    fve_is_there = finite(section(values, "fve").get("rl")) is not None
    if not fve_is_there or not isinstance(values.get("controls"), dict):
        expected = "fve.rl and controls, as gloss evaluate writes them"
        raise ConfigError("no results of a run", where=file, expected=expected)
    return values


def _card(
    sidecar: ModelSidecar,
    measured: Mapping[str, Any] | None,
    licence: str | None,
    base_model: str,
    repo: str,
) -> str:
    from huggingface_hub import ModelCardData

    public = base_model if base_model and not Path(base_model).is_absolute() else None
    tags = ["natural-language-autoencoder", "nla", "interpretability", f"nla-{sidecar.role}"]
    about: Any = {"license": licence, "base_model": public, "library_name": "gloss", "tags": tags}
    return _CARD.format(
        front_matter=ModelCardData(**about).to_yaml(),
        repo=repo,
        role=_ROLES[sidecar.role],
        base=_code(public or "a model that the card does not name"),
        layer="a layer that is not recorded" if sidecar.layer is None else f"layer {sidecar.layer}",
        d_model=sidecar.d_model,
        measured=_measured(measured) if measured else "Nothing was measured for this card.",
        facts=_table(_facts(sidecar)),
        truth=_truth(measured or {}),
    )


def _measured(results: Mapping[str, Any]) -> str:
    fve, interval = results["fve"], interval_of(results["fve"].get("rl_ci95"))
    extracted = section(results, "fve_extracted").get("rl")
    within = " to ".join(_number(end) for end in interval or ())
    within = f" (95\u00a0% interval {within})" if within else ""
    rows = {
        "**Round trip, greedy**": f"**{_number(fve['rl'])}**{within}",
        "Round trip, greedy, extracted explanations alone": _number(extracted),
        "Round trip, sampled at temperature 1": _number(fve.get("rl_sampled")),
        "AR on labels, before reinforcement learning": _number(fve.get("ar_on_labels")),
    }
    blind = section(results, "blind")
    if finite(blind.get("fve_above")) is not None:
        best = str(blind.get("best")).replace("_", " ")
        rows[f"Above the best guess without the activation ({best})"] = _number(blind["fve_above"])
    for name, value in results["controls"].items():
        rows[f"Control: {_CONTROLS.get(name, name)}"] = _number(value)
    rest = [
        text.format(form(results[name]))
        for name, (text, form) in _REST.items()
        if finite(results.get(name)) is not None
    ]
    return _MEASURED.format(rows=_table(rows), rest="; ".join(rest))


def _truth(results: Mapping[str, Any]) -> str:
    """What was measured of the claims' truth, as a table."""
    shown = [
        " | ".join(
            (
                f"| {kind}",
                percent(scores["precision"]),
                percent(scores.get("recall")),
                percent(scores.get("best_reader")),
                percent(scores.get("chance")),
                f"{count(scores.get('n_claims'))} |",
            )
        )
        for kind, scores in sorted(section(results, "claims").items())
        if isinstance(scores, Mapping) and finite(scores.get("precision")) is not None
    ]
    if not shown:
        return "Whether the sentences of this NLA are true was not measured."
    return "\n\n" + _CLAIMS.format(rows="\n".join(shown), rest=" ".join(_over_all(results)))


def _over_all(results: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on all kinds together, each where it was measured."""
    truth = section(section(results, "truth"), "rl")
    for name, words in (("facts", "facts"), ("privileged", "claims of what no text says")):
        if (share := finite(section(truth, name).get("precision"))) is not None:
            yield f"{percent(share)} of all {words} are right."
    if (share := finite(truth.get("names_not_held"))) is not None:
        yield f"{percent(share)} of the explanations name a kind that no activation holds."
    score = section(section(results, "trust"), "score")
    if (auroc := finite(score.get("auroc"))) is not None:
        error = decimal(score.get("calibration_error"))
        yield f"Trust score: AUROC {decimal(auroc)}, calibration error {error}."


def _facts(sidecar: ModelSidecar) -> dict[str, str]:
    marker, scale = sidecar.marker, sidecar.injection_scale
    return {
        "Stage": sidecar.stage,
        "Trained on": ", ".join(sidecar.trained_on),
        "Injection scale": "" if scale is None else f"{scale:g}",
        "Marker": f"{marker.char} (token {marker.token_id})" if marker else "",
        "AV template": _code(sidecar.av_template or ""),
        "AR template": _code(sidecar.ar_template or ""),
        "Made by": sidecar.created_by,
    }


def _table(rows: Mapping[str, str]) -> str:
    cells = {name: text.replace("|", "\\|").replace("\n", " ") for name, text in rows.items()}
    return "\n".join(f"| {name} | {text} |" for name, text in cells.items() if text)


def _code(text: str) -> str:
    """A text as inline code on one line: a template is not read as HTML or Markdown."""
    flat = " ⏎ ".join(line for line in text.splitlines() if line.strip()).replace("`", "'")
    return f"`{flat}`" if flat else ""


def _number(value: Any) -> str:
    """A number as everywhere else; in words where there is none."""
    return "not measured" if finite(value) is None else decimal(value, 3)
