"""Cards say what was measured; nothing is pushed without a licence and a passing validate; the
token stays unseen.
"""

import json
import os
import subprocess
import sys

import pytest
import yaml

import gloss
from gloss.errors import CheckpointError, ConfigError
from gloss.release.card import front_matter, licence_of, write_cards
from gloss.release.publish import pull, push
from gloss.release.summary import inspect
from gloss.release.validate import validate

RESULTS = {
    "fve": {"rl": 0.7523, "rl_ci95": [0.721, 0.781], "rl_sampled": 0.61, "ar_on_labels": None},
    "controls": {"mean_direction": -0.68, "shuffled_activations": -0.97},
    "layer": 2, "n_heldout": 800, "n_heldout_documents": 100, "extraction_failure_rate": 0.0125,
}  # fmt: skip


@pytest.fixture
def results(tmp_path):
    file = tmp_path / "results.json"
    file.write_text(json.dumps(RESULTS))
    return file


def test_a_card_has_front_matter_and_every_measured_number(nla_folder, results):
    for file in write_cards(
        nla_folder, results=results, licence="apache-2.0", base_model="owner/base", repo="me/nla"
    ):
        matter, text = front_matter(file.parent), file.read_text(encoding="utf-8")
        assert (matter["license"], matter["base_model"], matter["library_name"]) == (
            "apache-2.0",
            "owner/base",
            "gloss",
        )
        for shown in (
            "**0.752** (95\u00a0% interval 0.721 to 0.781)",
            "| 0.610 |",
            "−0.970",
            "800 held-out",
            "1.2\u00a0% of the explanations",
            "layer 2",
        ):
            assert shown in text
        assert "| not measured |" in text
        assert 'gloss.load("me/nla")' in text
        assert "Whether the sentences of this NLA are true was not measured." in text
    assert validate(nla_folder).passed
    assert not [
        f for f in validate(nla_folder).findings if f.check == "licence" and f.status != "ok"
    ]


@pytest.mark.invariant("numbers-9")
def test_a_card_states_the_truth_that_was_measured_and_nothing_else(nla_folder, results):
    scores = {"precision": 0.25, "chance": 0.125, "n_claims": 1200}
    claims = {"hero": scores, "place": {"precision": None, "n_claims": 0}}
    results.write_text(json.dumps({**RESULTS, "claims": claims, "fve_extracted": {"rl": -0.25}}))
    for file in write_cards(nla_folder, results=results):
        text = file.read_text(encoding="utf-8")
        right = "| hero | 25\u00a0% | — | — | 12\u00a0% | 1\u202f200 |"
        assert right in text
        assert "extracted explanations alone | −0.250 |" in text
        for unmeasured in ("private code", "more often", "place"):
            assert unmeasured not in text


def test_a_card_without_results_says_so_and_names_no_path_of_this_machine(nla_folder):
    (file, *_) = write_cards(nla_folder)
    text = file.read_text(encoding="utf-8")
    assert "Nothing was measured" in text
    assert "license" not in front_matter(file.parent)
    assert str(nla_folder) not in text


def test_the_licence_of_a_base_folder_is_taken_over(nla_folder):
    from gloss.contract import SIDECAR_NAME

    (nla_folder / "target" / "README.md").write_text("---\nlicense: mit\n---\n# Target\n")
    for half in ("av", "ar"):
        file = nla_folder / half / SIDECAR_NAME
        file.write_text(
            yaml.safe_dump(
                yaml.safe_load(file.read_text()) | {"base_checkpoint": str(nla_folder / "target")}
            )
        )
    write_cards(nla_folder)
    assert licence_of(nla_folder / "av") == licence_of(nla_folder / "ar") == "mit"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"fve": 1}', json.dumps(RESULTS | {"layer": 1})]
)
def test_results_that_are_none_or_anothers_are_refused(content, nla_folder, tmp_path):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(ConfigError, match="results"):
        write_cards(nla_folder, results=tmp_path / "r.json")


@pytest.mark.parametrize(
    "card",
    ["", "---\n", "---\n- a\n---\n", "---\nlicense: [\n---\n", "---\nlicense: unknown\n---\n"],
)
def test_a_card_that_names_no_licence_names_none(card, tmp_path):
    (tmp_path / "README.md").write_text(card)
    assert licence_of(tmp_path) is None
    (tmp_path / "LICENSE").write_text("text")
    assert licence_of(tmp_path) == "LICENSE"


