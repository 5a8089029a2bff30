"""``card``: the model card of an NLA, with what was measured, and saying so where nothing was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gloss.contract import ModelSidecar, read_model_sidecar
from gloss.durable import write_text
from gloss.errors import CheckpointError, ConfigError
from gloss.release.licence import licence_of
from gloss.release.parts import parts_of
from gloss.target_model.folder_files import json_object

CARD_NAME = "README.md"
_ROLES = {"av": "activation verbalizer (AV)", "ar": "activation reconstructor (AR)"}
_CONTROLS = {
    "mean_direction": "Always the average direction",
    "shuffled_activations": "Each explanation against another activation",
    "empty_text": "The AR given no text",
    "random_activation": "A random vector in place of the reconstruction",
}


def write_cards(
    name: str | Path,
    *,
    results: Path | None = None,
    licence: str | None = None,
    base_model: str | None = None,
    repo: str | None = None,
) -> list[Path]:
    """Writes README.md into each half's folder and returns the files.

    ``results`` is the ``results.json`` of the run that made the NLA; without it the card says that
    nothing was measured.
    ``licence`` is that of the base model; if not given it is looked up in the card or licence file
    that stands there, or beside the target. ``repo`` is the name to show in the example.
    Raises: ConfigError for a place on the hub or results that are none; CheckpointError,
    SidecarError."""
    parts = parts_of(name)
    if not all(place.is_local for place in parts.values()):
        raise ConfigError(
            "cards are written into folders", where=name, remedy=f"gloss checkpoint pull {name}"
        )
    measured = None if results is None else read_results(results)
    written = []
    for place in parts.values():
        folder = Path(place.name)
        sidecar = read_model_sidecar(folder)
        _same_nla(sidecar, measured, results)
        base = base_model or sidecar.base_checkpoint
        found = licence or licence_of(folder) or _licence_of_base(base)
        text = card_text(
            sidecar,
            measured=measured,
            licence=found,
            base_model=base,
            repo=repo or folder.parent.name,
        )
        write_text(folder / CARD_NAME, text)
        written.append(folder / CARD_NAME)
    return written


def read_results(file: Path) -> dict[str, Any]:
    """The results of a run.

    Raises: ConfigError if the file holds none.
    """
    try:
        values = json_object(file)
    except CheckpointError as error:
        raise ConfigError(
            "cannot read the results", where=file, expected="a run's results.json"
        ) from error
    fve = values.get("fve")
    if (
        not isinstance(fve, dict)
        or not isinstance(values.get("controls"), dict)
        or not _is_number(fve.get("rl"))
    ):
        raise ConfigError(
            "no results of a run",
            where=file,
            expected="fve.rl and controls, as gloss evaluate writes them",
        )
    return values


def _same_nla(
    sidecar: ModelSidecar, measured: Mapping[str, Any] | None, where: Path | None
) -> None:
    if (
        measured is not None
        and sidecar.layer is not None
        and measured.get("layer") not in (None, sidecar.layer)
    ):
        raise ConfigError(
            "the results are of another NLA",
            where=where,
            expected=f"layer {sidecar.layer}",
            found=measured["layer"],
        )


def _licence_of_base(base: str) -> str | None:
    """The base model's licence where it is a folder here; nothing is asked of the hub."""
    folder = Path(base).expanduser()
    return licence_of(folder) if base and folder.is_dir() else None


