"""The prompt's embeddings, read alone from the file, are those of the whole AV."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from family_models import FAMILIES, family_model, text_side
from safetensors.torch import load_file, save_file
from tiny_models import random_model
from tiny_nla import AV_TEMPLATE, D_MODEL, make_av, nla_sidecar

from gloss.contract import write_model_sidecar
from gloss.errors import CheckpointError, GlossError, MarkerError, SidecarError
from gloss.models import ActivationVerbalizer, PromptEmbedder, inject, load_av, save_av

DTYPES = ["float32", "bfloat16"]


def _activations(n=3):
    return torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(1))


def _expected(av, activations):
    ids = torch.tensor(av.prefix_ids + av.tail_ids).expand(len(activations), -1)
    with torch.no_grad():
        return inject(
            av.embedding(ids),
            ids,
            activations,
            marker=av.marker,
            injection_scale=av.sidecar.injection_scale,
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_embeddings_equal_the_whole_avs(family, dtype, lab_tokenizer, tmp_path):
    """Bit for bit, also where the embedding module multiplies by a √d that bfloat16 has rounded."""
    model = family_model(family, len(lab_tokenizer))
    av = ActivationVerbalizer(text_side(model), lab_tokenizer, nla_sidecar(lab_tokenizer, "av"))
    save_av(av, tmp_path / "av")
    model.save_pretrained(tmp_path / "av")  # of a wrapper, the wrapper's own names of weights
    whole, embedder = (
        load_av(tmp_path / "av", dtype=dtype),
        PromptEmbedder.load(tmp_path / "av", dtype=dtype),
    )
    found = embedder.embeddings(_activations())
    assert found.dtype == getattr(torch, dtype)
    assert torch.equal(found, _expected(whole, _activations()))
    assert torch.equal(found[:, embedder.site], embedder.injected_rows(_activations()))
    assert embedder.stop_ids == whole.stop_ids


def test_the_dtype_is_the_files_own_unless_another_is_asked_for(lab_tokenizer, tmp_path):
    av = make_av(lab_tokenizer)
    av.model.to(torch.bfloat16)
    save_av(av, tmp_path / "av")
    assert PromptEmbedder.load(tmp_path / "av").embeddings(_activations()).dtype == torch.bfloat16


@pytest.mark.parametrize("tied", [True, False])
def test_shards_are_found_by_the_index_and_the_others_are_not_opened(tied, lab_tokenizer, tmp_path):
    folder = tmp_path / "av"
    av = make_av(lab_tokenizer)
    av.model.config.tie_word_embeddings = tied
    save_av(av, folder)
    expected = PromptEmbedder.load(folder).embeddings(_activations())
    av.model.save_pretrained(folder, max_shard_size="40KB")
    (folder / "model.safetensors").unlink()
    files = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    for shard in set(files.values()) - {files["model.embed_tokens.weight"]}:
        (folder / shard).write_bytes(b"not to be read")
    assert len(set(files.values())) > 3
    assert torch.equal(PromptEmbedder.load(folder).embeddings(_activations()), expected)


def test_a_tied_table_may_stand_under_the_lm_heads_name(lab_tokenizer, tmp_path):
    save_av(make_av(lab_tokenizer), tmp_path / "av")
    expected = PromptEmbedder.load(tmp_path / "av").embeddings(_activations())
    file = tmp_path / "av/model.safetensors"
    weights = load_file(file)
    weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")
    save_file(weights, file, {"format": "pt"})
    assert torch.equal(PromptEmbedder.load(tmp_path / "av").embeddings(_activations()), expected)


def test_a_name_without_the_backbones_prefix_is_found(lab_tokenizer, tmp_path):
    """As GPT-2's files on the hub have it."""
    gpt2 = next(family for family in FAMILIES if family.name == "gpt2")
    av = ActivationVerbalizer(
        family_model(gpt2, len(lab_tokenizer)), lab_tokenizer, nla_sidecar(lab_tokenizer, "av")
    )
    save_av(av, tmp_path / "av")
    file = tmp_path / "av/model.safetensors"
    save_file(
        {k.removeprefix("transformer."): v for k, v in load_file(file).items()},
        file,
        {"format": "pt"},
    )
    assert torch.equal(
        PromptEmbedder.load(tmp_path / "av").embeddings(_activations()),
        _expected(av, _activations()),
    )


GIGABYTES = 4