# ---- push and pull through huggingface_hub, against the stand-in


def test_pushed_and_pulled_it_is_the_same_nla(hub, nla_folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    write_cards(nla_folder, licence="mit")
    (nla_folder / "av" / "notes.secret").write_text("not for others")
    addresses = push(nla_folder, "me/nla")
    assert {role: address.split("/commit/")[0] for role, address in addresses.items()} == {
        role: f"{hub.url}/me/nla-{role}" for role in ("av", "ar")
    }
    assert not [name for name in hub.repos["me/nla-av"].revisions["main"] if "secret" in name]
    folders = pull("me/nla")
    assert set(folders) == {"av", "ar"}
    for role, folder in folders.items():
        for name in ("model.safetensors", "nla_meta.yaml", "README.md", "tokenizer.json"):
            assert (folder / name).read_bytes() == (nla_folder / role / name).read_bytes()
    assert gloss.load("me/nla").reconstruct(["x"]).shape[0] == 1


def test_nothing_is_pushed_without_a_licence_or_with_a_failing_check(hub, nla_folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    with pytest.raises(CheckpointError, match="no licence, so it is not published"):
        push(nla_folder, "me/nla")
    write_cards(nla_folder, licence="mit")
    (nla_folder / "ar" / "value_head.safetensors").unlink()
    with pytest.raises(
        CheckpointError,
        match=r"so it is not published; the first is ar head: .*: the AR's head is missing",
    ):
        push(nla_folder, "me/nla")
    for name in ("nla", "me/nla@v1", "a/b/c", "../x"):
        with pytest.raises((ConfigError, CheckpointError)):
            push(nla_folder / "av", name)
    assert hub.repos == {}


def test_a_refusal_or_a_silent_hub_is_one_line(hub, nla_folder, monkeypatch):
    write_cards(nla_folder, licence="mit")
    with pytest.raises(CheckpointError, match=r"the hub refuses .*HF_TOKEN"):
        push(nla_folder, "me/nla")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "r" * 34)
    with pytest.raises(CheckpointError, match="you may not write there") as error:
        push(nla_folder, "me/nla")
    assert "rrrr" not in str(error.value)
    monkeypatch.setattr("huggingface_hub.hf_api.HfApi.create_repo", _raise_connect_error)
    with pytest.raises(CheckpointError, match="the hub cannot be reached"):
        push(nla_folder, "me/nla")


def _raise_connect_error(*_, **__):
    raise ConnectionError("no route")


def test_inspecting_a_repository_reads_headers_and_no_weights(hub, nla_folder):
    for half in ("av", "ar"):
        hub.add(f"me/nla-{half}", nla_folder / half)
    there, here = inspect("me/nla"), inspect(nla_folder)
    assert [s.num_parameters for s in there] == [s.num_parameters for s in here]
    assert [s.files for s in there] == [s.files for s in here]
    whole = [path for path in hub.fetched() if path.endswith(".safetensors")]
    assert whole == []


def test_the_command_pushes_and_pulls_and_never_prints_the_token(hub, nla_folder, tmp_path):
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.write_token,
        "HF_HOME": str(tmp_path / "hf"),
    }
    environment |= {
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }

    def run(*arguments):
        command = [sys.executable, "-m", "gloss.cli.main", "nla", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert hub.write_token not in done.stdout + done.stderr
        return done

    assert run("card", str(nla_folder), "--license", "mit", "--repo", "me/nla").returncode == 0
    pushed = run("push", str(nla_folder), "me/nla", "--private")
    assert pushed.returncode == 0, pushed.stderr
    assert len(pushed.stdout.splitlines()) == 2
    pulled = run("pull", "me/nla")
    assert pulled.returncode == 0, pulled.stderr
    assert len(pulled.stdout.splitlines()) == 2
    assert hub.repos["me/nla-av"].private
    assert hub.write_token in hub.tokens
    written = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and hub.write_token.encode() in path.read_bytes()
    ]
    assert written == []
