"""An NLA whose AV runs on a server: the same explanations, and no weight of the AV is loaded
here.
"""

import numpy as np
import pytest
import torch
from stand_ins import serving
from tiny_nla import D_MODEL, write_rows
from typer.testing import CliRunner

import gloss
from gloss.cli.main import app
from gloss.engines import Rollout
from gloss.errors import ConfigError, EngineError
from gloss.models import load_av
from gloss.reading import ExplainConfig, explain_in_memory, explain_text

TEXT = "The mood is calm and Ada is here while it rains at the harbor and the gulls sleep"
SERVERS = {"sglang": serving.SGLang, "vllm": serving.VLLM, "gloss": serving.Gloss}


@pytest.fixture(params=SERVERS)
def served(request, nla_folder):
    with SERVERS[request.param](load_av(nla_folder / "av")) as server:
        yield nla_folder, f"{request.param}+{server.url}"


def test_explanations_equal_those_of_the_av_here(served):
    folder, engine = served
    here, there = gloss.load(folder), gloss.load(folder, engine=engine)
    expected = here.explain(TEXT, positions="3,9-12")
    assert there.explain(TEXT, positions="3,9-12").to_dicts() == expected.to_dicts()
    assert there.explain(here.activations(TEXT)[3:4])[0].response == expected[0].response


def test_the_avs_weights_are_never_loaded(served, monkeypatch, tmp_path, lab_tokenizer):
    folder, engine = served
    loaded = []
    for where in (
        "gloss.models.saving.load_target",
        "gloss.nla.nla.load_av",
        "gloss.engines.choose.load_av",
    ):
        monkeypatch.setattr(where, lambda *names, **_: loaded.append(names))
    nla = gloss.load(folder, engine=engine)
    assert len(nla.explain(torch.randn(3, D_MODEL), samples=2, score=False)) == 6
    rows = write_rows(tmp_path / "rows.parquet", lab_tokenizer, np.ones((2, D_MODEL), np.float32))
    marked = explain_in_memory(nla, rows, ExplainConfig(score=False)).to_dicts()
    assert all("special token" in row["flags"] for row in marked)
    chat = [{"role": "user", "content": "It rains."}]
    alone = ExplainConfig(score=False)
    assert len(explain_text(nla, chat, tmp_path / "out.parquet", config=alone)) == 1
    assert loaded == []
    assert "av" not in vars(nla)


def test_an_engine_object_is_taken_as_it_is(nla_folder):
    class Scripted:
        def generate(self, activations, **settings):
            return [Rollout((5,), "<explanation>calm</explanation>", True)] * len(activations)

    assert (
        gloss.load(nla_folder, engine=Scripted()).explain(torch.ones(1, D_MODEL))[0].text == "calm"
    )


def test_a_wrong_name_is_refused_at_once(nla_folder):
    with pytest.raises(ConfigError, match="unknown engine"):
        gloss.load(nla_folder, engine="remote")


def test_a_server_is_needed_only_when_something_is_explained(nla_folder):
    nla = gloss.load(nla_folder, engine="gloss+http://127.0.0.1:9")
    assert nla.activations(TEXT).shape[1] == D_MODEL
    with pytest.raises(EngineError, match="no server can be reached"):
        nla.explain(TEXT)


def test_the_command_line_takes_an_engine_and_tells_its_speed(served):
    folder, engine = served
    arguments = ["explain", TEXT, "--nla", str(folder), "--json"]
    here = CliRunner().invoke(app, arguments)
    there = CliRunner().invoke(app, [*arguments, "--engine", engine])
    assert (here.exit_code, there.exit_code) == (0, 0)
    assert there.stdout == here.stdout
    assert f"{engine}: 1 responses, 4 tokens, " in there.stderr
    assert "tokens/s" not in here.stderr


@pytest.mark.parametrize("engine", ["remote", "vllm+http://127.0.0.1:9"])
def test_the_command_line_refuses_what_it_cannot_reach(nla_folder, engine):
    result = CliRunner().invoke(
        app, ["explain", TEXT, "--nla", str(nla_folder), "--engine", engine]
    )
    assert result.exit_code == 2
    assert result.stderr.strip().count("\n") == 0
    assert "gloss: " in result.stderr
