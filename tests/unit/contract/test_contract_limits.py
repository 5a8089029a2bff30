"""The edges of what a sidecar may hold: the last value that is read and the first that is not."""

import dataclasses

import pytest
import yaml
from test_checkpoint_rules import half_of, lines
from test_sidecar import ar_sidecar, av_sidecar, live_av, rewritten

from gloss.contract import read_model_sidecar, sidecar_yaml, write_model_sidecar
from gloss.contract.checkpoint_rules import config_integer
from gloss.contract.sidecar_yaml import read_yaml
from gloss.errors import CheckpointError, SidecarError


def yaml_file(tmp_path, text):
    file = tmp_path / "nla_meta.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_number_has_64_characters_at_most(tmp_path):
    assert read_yaml(yaml_file(tmp_path, f"a: {'9' * 64}"))["a"] == int("9" * 64)
    with pytest.raises(SidecarError, match="a number of 65 characters"):
        read_yaml(yaml_file(tmp_path, f"a: {'9' * 65}"))


def test_a_sidecar_has_a_million_bytes_at_most(tmp_path):
    text = "a: 1\n#"
    assert read_yaml(yaml_file(tmp_path, text + "x" * (1_000_000 - len(text)))) == {"a": 1}
    with pytest.raises(SidecarError, match="at most 1000000 bytes"):
        read_yaml(yaml_file(tmp_path, text + "x" * (1_000_001 - len(text))))


def test_every_value_and_every_key_counts_and_each_alias_as_what_it_stands_for(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sidecar_yaml, "MAX_VALUES", 9)
    inside = {"four pairs": "{a: 1, b: 2, c: 3, d: 4}", "a list": "{a: [1, 2, 3, 4, 5, 6]}"}
    beyond = {
        "five pairs": "{a: 1, b: 2, c: 3, d: 4, e: 5}",
        "a list": "{a: [1, 2, 3, 4, 5, 6, 7]}",
        "aliases": "{a: &x [1, 2], b: *x, c: *x}",
    }
    for text in inside.values():
        assert read_yaml(yaml_file(tmp_path, text))
    for text in beyond.values():
        with pytest.raises(SidecarError, match="more than 9 values"):
            read_yaml(yaml_file(tmp_path, text))


def test_a_key_that_comes_twice_is_named_by_its_beginning(tmp_path):
    long = "k" * 60
    with pytest.raises(SidecarError) as caught:
        read_yaml(yaml_file(tmp_path, f"{long}: 1\n{long}: 2\n"))
    assert f"the key '{'k' * 40}' comes twice" in str(caught.value)


def test_the_largest_integer_is_what_every_json_reader_holds_exactly(tmp_path):
    largest = rewritten(tmp_path, av_sidecar(), tokens__injection_token_id=2**53)
    assert read_model_sidecar(largest).marker.token_id == 2**53
    beyond = rewritten(tmp_path, av_sidecar(), tokens__injection_token_id=2**53 + 1)
    with pytest.raises(SidecarError, match="injection_token_id"):
        read_model_sidecar(beyond)


@pytest.mark.parametrize("char", ["", "ab"])
def test_a_marker_is_one_character(tmp_path, char):
    with pytest.raises(SidecarError, match="injection_char"):
        read_model_sidecar(rewritten(tmp_path, av_sidecar(), tokens__injection_char=char))


def test_of_several_faults_the_first_is_named(tmp_path):
    wrong = {"tokens__injection_token_id": "x", "tokens__injection_left_neighbor_id": "y"}
    with pytest.raises(SidecarError, match=r"injection_token_id.*found 'x'"):
        read_model_sidecar(rewritten(tmp_path, av_sidecar(), **wrong))


def test_the_layer_of_an_internal_ar_stands_in_its_block_alone(tmp_path):
    def top(sidecar, dialect):
        file = write_model_sidecar(sidecar, tmp_path, dialect=dialect)
        return yaml.safe_load(file.read_text(encoding="utf-8"))

    internal = top(ar_sidecar(), "internal")
    assert internal["critic"] == {"extraction_layer_index": 2}
    assert "extraction_layer_index" not in internal
    assert top(ar_sidecar(), "released")["extraction_layer_index"] == 2
    assert top(av_sidecar(), "internal")["extraction_layer_index"] == 2
    assert "critic" not in top(av_sidecar(), "internal")
    assert "extraction_layer_index" not in top(av_sidecar(layer=None), "released")


@pytest.mark.parametrize("value", [None, 0, "16", 1.5, [16]])
def test_a_size_in_a_config_is_a_whole_number_above_0(value, make_tokenizer):
    tokenizer = make_tokenizer("㈎")
    assert config_integer(half_of(live_av(tokenizer), tokenizer), "hidden_size") == 16
    with pytest.raises(CheckpointError, match="no hidden_size"):
        config_integer(half_of(live_av(tokenizer), tokenizer, hidden_size=value), "hidden_size")


def test_a_half_without_a_marker_has_no_prompt_to_check(make_tokenizer):
    tokenizer = make_tokenizer("㈎", bos=True)
    bare = dataclasses.replace(live_av(tokenizer), marker=None)
    half = half_of(bare, tokenizer)
    assert lines(half, "fail") == {}
    passed = lines(half, "ok")
    assert passed["marker in prompt"].startswith("no marker")
    assert passed["BOS"].startswith("this tokenizer has no BOS of its own")


@pytest.mark.parametrize(
    ("p75", "scale", "unusual"),
    [
        (10.0, 1.0, False),
        (10.0, 0.95, True),
        (10.0, 100.0, False),
        (10.0, 100.5, True),
        (None, 0.01, False),
        (None, 0.0099, True),
        (None, 1e7, False),
        (None, 10_000_000.5, True),
    ],
)
def test_an_injection_scale_is_within_a_factor_of_ten_of_the_norms(
    p75, scale, unusual, make_tokenizer
):
    tokenizer = make_tokenizer("㈎")
    good = live_av(tokenizer)
    norms = {} if p75 is None else {"p75": p75}
    trust = good.trust.model_copy(update={"norm_statistics": norms})
    half = half_of(dataclasses.replace(good, injection_scale=scale, trust=trust), tokenizer)
    assert ("injection scale" in lines(half, "warning")) is unusual
