"""Nothing from a file is executed, nothing outside a folder is opened, model text stays text,
secrets stay in the environment.
"""

import ast
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import random_model

import gloss
from gloss.contract import ModelSidecar, write_model_sidecar
from gloss.errors import CheckpointError, GlossError
from gloss.models import ActivationReconstructor, load_ar, save_ar
from gloss.pipeline.run_config import preset_path, read_config
from gloss.pipeline.runner import RunFolder
from gloss.report import write_report
from gloss.target_model import load_target, load_tokenizer

SOURCE = Path(gloss.__file__).parent
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}
SIDECAR = ModelSidecar(
    role="ar",
    d_model=16,
    layer=0,
    injection_scale=None,
    mse_scale=4.0,
    marker=None,
    ar_suffix_ids=None,
    av_template=None,
    ar_template="<{explanation}> end",
)


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(tree: ast.AST):
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


# ---- the source itself


def test_nothing_is_unpickled_evaluated_or_run():
    barred_modules = {
        "pickle",
        "cPickle",
        "dill",
        "cloudpickle",
        "joblib",
        "marshal",
        "shelve",
        "tarfile",
        "zipfile",
    }
    barred_modules |= {"subprocess", "ctypes", "importlib.util.spec_from_file_location"}
    barred_calls = {
        "eval",
        "exec",
        "compile",
        "__import__",
        "os.system",
        "os.popen",
        "torch.load",
        "torch.hub.load",
    }
    barred_calls |= {
        "yaml.load",
        "yaml.load_all",
        "yaml.unsafe_load",
        "yaml.full_load",
        "np.load",
        "numpy.load",
    }
    found = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [
                f"{path}:{node.lineno} imports {name}" for name in names if name in barred_modules
            ]
        found += [
            f"{path}:{c.lineno} {dotted(c.func)}"
            for c in calls(tree)
            if dotted(c.func) in barred_calls
        ]
    index_reader, setting = SOURCE / "release" / "dcp.py", SOURCE / "serve" / "memory.py"
    known = (f"{index_reader}:", f"{setting}:")
    assert [line for line in found if not line.startswith(known)] == []
    assert [line.split(" ", 1)[1] for line in found if line.startswith(f"{setting}:")] == [
        "imports ctypes"  # for one setting of the C library
    ]
    assert [line.split(" ", 1)[1] for line in found if line.startswith(f"{index_reader}:")] == [
        "imports pickle"
    ]


def test_the_one_reader_of_a_pickle_uses_nothing_but_a_restricted_unpickler():
    """It builds the records of a training checkpoint's index; tests/unit/release/test_convert.py
    shows what it refuses.
    """
    tree = TREES[SOURCE / "release" / "dcp.py"]
    used = {dotted(node) for node in ast.walk(tree) if dotted(node).startswith("pickle.")}
    assert used == {"pickle.Unpickler", "pickle.UnpicklingError"}
    assert not any(dotted(call.func) == "pickle.Unpickler" for call in calls(tree))
    (restricted,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and "pickle.Unpickler" in map(dotted, node.bases)
    )
    assert [item.name for item in restricted.body if isinstance(item, ast.FunctionDef)] == [
        "find_class"
    ]


def test_remote_code_is_never_trusted_by_default_and_weights_are_safetensors():
    """A missing argument is not enough: Transformers then asks on the terminal, or takes its answer
    from a pipe.
    """
    found = []
    for path, tree in TREES.items():
        for call in calls(tree):
            arguments = {keyword.arg: keyword.value for keyword in call.keywords}
            value = arguments.get("trust_remote_code")
            if isinstance(value, ast.Constant) and value.value is not False:
                found.append(f"{path}:{call.lineno} trusts remote code")
            name = dotted(call.func)
            if (
                name.endswith(".from_pretrained")
                and name.startswith(("Auto", "loader"))
                and value is None
            ):
                found.append(f"{path}:{call.lineno} leaves trust_remote_code open")
            if name.startswith("AutoModel") and name.endswith(".from_pretrained"):
                safe = arguments.get("use_safetensors")
                if not isinstance(safe, ast.Constant) or safe.value is not True:
                    found.append(f"{path}:{call.lineno} would read pickled weights")
    assert found == []


def test_the_environment_is_read_in_six_places_and_never_for_settings():
    readers = {
        path.relative_to(SOURCE).as_posix()
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if dotted(node) in ("os.environ", "os.getenv")
    }
    assert readers == {
        "cli/output.py",
        "cli/serve_verb.py",
        "cli/threads.py",
        "pipeline/last_run.py",
        "engines/transport.py",
        "serve/uploads.py",
    }


