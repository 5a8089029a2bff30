"""Every form of a checkpoint becomes one folder that loads with the same numbers; what could run
code is refused unread.
"""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from peft import LoraConfig, get_peft_model
from reference_schema import missing_for_the_reference
from safetensors.torch import load_file
from tiny_models import random_model
from tiny_nla import D_MODEL, LAYER
from typer.testing import CliRunner

from gloss.contract import read_model_sidecar, write_model_sidecar
from gloss.errors import CheckpointError, ConfigError, SidecarError
from gloss.models import load_ar, load_av
from gloss.release.convert import ConvertOptions, convert
from gloss.release.dcp import read_dcp, read_dcp_metadata
from gloss.release.summary import inspect
from gloss.release.validate import validate
from gloss.target_model import load_target

TEXTS = ["The mood is calm.", "x"]


def logits(folder):
    av = load_av(folder)
    ids, mask = av.encode_responses(TEXTS)
    activations = torch.randn(2, D_MODEL, generator=torch.Generator().manual_seed(0))
    return av.response_logits(activations, ids, mask)


def same(first, second):
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-4)


def test_what_gloss_saves_has_all_that_the_reference_reads(nla_folder):
    for half in ("av", "ar"):
        assert missing_for_the_reference(nla_folder / half, half) == []


def test_a_converted_pair_loads_with_the_same_numbers_in_another_dialect(nla_folder, tmp_path):
    folders = convert(
        nla_folder,
        tmp_path / "out",
        ConvertOptions(dialect="internal", base_checkpoint="owner/base"),
    )
    assert folders == [tmp_path / "out" / "av", tmp_path / "out" / "ar"]
    assert [summary.dialect for summary in inspect(tmp_path / "out")] == ["internal", "internal"]
    assert read_model_sidecar(folders[0]).base_checkpoint == "owner/base"
    same(logits(folders[0]), logits(nla_folder / "av"))
    same(load_ar(folders[1]).reconstruct(TEXTS), load_ar(nla_folder / "ar").reconstruct(TEXTS))
    assert validate(tmp_path / "out").passed


def test_another_dtype_is_that_of_weights_head_and_config(nla_folder, tmp_path):
    (folder,) = convert(nla_folder / "ar", tmp_path / "out", ConvertOptions(dtype="bfloat16"))
    tensors = [
        *load_file(folder / "model.safetensors").values(),
        *load_file(folder / "value_head.safetensors").values(),
    ]
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert inspect(folder)[0].dtypes.keys() == {"BF16"}
    close = torch.nn.functional.cosine_similarity(
        load_ar(folder).reconstruct(TEXTS), load_ar(nla_folder / "ar").reconstruct(TEXTS)
    )
    assert close.min() > 0.98


def test_shards_become_one_file(nla_folder, tmp_path):
    model = load_target(nla_folder / "av").model
    shutil.copytree(nla_folder / "av", tmp_path / "sharded")
    (tmp_path / "sharded" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "sharded", max_shard_size="60KB")
    assert len(list((tmp_path / "sharded").glob("model-*.safetensors"))) > 1
    (folder,) = convert(tmp_path / "sharded", tmp_path / "out", ConvertOptions())
    assert [path.name for path in folder.glob("*.safetensors*")] == ["model.safetensors"]
    same(logits(folder), logits(nla_folder / "av"))


# ---- sharded training checkpoints


def training_checkpoint(folder, half_folder, state):
    dcp.save(state, checkpoint_id=folder, no_dist=True)
    for path in half_folder.iterdir():
        if path.suffix != ".safetensors":
            shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture
def ar_shards(nla_folder, tmp_path):
    """An AR as training under FSDP and torch.compile names it, with an optimizer beside it."""
    ar = load_ar(nla_folder / "ar")
    weights = {f"model._orig_mod.{name}": tensor for name, tensor in ar.state_dict().items()}
    return training_checkpoint(
        tmp_path / "ar-shards", nla_folder / "ar", {**weights, "optim.lr": torch.ones(3), "step": 7}
    )


