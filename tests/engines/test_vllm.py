"""A real vLLM server gives the local engine's greedy text. Run by `make test-engines`, which
installs vLLM apart from Gloss.
"""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from family_models import FAMILIES, family_model
from tiny_nla import nla_sidecar

from gloss.contract import choose_marker
from gloss.engines import Limits, LocalEngine, VLLMEngine, engine_of
from gloss.errors import EngineError
from gloss.models import ActivationVerbalizer, PromptEmbedder, save_av

pytestmark = pytest.mark.engines
REPO = Path(__file__).resolve().parents[2]
PYTHON = REPO / ".venv-engines/bin/python"
D_MODEL, NEW_TOKENS, START_S = 128, 16, 300
TEMPLATE = (
    "Explain this vector of a language model, in a few words: <concept>{injection_char}</concept>"
)
SIZES = {
    "hidden_size": D_MODEL,
    "head_dim": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 128,
    "tie_word_embeddings": True,
}
PLAIN = {
    "qwen2": {"use_sliding_window": False, "sliding_window": None},
    "llama": {},
    "gemma3_text": {"query_pre_attn_scalar": 64, "initializer_range": 0.02},
}
SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


def _av(name, tokenizer):
    family = next(family for family in FAMILIES if family.name == name)
    model = family_model(family, len(tokenizer), **SIZES | PLAIN[name])
    sidecar = nla_sidecar(
        tokenizer, "av", av_template=TEMPLATE, marker=choose_marker(tokenizer, TEMPLATE).marker
    )
    return ActivationVerbalizer(model, tokenizer, replace(sidecar, d_model=D_MODEL))


class _Server:
    """vLLM over a folder, as docs/serve_engines.md starts it, on the CPU."""

    def __init__(self, folder, log, *options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{port}", log
        command = [
            PYTHON,
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            folder,
            "--host",
            "127.0.0.1",
        ]
        command += [
            "--port",
            str(port),
            "--dtype",
            "float32",
            "--max-model-len",
            "256",
            "--max-num-seqs",
            "16",
        ]
        command += ["--enforce-eager", *options]
        with log.open("w") as out:
            self.process = subprocess.Popen(
                command,
                env=os.environ | SETTINGS,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )

    def __enter__(self):
        deadline = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5)
                return self
            except (urllib.error.URLError, OSError) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    raise AssertionError(
                        f"vLLM did not start:\n{self.log.read_text()[-3000:]}"
                    ) from error
                time.sleep(1)

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


@pytest.fixture(scope="module", autouse=True)
def _installed():
    if not PYTHON.exists():
        pytest.skip("vLLM is not installed: make test-engines")


@pytest.fixture(scope="module", params=PLAIN)
def served(request, lab_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "av"
    av = _av(request.param, lab_tokenizer)
    save_av(av, folder)
    with _Server(folder, folder.parent / "vllm.log", "--enable-prompt-embeds") as server:
        yield av, folder, server


def _activations(n=24):
    return torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(1))


def test_greedy_text_equals_the_local_engines(served):
    av, folder, server = served
    settings = {"temperature": 0.0, "max_new_tokens": NEW_TOKENS, "seed": 0}
    expected = LocalEngine(av).generate(_activations(), **settings)
    engine = engine_of(f"vllm+{server.url}", folder)
    assert engine.generate(_activations(), **settings) == expected
    assert len({rollout.text for rollout in expected}) > 12
    assert engine.last_speed.tokens_per_s > 0


def test_seeds_are_honoured_and_samples_differ(served):
    _, folder, server = served
    engine = engine_of(server.url, folder)
    assert isinstance(engine, VLLMEngine)
    settings = {"temperature": 1.0, "max_new_tokens": NEW_TOKENS, "num_samples": 3}
    one, again, other = (
        engine.generate(_activations(4), seed=seed, **settings) for seed in (5, 5, 6)
    )
    assert one == again
    assert one != other
    assert len({rollout.token_ids for rollout in one}) == 12


def test_another_models_width_is_explained(served):
    av, folder, server = served
    embedder = PromptEmbedder.load(folder)
    narrow = PromptEmbedder(
        embedder.prompt[:, :64],
        embedder.ids,
        av.tokenizer,
        replace(av.sidecar, d_model=64),
        stop_ids=embedder.stop_ids,
    )
    with pytest.raises(EngineError, match="its embeddings are 64 wide"):
        VLLMEngine(server.url, narrow, limits=Limits(retries=0)).check()


def test_prompt_embeddings_that_are_off_are_explained(lab_tokenizer, tmp_path):
    save_av(_av("qwen2", lab_tokenizer), tmp_path / "av")
    with (
        _Server(tmp_path / "av", tmp_path / "vllm.log") as server,
        pytest.raises(EngineError, match="--enable-prompt-embeds"),
    ):
        engine_of(f"vllm+{server.url}", tmp_path / "av")
