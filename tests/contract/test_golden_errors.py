"""Broken checkpoints, odd activations, prompts and texts that the reference was tried with, at the
level of loading and calls.

A case that Gloss settles otherwise than the reference stands in a table with the reason.
"""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_golden_sidecars import ACCEPTED

from gloss.contract import find_marker, render_chat_ids
from gloss.errors import ActivationError, ConfigError, CorpusError, GlossError, MarkerError
from gloss.models import load_ar, load_av
from gloss.nla import NLA

TEXT = "A short phrase."


@pytest.fixture(scope="module", params=["qwen2", "gemma3"])
def family(request, golden):
    return golden / request.param


@pytest.fixture(scope="module")
def cases(family):
    return json.loads((family / "errors/cases.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def probe(family):
    return load_file(family / "errors/probe_vector.safetensors")["vector"]


@pytest.fixture(scope="module")
def nla(family):
    return NLA(av=family / "av", ar=family / "ar", target=family / "base", max_new_tokens=2)


def half_with(family, half, folder, sidecar):
    """The reference's half with another sidecar, or none; its weights are not copied."""
    folder.mkdir(parents=True)
    for file in (family / half).iterdir():
        if file.name != "nla_meta.yaml":
            (folder / file.name).symlink_to(file)
    if sidecar is not None:
        shutil.copyfile(sidecar, folder / "nla_meta.yaml")
    return folder


def _same_slot_as_the_reference(av, case, probe):
    recorded = case["standalone_client_build_embeds"].get("value")
    if recorded is None:
        return
    assert len(av.prefix_ids + av.tail_ids) == recorded["T"]
    slot = av.embed_after_prefix(probe.unsqueeze(0))[0, 1]
    assert float(slot.norm()) == pytest.approx(recorded["norm_at_slot"], rel=1e-5)


def _same_score_as_the_reference(ar, case, probe):
    recorded = case["standalone_critic_score"].get("value")
    if recorded is None:
        return
    cosine = torch.nn.functional.cosine_similarity(ar.reconstruct([TEXT])[0], probe, dim=0)
    assert float(cosine) == pytest.approx(recorded["cos"], abs=1e-4)


def test_every_recorded_sidecar_is_refused_or_loads_to_the_references_numbers(
    family, cases, probe, tmp_path
):
    accepted, refused = [], {}
    for number, case in enumerate(cases["sidecar_cases"]):
        half = case["checkpoint"]
        sidecar = case["sidecar"] and family / "errors/sidecars" / case["sidecar"]
        folder = half_with(family, half, tmp_path / str(number) / half, sidecar)
        try:
            loaded = load_av(folder) if half == "av" else load_ar(folder)
        except GlossError as error:
            refused[case["case"]] = (str(error), folder)
            continue
        accepted.append(str(case["sidecar"]).removesuffix(".yaml"))
        (_same_slot_as_the_reference if half == "av" else _same_score_as_the_reference)(
            loaded, case, probe
        )
    assert sorted(accepted) == sorted(ACCEPTED)
    assert not any("\n" in line for line, _ in refused.values())
    for line, folder in (refused[name] for name in ("missing_file", "empty_file", "broken_yaml")):
        assert str(folder) in line


def test_a_sidecar_of_another_width_is_refused_before_the_weights_are_used(family, tmp_path):
    folder = half_with(
        family, "ar", tmp_path / "ar", family / "errors/sidecars/ar.d_model_wrong.yaml"
    )
    with pytest.raises(GlossError, match="d_model does not fit the weights"):
        NLA(ar=folder).score([TEXT], torch.ones(1, NLA(ar=folder).sidecar.d_model))


def _head(change):
    def damage(folder):
        file = folder / "value_head.safetensors"
        weight = load_file(file)["weight"]
        file.unlink()
        save_file(change(weight), file)

    return damage


def _no_bos(folder):
    file = folder / "tokenizer.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    file.write_text(json.dumps(values | {"post_processor": None}), encoding="utf-8")


DAMAGES = {
    "value_head_missing": (
        lambda folder: (folder / "value_head.safetensors").unlink(),
        "head is missing",
    ),
    "value_head_wrong_shape": (
        _head(lambda w: {"weight": w[:, :-1].contiguous()}),
        "wrong AR head",
    ),
    "value_head_wrong_key": (_head(lambda w: {"kernel": w}), r"alone, found kernel \["),
    "value_head_with_bias": (
        _head(lambda w: {"weight": w, "bias": w[0].clone()}),
        r"alone, found bias \[\d+\], weight \[",
    ),
    "value_head_nan": (_head(lambda w: {"weight": w * torch.nan}), "NaN or infinity"),
    "tokenizer_does_not_add_bos": (_no_bos, "does not begin with BOS"),
    "value_head_bfloat16": (_head(lambda w: {"weight": w.bfloat16()}), None),
}


def test_every_damaged_head_and_tokenizer_is_refused(family, cases, probe, tmp_path):
    """The reference takes a missing head (and makes a random one) and a head of NaN."""
    for case in cases["weight_and_tokenizer_cases"]:
        damage, line = DAMAGES[case["case"]]
        folder = half_with(
            family, "ar", tmp_path / case["case"] / "ar", family / "ar/nla_meta.yaml"
        )
        damage(folder)
        if line is None:
            recorded = case["standalone_critic_score"]["value"]
            score = NLA(ar=folder).score([TEXT], probe)[0]
            assert score.direction_mse == pytest.approx(recorded["mse"], abs=1e-4)
        else:
            with pytest.raises(GlossError, match=line):
                load_ar(folder)
    assert {case["case"] for case in cases["weight_and_tokenizer_cases"]} <= set(DAMAGES)


def activations(probe):
    """Every recorded kind of activation, made from the probe vector."""
    row, d_model = probe.numpy(), len(probe)
    return {
        "float32_array": row,
        "float64_array": row.astype(np.float64),
        "python_list": row.tolist(),
        "int_array": np.arange(1, d_model + 1),
        "row_matrix_1_d": row[None],
        "column_matrix_d_1": row[:, None],
        "nan": np.full(d_model, np.nan, dtype=np.float32),
        "inf": np.full(d_model, np.inf, dtype=np.float32),
        "minus_inf": np.full(d_model, -np.inf, dtype=np.float32),
        "zeros": np.zeros(d_model, dtype=np.float32),
        "too_short": row[:-1],
        "too_long": np.append(row, row[:1]),
        "empty": row[:0],
        "scalar": np.float32(1.0),
        "strings": ["x"] * d_model,
        "none": None,
        "object_ragged": [[1.0], [1.0, 2.0]],
        "huge_1e38": np.full(d_model, 1e38, dtype=np.float32),
        "float64_1e300": np.full(d_model, 1e300),
        "tiny_1e-40": np.full(d_model, 1e-40, dtype=np.float32),
        "complex": row.astype(np.complex64),
        "float32": row,
        "list": row.tolist(),
        "length_one": row[:1],
        "huge_1e30": np.full(d_model, 1e30, dtype=np.float32) * row,
    }


# What the reference takes and Gloss refuses.
STRICTER = {
    "column_matrix_d_1": (
        "one number is no activation; the reference broadcasts it in a score and gets a wrong MSE"
    ),
    "zeros": "a zero vector has no direction; the reference injects zeros and scores NaN",
    "complex": "the imaginary part would be dropped silently",
    "nan": "not a number in, not a number out",
    "inf": "not finite, as a gold too",
}
# What the reference refuses, or answers with NaN, and Gloss takes.
WIDER = {
    "row_matrix_1_d": "[1, d] is one activation, wherever one is given",
    "huge_1e30": "its float32 norm overflows, its direction does not",
}


def _refused(call) -> str | None:
    try:
        call()
    except ActivationError as error:
        return str(error)
    return None


def test_every_recorded_activation_is_explained_or_refused(nla, cases, probe):
    kinds, seen = activations(probe), 0
    for case in (case for case in cases["call_cases"] if "activation" in case):
        line = _refused(lambda case=case: nla.explain(kinds[case["activation"]], score=False))
        accepted = case["outcome"] == "accepted" and case["activation"] not in STRICTER
        assert (line is None) == accepted, (case["activation"], line)
        seen += 1
    assert seen == 21


def test_every_recorded_gold_is_scored_as_the_reference_does_or_refused(nla, cases, probe):
    kinds = activations(probe)
    for case in (case for case in cases["call_cases"] if "gold" in case):
        line = _refused(lambda case=case: nla.score([TEXT], kinds[case["gold"]]))
        if case["gold"] in WIDER:
            assert nla.score([TEXT], kinds[case["gold"]])[0].direction_mse == pytest.approx(
                nla.score([TEXT], probe)[0].direction_mse, abs=1e-4
            )
            continue
        accepted = case["outcome"] == "accepted" and case["gold"] not in STRICTER
        assert (line is None) == accepted, (case["gold"], line)
        if accepted:
            score = nla.score([TEXT], kinds[case["gold"]])[0]
            assert score.direction_mse == pytest.approx(case["value"]["mse"], abs=1e-4)
            assert score.cosine == pytest.approx(case["value"]["cos"], abs=1e-4)
        else:
            assert case["gold"] not in WIDER


# Prompts that hold the activation's place twice: one activation has one place.
TWICE = ("two_placeholders", "canonical_twice_via_literal")


def test_every_recorded_prompt_has_one_place_or_is_refused(nla, cases):
    """The reference fills two places with one vector, or raises IndexError, depending on the
    neighbours' tokens.
    """
    av = nla.av
    for case in (case for case in cases["call_cases"] if "prompt" in case):
        content = case["prompt"].replace("<INJECT>", av.marker.char)
        ids = render_chat_ids(av.tokenizer, [{"role": "user", "content": content}])
        if case["outcome"] == "accepted" and case["case"] not in TWICE:
            site = find_marker(ids, av.marker)
            assert ids[site] == av.marker.token_id
        elif case["outcome"] == "accepted":
            sites = sum(ids[i - 1 : i + 2] == av.tail_ids[:3] for i in range(1, len(ids)))
            assert _found_once(ids, av.marker) == (sites == 1), case
        else:
            assert not _found_once(ids, av.marker), case


def _found_once(ids, marker) -> bool:
    try:
        find_marker(ids, marker)
    except MarkerError:
        return False
    return True


TEXTS = {
    "empty": "",
    "only_braces": "{}",
    "format_field": "{explanation}",
    "attribute_field": "{0.__class__}",
    "unbalanced": "}{",
    "nul": "a\x00b",
}
# Texts that are recorded by name only: that they are scored is checked, not to what.
UNKNOWN_TEXTS = {
    "whitespace": "  \n ",
    "very_long_over_max_position": "word " * 1500,
    "special_token_text": "<|im_end|><bos><eos>",
}


def test_every_recorded_explanation_gets_the_references_score(nla, cases, probe):
    for case in (case for case in cases["call_cases"] if "explanation" in case):
        name = case["explanation"]
        if name == "lone_surrogate":
            with pytest.raises(ConfigError, match="explanation 0 holds half a character"):
                nla.score(["\ud800"], probe)
            continue
        if name == "very_long_over_max_position":  # read there beyond what the AR was made for
            with pytest.raises(CorpusError, match="explanation 0: too long for the AR"):
                nla.score([UNKNOWN_TEXTS[name]], probe)
            continue
        score = nla.score([{**TEXTS, **UNKNOWN_TEXTS}[name]], probe)[0]
        assert math.isfinite(score.direction_mse)
        if name in TEXTS:
            assert score.direction_mse == pytest.approx(case["value"]["mse"], abs=1e-4), name
            assert score.cosine == pytest.approx(case["value"]["cos"], abs=1e-4), name


def test_what_is_no_text_is_refused_where_the_reference_scores_its_name(nla, cases, probe):
    """The reference formats None, 3, b'abc' and ['a'] into the prompt, and scores "None", "3",
    "b'abc'" and "['a']".
    """
    values = {"none": None, "int": 3, "bytes": b"abc", "list": ["a"]}
    for case in (case for case in cases["call_cases"] if "explanation_type" in case):
        value = values[case["explanation_type"]]
        with pytest.raises(
            ConfigError, match=f"explanation 0 is not a text.*found {type(value).__name__}"
        ):
            nla.score([value], probe)
        named = nla.score([str(value)], probe)[0]
        assert named.direction_mse == pytest.approx(case["value"]["mse"], abs=1e-4)


def test_all_recorded_calls_are_decided(cases):
    kinds = ("activation", "gold", "prompt", "explanation", "explanation_type")
    assert all(sum(kind in case for kind in kinds) == 1 for case in cases["call_cases"])
    assert len(cases["call_cases"]) == 21 + 10 + 8 + 10 + 4