def test_training_shards_of_both_halves_become_folders(nla_folder, ar_shards, tmp_path):
    model = load_target(nla_folder / "av").model
    training_checkpoint(
        tmp_path / "av-shards", nla_folder / "av", {"model": model.state_dict(), "step": 7}
    )
    (av,) = convert(tmp_path / "av-shards", tmp_path / "out" / "av", ConvertOptions())
    (ar,) = convert(ar_shards, tmp_path / "out" / "ar", ConvertOptions())
    same(logits(av), logits(nla_folder / "av"))
    same(load_ar(ar).reconstruct(TEXTS), load_ar(nla_folder / "ar").reconstruct(TEXTS))
    assert validate(tmp_path / "out").passed
    assert missing_for_the_reference(ar, "ar") == []


def test_shards_alone_take_config_and_sidecar_from_a_folder_like_them(
    nla_folder, ar_shards, tmp_path
):
    for path in ar_shards.iterdir():
        if path.suffix != ".distcp" and path.name != ".metadata":
            path.unlink()
    with pytest.raises(SidecarError, match="no sidecar"):
        convert(ar_shards, tmp_path / "none", ConvertOptions())
    (ar,) = convert(
        ar_shards, tmp_path / "out", ConvertOptions(like=nla_folder / "ar", dtype="bfloat16")
    )
    assert load_ar(ar).head.weight.shape == (D_MODEL, D_MODEL)
    assert inspect(ar)[0].dtypes.keys() == {"BF16"}


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.mkdir, (self.path,))


def test_an_index_that_would_run_code_is_refused_and_does_not(ar_shards, tmp_path):
    with (ar_shards / ".metadata").open("wb") as stream:
        pickle.dump(Bomb(tmp_path / "executed"), stream)
    with pytest.raises(CheckpointError, match=r"index cannot be read .*it names"):
        read_dcp(ar_shards)
    for code in (b"cos\nsystem\n(S'true'\ntR.", b"cbuiltins\neval\n(S'1'\ntR.", b"", b"garbage"):
        (ar_shards / ".metadata").write_bytes(code)
        with pytest.raises(CheckpointError, match="index cannot be read"):
            read_dcp(ar_shards)
    assert not (tmp_path / "executed").exists()


def test_a_shard_that_would_run_code_is_refused_and_does_not(ar_shards, tmp_path):
    for shard in ar_shards.glob("*.distcp"):
        shard.write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    with pytest.raises(CheckpointError, match="shard cannot be read"):
        read_dcp(ar_shards)
    assert not (tmp_path / "executed").exists()


def test_an_index_cannot_lead_out_of_the_folder(ar_shards):
    metadata = read_dcp_metadata(ar_shards)
    for info in metadata.storage_data.values():
        info.relative_path = "../elsewhere.distcp"
    with (ar_shards / ".metadata").open("wb") as stream:
        pickle.dump(metadata, stream)
    with pytest.raises(CheckpointError, match="shard outside the folder"):
        read_dcp(ar_shards)


def test_shards_of_another_model_name_the_weight_that_is_missing(nla_folder, tmp_path):
    training_checkpoint(tmp_path / "shards", nla_folder / "av", {"other.weight": torch.ones(2)})
    with pytest.raises(CheckpointError, match="a weight of the model is not in this checkpoint"):
        convert(tmp_path / "shards", tmp_path / "out", ConvertOptions())
    assert not (tmp_path / "out").exists()


# ---- LoRA


def adapter(model, folder, base, sidecar):
    torch.manual_seed(5)
    config = LoraConfig(
        r=4,
        target_modules=["q_proj", "down_proj"],
        init_lora_weights=False,
        base_model_name_or_path=base,
    )
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.save_pretrained(folder)
    write_model_sidecar(sidecar, folder)
    return adapted


