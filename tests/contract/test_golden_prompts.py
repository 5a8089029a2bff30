"""Token ids of AV and AR prompts, marker sites and extraction, against what the reference
computed.
"""

import json
import subprocess
import sys

import pytest

from gloss.contract import (
    DEFAULT_AV_TEMPLATE,
    Explanation,
    ExtractionFailed,
    ar_prompt_ids,
    choose_marker,
    extract_explanation,
    find_marker,
    marker_for,
    prompt_ids,
    read_model_sidecar,
    render_chat_ids,
    wrap_explanation,
)
from gloss.errors import MarkerError


@pytest.fixture(params=["qwen2", "gemma3"])
def family(golden, request):
    return golden / request.param


def expected(family, name):
    return json.loads((family / "expected" / name).read_text(encoding="utf-8"))


def tokenizer_of(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_av_prompt_ids_and_injection_position(family):
    wanted, sidecar, tokenizer = (
        expected(family, "av.json"),
        read_model_sidecar(family / "av"),
        tokenizer_of(family / "av"),
    )
    ids = prompt_ids(tokenizer, sidecar.av_template, sidecar.marker.char)
    assert ids == wanted["token_ids"]
    assert find_marker(ids, sidecar.marker) == wanted["injection_position"]
    assert marker_for(tokenizer, sidecar.av_template, sidecar.marker.char) == sidecar.marker


def test_custom_prompts_are_found_or_refused_as_in_the_reference(family):
    wanted, sidecar, tokenizer = (
        expected(family, "av.json"),
        read_model_sidecar(family / "av"),
        tokenizer_of(family / "av"),
    )
    for case in wanted["custom_prompts"].values():
        content = case["prompt"].replace("<INJECT>", sidecar.marker.char)
        ids = render_chat_ids(tokenizer, [{"role": "user", "content": content}])
        if case["ok"]:
            assert ids == case["value"]["token_ids"]
            find_marker(ids, sidecar.marker)
        else:
            with pytest.raises(MarkerError):
                find_marker(ids, sidecar.marker)


def test_ar_prompt_ids_and_suffix(family):
    wanted, tokenizer = expected(family, "ar.json"), tokenizer_of(family / "ar")
    ids = [ar_prompt_ids(tokenizer, wanted["template"], text) for text in wanted["explanations"]]
    assert ids == wanted["prompt_token_ids_with_special"]
    suffix = wanted["critic_suffix_ids"]
    assert all(row[-len(suffix) :] == suffix for row in ids)


@pytest.mark.invariant("6")
def test_gemma_prompts_have_one_bos(golden):
    tokenizer, sidecar = (
        tokenizer_of(golden / "gemma3" / "av"),
        read_model_sidecar(golden / "gemma3" / "av"),
    )
    av_ids = prompt_ids(tokenizer, sidecar.av_template, sidecar.marker.char)
    ar_ids = ar_prompt_ids(tokenizer, sidecar.ar_template, "x")
    for ids in (av_ids, ar_ids):
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1


def test_a_marker_is_chosen_for_the_default_template(family):
    tokenizer = tokenizer_of(family / "base")
    before = len(tokenizer)
    chosen = choose_marker(tokenizer, DEFAULT_AV_TEMPLATE)
    assert not chosen.added
    assert len(tokenizer) == before
    assert tokenizer.encode(chosen.marker.char, add_special_tokens=False) == [
        chosen.marker.token_id
    ]
    find_marker(prompt_ids(tokenizer, DEFAULT_AV_TEMPLATE, chosen.marker.char), chosen.marker)


def test_a_base_model_of_512_tokens_gets_a_visible_marker(real):
    tokenizer = tokenizer_of(real / "stories260k")
    chosen = choose_marker(tokenizer, DEFAULT_AV_TEMPLATE)
    assert not chosen.added
    assert chosen.marker.char.isprintable()
    assert not chosen.marker.char.isspace()
    ids = prompt_ids(tokenizer, DEFAULT_AV_TEMPLATE, chosen.marker.char)
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[find_marker(ids, chosen.marker)] == chosen.marker.token_id


def test_extraction_agrees_with_the_reference_except_for_empty_texts(golden):
    cases = json.loads((golden / "common" / "explanation_tags.json").read_text(encoding="utf-8"))
    for case in cases["extract"]:
        extracted = extract_explanation(case["response"])
        if case["package"]:
            assert extracted == Explanation(case["package"])
        else:
            assert isinstance(extracted, ExtractionFailed)
            assert (extracted.reason == "empty") == (case["package"] == "")
    for case in cases["wrap"]:
        assert wrap_explanation(case["text"]) == case["wrapped"]


def test_the_contract_imports_neither_torch_nor_transformers():
    code = (
        "import sys, gloss.contract; print([m for m in ('torch', 'transformers', 'numpy') if m in"
        " sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
