"""What the reference's readers need of a checkpoint, written down from the golden README and
expected_parse.json.

Three readers: ``standalone_loader`` (inference client, AV), ``package_loader`` (training package,
both halves, internal names),
``standalone_critic`` (inference client, AR). Each takes exactly what is listed here and computes
with it."""

import json
import math
from pathlib import Path

import yaml
from safetensors import safe_open

NAMES = {"released": {"av": "av", "ar": "ar"}, "internal": {"av": "actor", "ar": "critic"}}
TOKENS = (
    "injection_char",
    "injection_token_id",
    "injection_left_neighbor_id",
    "injection_right_neighbor_id",
)


def missing_for_the_reference(folder: Path, role: str, *, dialect: str = "released") -> list[str]:
    """Every file, key and value that a reader of the reference needs and the folder lacks; empty
    for a good folder.
    """
    sidecar = yaml.safe_load((folder / "nla_meta.yaml").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names, wrong = NAMES[dialect], []

    def need(said: str, holds: object) -> None:
        if not holds:
            wrong.append(said)

    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "nla_meta.yaml"):
        need(file, (folder / file).is_file())
    need("safetensors weights", list(folder.glob("model*.safetensors")))
    need("kind: nla_model", sidecar.get("kind") == "nla_model")
    need("schema_version", sidecar.get("schema_version") in (1, 2))
    need("role", sidecar.get("role") == names[role])
    need("d_model", sidecar.get("d_model") == config["hidden_size"])
    need("extraction block", isinstance(sidecar.get("extraction"), dict))
    extraction = sidecar.get("extraction") or {}
    need(
        "extraction.mse_scale",
        math.isclose(extraction.get("mse_scale") or 0, sidecar["d_model"] ** 0.5, rel_tol=1e-6),
    )
    need("extraction.injection_scale", "injection_scale" in extraction)
    tokens, templates = sidecar.get("tokens") or {}, sidecar.get("prompt_templates") or {}
    need("tokens.critic_suffix_ids", "critic_suffix_ids" in tokens)
    wrong += _av(sidecar, names) if role == "av" else _ar(folder, sidecar, config, names)
    need("texts", all(isinstance(text, str) for text in templates.values()))
    if dialect == "released":
        need("extraction_layer_index", isinstance(sidecar.get("extraction_layer_index"), int))
    return wrong


def _av(sidecar: dict, names: dict) -> list[str]:
    tokens, scale = sidecar["tokens"], sidecar["extraction"]["injection_scale"]
    wrong = [f"tokens.{name}" for name in TOKENS if tokens.get(name) is None]
    wrong += [
        f"tokens.{name} is an integer"
        for name in TOKENS[1:]
        if not isinstance(tokens.get(name), int)
    ]
    if not (scale == "raw" or (isinstance(scale, float) and scale > 0)):
        wrong.append("a usable injection_scale")
    if sidecar["prompt_templates"].get(names["av"], "").count("{injection_char}") != 1:
        wrong.append(f"prompt_templates.{names['av']} with one field")
    return wrong


def _ar(folder: Path, sidecar: dict, config: dict, names: dict) -> list[str]:
    wrong, d = [], sidecar["d_model"]
    if sidecar["prompt_templates"].get(names["ar"], "").count("{explanation}") != 1:
        wrong.append(f"prompt_templates.{names['ar']} with one field")
    layer = (sidecar.get("critic") or {}).get("extraction_layer_index")
    if layer is None or config["num_hidden_layers"] != layer + 1:
        wrong.append("critic.extraction_layer_index, one below the number of blocks")
    if len(config.get("layer_types") or [0] * (layer or 0) + [0]) != config["num_hidden_layers"]:
        wrong.append("layer_types as long as there are blocks")
    head = folder / "value_head.safetensors"
    if not head.is_file():
        return [*wrong, "value_head.safetensors"]
    with safe_open(head, "pt") as opened:
        if list(opened.keys()) != ["weight"] or opened.get_slice("weight").get_shape() != [d, d]:
            wrong.append(f"weight [{d}, {d}] alone in value_head.safetensors")
    keys = {
        key
        for file in folder.glob("model*.safetensors")
        for key in safe_open(file, "pt").keys()  # noqa: SIM118
    }
    if extra := [key for key in keys if key.startswith("lm_head") or key == "model.norm.weight"]:
        wrong.append(f"no {extra[0]} in an AR")
    return wrong
