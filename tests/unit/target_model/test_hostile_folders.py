"""Folders made to harm: templates without end, kernels to be fetched, links that lead outside."""

import json
import time

import pytest
from tiny_models import random_model

from gloss.errors import CheckpointError, CorpusError
from gloss.target_model import (
    load_target,
    load_tokenizer,
    refuse_outside_links,
    refuse_without_row,
    template_limits,
)
from gloss.target_model.folder_files import refuse_unsafe_files

_ENDLESS = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = b %}{% endfor %}{% endfor %}"
)


@pytest.mark.invariant("loading-4")
def test_a_template_without_end_is_stopped(tmp_path, lab_tokenizer, monkeypatch):
    monkeypatch.setattr(template_limits, "MAX_SECONDS", 0.3)
    lab_tokenizer.save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    chat, began = [{"role": "user", "content": "Rain."}], time.monotonic()
    assert "Rain." in tokenizer.apply_chat_template(chat, tokenize=False)
    tokenizer.chat_template = _ENDLESS
    with pytest.raises(CorpusError, match="does not come to an end"):
        tokenizer.apply_chat_template(chat, tokenize=False)
    assert time.monotonic() - began < 5


@pytest.mark.invariant("loading-5")
@pytest.mark.parametrize(
    "config",
    [
        {"attn_implementation": "them/attention"},
        {"_attn_implementation": "them/attention"},
        {"text_config": {"_attn_implementation_internal": {"": "them/attention@main"}}},
        {"experts_implementation": ["eager", "them/experts"]},
    ],
)
def test_a_kernel_of_a_repository_is_refused_wherever_it_stands(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"} | config))
    with pytest.raises(CheckpointError, match=r"kernel to be fetched.*them/"):
        refuse_unsafe_files(tmp_path)


def test_a_name_without_repository_is_no_kernel(tmp_path):
    config = {"_attn_implementation": "sdpa", "_name_or_path": "owner/model"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    refuse_unsafe_files(tmp_path)


@pytest.mark.invariant("loading-6")
def test_links_stay_in_the_folder_or_in_the_hubs_cache(tmp_path):
    secret, folder = tmp_path / "secret.txt", tmp_path / "model"
    secret.write_text("key")
    folder.mkdir()
    (folder / "README.md").write_text("text")
    (folder / "LICENSE").symlink_to(folder / "README.md")
    refuse_outside_links(folder)
    (folder / "notes.txt").symlink_to(secret)
    with pytest.raises(CheckpointError, match=r"outside the folder: found notes\.txt"):
        refuse_outside_links(folder)
    cached = tmp_path / "models--a--b" / "snapshots" / "c0ffee1"
    cached.mkdir(parents=True)
    blob = tmp_path / "models--a--b" / "blobs" / "1"
    blob.parent.mkdir()
    blob.write_text("{}")
    (cached / "config.json").symlink_to("../../blobs/1")
    refuse_outside_links(cached)


@pytest.mark.invariant("loading-7")
def test_a_token_without_a_row_is_named(tmp_path, lab_tokenizer):
    random_model(vocab_size=len(lab_tokenizer) - 2).save_pretrained(tmp_path)
    lab_tokenizer.save_pretrained(tmp_path)
    target, last = load_target(tmp_path), len(lab_tokenizer) - 1
    refuse_without_row([0, last - 2], target.model, target.tokenizer, where="d")
    with pytest.raises(CorpusError, match=f"d: .*ids below {last - 1}, found .*id {last}"):
        refuse_without_row([0, last], target.model, target.tokenizer, where="d")