def card_text(
    sidecar: ModelSidecar,
    *,
    measured: Mapping[str, Any] | None,
    licence: str | None,
    base_model: str,
    repo: str,
) -> str:
    """The whole card of one half."""
    public = base_model if base_model and not Path(base_model).is_absolute() else None
    matter: dict[str, Any] = {
        "license": licence,
        "base_model": public,
        "library_name": "gloss",
        "tags": ["natural-language-autoencoder", "nla", "interpretability", f"nla-{sidecar.role}"],
    }
    front = yaml.safe_dump(
        {k: v for k, v in matter.items() if v is not None}, sort_keys=False, allow_unicode=True
    )
    layer = "a layer that is not recorded" if sidecar.layer is None else f"layer {sidecar.layer}"
    sections = [
        f"# {repo}: {_ROLES[sidecar.role]}",
        (
            "Half of a natural language autoencoder for activations of"
            f" {_code(public or 'a model that the card does not name')} at {layer} (output of the"
            f" 0-based block, {sidecar.d_model} numbers, raw, before any final norm). The AV writes"
            " an explanation of one activation; the AR rebuilds the activation from the words"
            " alone."
        ),
        "## Use",
        _usage(repo),
        "## Measured",
        "Nothing was measured for this card." if measured is None else _measured(measured),
        "## Facts",
        _facts(sidecar),
        "## Limits",
        (
            "A high FVE does not make an explanation true: themes are right more often than"
            " details, and a pair may use words as a private code. Read explanations together with"
            " the controls, and several samples together."
        ),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n"


def _usage(repo: str) -> str:
    return (
        "```python\nimport gloss\n\n"
        f'nla = gloss.load("{repo}")  # its AV and AR\nprint(nla.explain("Some text to read.",'
        " positions=-1))\n```\n\n"
        f'or `gloss explain "Some text to read." --nla {repo}`'
    )


def _measured(results: Mapping[str, Any]) -> str:
    fve, interval = results["fve"], results["fve"].get("rl_ci95")
    between = (
        f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})" if _is_pair(interval) else ""
    )
    rows = [("**Round trip, greedy**", f"**{fve['rl']:.3f}**{between}")]
    rows += [("Round trip, sampled at temperature 1", _number(fve.get("rl_sampled")))]
    rows += [("AR on labels, before reinforcement learning", _number(fve.get("ar_on_labels")))]
    controls = [
        (f"Control: {_CONTROLS.get(n, n)}", _number(value))
        for n, value in results["controls"].items()
    ]
    table = "\n".join(f"| {what} | {value} |" for what, value in [*rows, *controls])
    rest = [
        f"{results['n_heldout']} held-out activations" if "n_heldout" in results else "",
        (
            f"of {results['n_heldout_documents']} documents"
            if "n_heldout_documents" in results
            else ""
        ),
        (
            f"{results['extraction_failure_rate']:.2%} of the explanations could not be extracted"
            " and count as orthogonal"
            if _is_number(results.get("extraction_failure_rate"))
            else ""
        ),
        (
            f"{results['mean_explanation_tokens']:.1f} tokens an explanation"
            if _is_number(results.get("mean_explanation_tokens"))
            else ""
        ),
    ]
    return (
        "FVE, the fraction of variance explained: 0 is predicting the mean activation, 1 is"
        f" perfect.\n\n| what | FVE |\n|---|---|\n{table}\n\n"
        + "; ".join(part for part in rest if part)
    )


def _facts(sidecar: ModelSidecar) -> str:
    marker = sidecar.marker
    rows = {
        "Stage": sidecar.stage,
        "Trained on": ", ".join(sidecar.trained_on),
        "Injection scale": (
            "" if sidecar.injection_scale is None else f"{sidecar.injection_scale:g}"
        ),
        "Marker": f"{marker.char} (token {marker.token_id})" if marker else "",
        "AV template": _code(sidecar.av_template or ""),
        "AR template": _code(sidecar.ar_template or ""),
        "Made by": sidecar.created_by,
    }
    return "| | |\n|---|---|\n" + "\n".join(
        f"| {name} | {_cell(value)} |" for name, value in rows.items() if value
    )


def _code(text: str) -> str:
    """A text as inline code on one line; templates are not read as HTML or Markdown."""
    flat = " ⏎ ".join(line for line in text.splitlines() if line.strip()).replace("`", "'")
    return f"`{flat}`" if flat else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _number(value: Any) -> str:
    return f"{value:.3f}" if _is_number(value) else "not measured"