# ---- model folders


@pytest.fixture
def folder(tmp_path, lab_tokenizer):
    """A whole AR checkpoint."""
    model = random_model(vocab_size=len(lab_tokenizer), num_blocks=1, d_model=16)
    save_ar(ActivationReconstructor.from_target(model, 0, lab_tokenizer, SIDECAR), tmp_path / "ar")
    return tmp_path / "ar"


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def change_json(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_pickled_weights_are_refused_and_not_opened(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as stream:
        pickle.dump(Bomb(tmp_path / "executed"), stream)
    for load in (load_ar, load_target):
        with pytest.raises(CheckpointError, match="weights could not be loaded"):
            load(folder)
    assert not (tmp_path / "executed").exists()


def test_a_pickled_head_is_refused_and_not_opened(folder, tmp_path):
    with (folder / "value_head.safetensors").open("wb") as stream:
        pickle.dump(Bomb(tmp_path / "executed"), stream)
    with pytest.raises(CheckpointError, match="head cannot be read"):
        load_ar(folder)
    torch.save({"weight": torch.eye(16)}, folder / "value_head.safetensors")
    with pytest.raises(CheckpointError, match="head cannot be read"):
        load_ar(folder)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("model_type", ["qwen2", "own_kind"])
def test_code_in_a_model_folder_does_not_run(folder, tmp_path, model_type, monkeypatch):
    monkeypatch.setattr(
        "builtins.input", lambda *_: "y"
    )  # the answer that Transformers would ask for
    code = f"import os\nos.mkdir({str(tmp_path / 'executed')!r})\n"
    for name in ("configuration_own", "modeling_own", "tokenization_own"):
        (folder / f"{name}.py").write_text(code)
    classes = {
        "AutoConfig": "configuration_own.C",
        "AutoModel": "modeling_own.M",
        "AutoModelForCausalLM": "modeling_own.M",
    }
    change_json(folder / "config.json", auto_map=classes, model_type=model_type)
    tokenizer = {"AutoTokenizer": ["tokenization_own.T", "tokenization_own.T"]}
    change_json(folder / "tokenizer_config.json", auto_map=tokenizer, tokenizer_class="T")
    for load in (load_ar, load_target, load_tokenizer):
        try:
            load(folder)
        except GlossError as error:
            line = str(error)
            if "\n" in line:
                raise AssertionError(line) from error
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "shard",
    [
        "../outside.safetensors",
        "../../x.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "..\\x.safetensors",
        "..",
        "",
        "x.bin",
    ],
)
def test_shards_outside_the_folder_are_refused_before_they_are_opened(
    folder, tmp_path, shard, monkeypatch
):
    weights = folder / "model.safetensors"
    from safetensors.torch import load_file

    names = list(load_file(weights))
    weights.rename(tmp_path / "outside.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, shard)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    monkeypatch.setattr("safetensors.safe_open", lambda *_, **__: pytest.fail("a shard was opened"))
    for load in (load_ar, load_target):
        with pytest.raises(CheckpointError, match=r"index\.json: a shard outside the folder"):
            load(folder)


def test_shards_beside_their_index_are_loaded(folder):
    weights = folder / "model.safetensors"
    from safetensors.torch import load_file

    tensors = load_file(weights)
    save_file(tensors, folder / "one.safetensors", metadata={"format": "pt"})
    weights.unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, "one.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load_ar(folder).head.weight.shape == (16, 16)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"weight_map": 5}', '{"weight_map": {"a": 5}}', "[" * 100_000, "\x00"],
)
def test_a_damaged_index_is_named(folder, content):
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json: "):
        load_ar(folder)


@pytest.mark.parametrize("kernel", ["owner/kernel", {"": "owner/kernel"}])
def test_a_config_cannot_fetch_a_kernel(folder, kernel):
    change_json(folder / "config.json", attn_implementation=kernel)
    with pytest.raises(CheckpointError, match=r"config\.json: .*attention kernel to be fetched"):
        load_ar(folder)


def test_a_weights_name_cannot_lead_out_of_the_folder(folder, tmp_path):
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    change_json(folder / "config.json", transformers_weights="../outside.safetensors")
    with pytest.raises(CheckpointError, match="weights could not be loaded"):
        load_ar(folder)


# ---- reports


ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}&lt;b&gt;"


def replaced(value):
    """The value with the attack in place of every text and added to every key that is a name."""
    if isinstance(value, dict):
        return {key: replaced(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [replaced(inner) for inner in value]
    return ATTACK if isinstance(value, str) else value


def test_every_text_of_a_run_is_escaped_in_its_report(tmp_path):
    claim = {"kind": "k", "value": "v", "verdict": "wrong", "start": 0, "end": 5}
    example = {
        "doc_id": "d",
        "position": 3,
        "token": "t",
        "text": "x",
        "explanation": "e",
        "fve": 0.5,
        "cosine": 0.9,
        "flags": ["f"],
        "claims": [claim],
        "facts": {"k": "v"},
    }
    results = {
        "fve": {"sft": 0.1, "rl": 0.5},
        "controls": {"empty_text": 0.1},
        "examples": [example],
        "target": "m",
        "layer": 2,
        "nla": "n",
        "preset": "p",
        "config_hash": "c",
        "seed": 1,
        "versions": {"torch": "2"},
        "claims": {
            "k": {
                "precision": 0.5,
                "recall": 0.5,
                "probe_ceiling": 0.9,
                "chance": 0.1,
                "n_claims": 50,
                "n_known": 60,
            }
        },
    }
    results = replaced(results)
    results["versions"][ATTACK] = results["controls"][ATTACK] = 0.5
    results["claims"][ATTACK] = results["claims"]["k"]
    results["examples"][0]["facts"][ATTACK] = ATTACK
    run = tmp_path / "<script>run"
    run.mkdir()
    (run / "results.json").write_text(json.dumps(results))
    sample = {
        "stage": "joint",
        "step": 1,
        "text_tail": ATTACK,
        "explanation": ATTACK,
        "fve": 0.1,
        "failed": False,
    }
    (run / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    (run / "metrics.jsonl").write_text(
        json.dumps({"stage": "joint", "step": 1, ATTACK: ATTACK, "fve_sampled": 0.2}) + "\n"
    )
    page = write_report(run).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;alert(1)") > 8
    assert "{{ 7*7 }}" in page


def test_explanations_in_a_notebook_are_escaped():
    from gloss.nla.results import Explanations, TokenExplanation

    for text in (ATTACK, None):
        item = TokenExplanation(
            position=1, token=ATTACK, text=text, response=ATTACK, norm=3.0, flags=(ATTACK,)
        )
        html = Explanations((item,), 2)._repr_html_()
        assert "<script" not in html
        assert "<img" not in html


def test_markup_and_terminal_codes_in_model_text_stay_text(capsys):
    from gloss.cli.output import print_rich
    from gloss.nla.results import Explanations, TokenExplanation
    from gloss.nla.steering_result import Continuation, Steering

    hostile = "[/x][bold]\x1b]0;title\x07\x1b[31m"
    item = TokenExplanation(position=1, token=hostile, text=hostile, response=hostile, norm=3.0)
    steering = Steering((1,), hostile, hostile, hostile, (Continuation("edit", 1.0, hostile),))
    print_rich(Explanations((item,), 2).table(), steering.table(), f"explanation: {hostile!r}")
    shown = capsys.readouterr().out
    assert "[/x][bold]" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown


# ---- secrets


SECRET = "hf_SECRETsecretSECRETsecret123456789"


def test_a_token_in_the_environment_reaches_no_file_and_no_output(tmp_path):
    environment = {**os.environ, "HF_TOKEN": SECRET, "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "XDG_STATE_HOME": str(tmp_path / "state")}
    smoke, out = str(preset_path("smoke")), str(tmp_path / "out")
    extract = [
        "data",
        "extract",
        "--config",
        smoke,
        "--out",
        out,
        "--set",
        "corpus.max_documents=8",
    ]
    for arguments, code in (
        (extract, 0),
        ([*extract, "--set", "target=owner/model"], 2),
        ([*extract, "--set", "corpus.source=hf:owner/data"], 2),
    ):
        command = [sys.executable, "-m", "gloss.cli.main", *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=180, cwd=tmp_path
        )
        assert done.returncode == code, done.stderr
        assert SECRET not in done.stdout + done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".parquet" for path in written)
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


def test_a_runs_config_and_sidecars_hold_nothing_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("GLOSS_SEED", SECRET)
    config = read_config(preset_path("smoke"))
    RunFolder(tmp_path / "run").open(config)
    write_model_sidecar(SIDECAR, tmp_path)
    assert config.seed == 0
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert SECRET not in path.read_text()