def test_nothing_else_of_the_file_is_read(lab_tokenizer, tmp_path):
    """All else in the file, and the rest of the table, are holes: four gigabytes that would become
    resident if they were read.
    """
    folder, rows = tmp_path / "av", 1_000_000
    av = make_av(lab_tokenizer)
    av.model.config.vocab_size = rows
    save_av(av, folder)
    table = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].clone()
    _write_sparse(folder / "model.safetensors", table, rows=rows, other=GIGABYTES * 2**30)
    before = _resident_file_bytes()
    embedder = PromptEmbedder.load(folder)
    assert _resident_file_bytes() - before < 8 * 2**20
    assert torch.equal(embedder.embeddings(_activations()), _expected(av, _activations()))


def _write_sparse(file: Path, table: torch.Tensor, *, rows: int, other: int) -> None:
    width = table.shape[1] * 4
    end, key = other + rows * width, "model.embed_tokens.weight"
    tensors = {
        "model.norm.weight": ([other // 4], [0, other]),
        key: ([rows, table.shape[1]], [other, end]),
    }
    described = {
        name: {"dtype": "F32", "shape": s, "data_offsets": at} for name, (s, at) in tensors.items()
    }
    header = json.dumps(described).encode()
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(header)) + header)
        out.seek(8 + len(header) + other)
        out.write(table.detach().contiguous().numpy().tobytes())
        out.truncate(8 + len(header) + end)


def _resident_file_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssFile:")[1].split()[0])


def test_of_a_hub_model_only_the_file_that_holds_the_table_is_needed(
    lab_tokenizer, tmp_path, monkeypatch
):
    """As the cache stands after it: what loading would need beside it is not there, and cannot be
    fetched.
    """
    from huggingface_hub import constants

    av, commit = make_av(lab_tokenizer), "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub/models--owner--name-av"
    snapshot = repository / "snapshots" / commit
    save_av(av, snapshot)
    av.model.save_pretrained(snapshot, max_shard_size="40KB")
    (snapshot / "model.safetensors").unlink()
    files = json.loads((snapshot / "model.safetensors.index.json").read_text())["weight_map"]
    for shard in set(files.values()) - {files["model.embed_tokens.weight"]}:
        (snapshot / shard).unlink()
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    embedder = PromptEmbedder.load("owner/name-av")
    assert torch.equal(embedder.embeddings(_activations()), _expected(av, _activations()))


def test_a_sidecar_of_another_model_is_refused_before_work(lab_tokenizer, tmp_path):
    av = make_av(lab_tokenizer)
    save_av(av, tmp_path / "av")
    marker = replace(av.marker, left_neighbor_id=av.marker.left_neighbor_id + 1)
    for error, changes in (
        (SidecarError, {"d_model": 16}),
        (SidecarError, {"layer": 4}),
        (MarkerError, {"marker": marker}),
        (CheckpointError, {"role": "ar"}),
    ):
        write_model_sidecar(replace(av.sidecar, **changes), tmp_path / "av")
        with pytest.raises(error):
            PromptEmbedder.load(tmp_path / "av")


@pytest.mark.parametrize(
    "damage",
    ["missing", "empty", "cut", "no table", "narrow table", "short table", "integers", "NaN"],
)
def test_a_damaged_file_is_refused(damage, lab_tokenizer, tmp_path):
    save_av(make_av(lab_tokenizer), tmp_path / "av")
    file, key = tmp_path / "av/model.safetensors", "model.embed_tokens.weight"
    weights = load_file(file)
    table = weights.pop(key)
    changed = {
        "no table": {},
        "narrow table": {key: table[:, :8].contiguous()},
        "short table": {key: table[:50].contiguous()},
        "integers": {key: table.to(torch.int32)},
        "NaN": {key: table * float("nan")},
    }
    if damage == "missing":
        file.unlink()
    elif damage in changed:
        save_file(weights | changed[damage], file, {"format": "pt"})
    else:
        file.write_bytes(b"" if damage == "empty" else file.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="av"):
        PromptEmbedder.load(tmp_path / "av")


def test_a_folder_that_is_no_av_is_refused(tmp_path, lab_tokenizer):
    random_model(vocab_size=len(lab_tokenizer)).save_pretrained(tmp_path / "plain")
    for name in (tmp_path / "plain", tmp_path / "nothing"):
        with pytest.raises(GlossError):
            PromptEmbedder.load(name)


def test_the_prompt_is_the_sidecars(lab_tokenizer, tmp_path):
    save_av(make_av(lab_tokenizer), tmp_path / "av")
    embedder = PromptEmbedder.load(tmp_path / "av")
    assert embedder.tokenizer.decode(embedder.ids).count(embedder.marker.char) == 1
    assert AV_TEMPLATE.split("{")[0] in embedder.tokenizer.decode(embedder.ids)