def test_a_merged_av_adapter_gives_the_logits_of_base_and_adapter(nla_folder, tmp_path):
    target = load_target(nla_folder / "av")
    adapter(
        target.model,
        tmp_path / "lora",
        str(nla_folder / "av"),
        read_model_sidecar(nla_folder / "av"),
    )
    expected = (
        load_target(nla_folder / "av", adapter=tmp_path / "lora")
        .model(torch.tensor([[5, 6, 7]]))
        .logits
    )
    (folder,) = convert(tmp_path / "lora", tmp_path / "out", ConvertOptions())
    found = load_target(folder).model(torch.tensor([[5, 6, 7]])).logits
    same(found, expected)
    assert (
        found - load_target(nla_folder / "av").model(torch.tensor([[5, 6, 7]])).logits
    ).abs().max() > 1e-2
    assert validate(folder).passed


def test_an_ar_adapter_is_merged_into_the_target_and_truncated(nla_folder, tmp_path):
    ar = load_ar(nla_folder / "ar")
    adapter(ar.backbone, tmp_path / "lora", str(nla_folder / "target"), ar.sidecar)
    with pytest.raises(CheckpointError, match="head is missing"):
        convert(tmp_path / "lora", tmp_path / "out", ConvertOptions())
    shutil.copyfile(
        nla_folder / "ar" / "value_head.safetensors", tmp_path / "lora" / "value_head.safetensors"
    )
    (folder,) = convert(tmp_path / "lora", tmp_path / "out", ConvertOptions())
    assert inspect(folder)[0].num_blocks == LAYER + 1
    same(
        load_ar(folder).reconstruct(TEXTS), ar.reconstruct(TEXTS)
    )  # peft has put the adapter into ar.backbone
    assert validate(folder).passed


def test_an_adapter_of_another_model_or_not_in_safetensors_is_refused(nla_folder, tmp_path):
    target = load_target(nla_folder / "av")
    adapter(
        target.model,
        tmp_path / "lora",
        str(nla_folder / "av"),
        read_model_sidecar(nla_folder / "av"),
    )
    random_model(vocab_size=1024, num_blocks=2).save_pretrained(tmp_path / "shallow")
    with pytest.raises(CheckpointError, match="no such model folder"):
        convert(
            tmp_path / "lora",
            tmp_path / "out",
            ConvertOptions(base=str(tmp_path / "nowhere" / "x")),
        )
    with pytest.raises(CheckpointError, match="does not fit its base"):
        convert(tmp_path / "lora", tmp_path / "out", ConvertOptions(base=str(tmp_path / "shallow")))
    (tmp_path / "lora" / "adapter_model.safetensors").rename(
        tmp_path / "lora" / "adapter_model.bin"
    )
    with pytest.raises(CheckpointError, match="no adapter weights in safetensors"):
        convert(tmp_path / "lora", tmp_path / "out", ConvertOptions())


# ---- bad input


def test_a_folder_that_holds_something_is_not_overwritten(nla_folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for out in (tmp_path / "out", nla_folder / "av"):
        with pytest.raises(ConfigError, match="not empty"):
            convert(nla_folder / "av", out, ConvertOptions())
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["convert", "{nla}", "{new}", "--dtype", "int8"], "unknown dtype"),
        (["convert", "nowhere", "{new}"], "no NLA here"),
        (["inspect", "nowhere"], "no NLA here"),
        (["validate", "{nla}", "--texts", "nowhere.txt"], "cannot read the texts"),
        (["card", "{nla}", "--results", "nowhere.json"], "no results of a run"),
        (["push", "{nla}", "owner/name"], "no licence, so it is not published"),
        (["push", "nowhere", "owner/name"], "no such folder"),
        (["pull", "nowhere"], "no NLA here"),
        (["../explain", "x", "--nla", "{nla}", "--device", "nonsense"], "no such device here"),
        (["../explain", "x", "--nla", "{nla}", "--dtype", "int4"], "unknown dtype"),
        (["../explain", "x", "--nla", "owner/nla"], "not in the cache"),
    ],
)
def test_wrong_arguments_end_with_one_line(arguments, line, nla_folder, tmp_path):
    from gloss.cli.main import app

    named = [a.format(nla=nla_folder, new=tmp_path / "new") for a in arguments]
    named = (
        [named[0].removeprefix("../"), *named[1:]]
        if named[0].startswith("../")
        else ["nla", *named]
    )
    result = CliRunner().invoke(app, named)
    assert result.exit_code == 2
    assert line in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
