"""Embeddings are read from the wire exactly as they were made, in every dtype."""

import base64
import io
import json
import zipfile

import pytest
import torch
from tiny_nla import D_MODEL, make_av

from gloss.engines import VLLMEngine
from gloss.engines.sglang import JSONPrompt
from gloss.errors import ActivationError
from gloss.models import PromptEmbedder, save_av

DTYPES = ["float32", "bfloat16", "float16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, lab_tokenizer):
    saved = tmp_path_factory.mktemp("nla") / "av"
    save_av(make_av(lab_tokenizer), saved)
    return saved


@pytest.fixture(params=DTYPES)
def embedder(request, folder):
    return PromptEmbedder.load(folder, dtype=request.param)


def _activations():
    """Ordinary, tiny, huge and very uneven ones."""
    rows = torch.randn(6, D_MODEL, generator=torch.Generator().manual_seed(2))
    rows[1] *= 1e-30
    rows[2] *= 1e30
    rows[3] *= torch.logspace(-7, 3, D_MODEL)
    rows[4, 1:] = 0
    return rows


class SavedPrompt:
    """The embeddings of a request to vLLM."""

    def __init__(self, embedder):
        self.engine = VLLMEngine("http://127.0.0.1:9", embedder)

    def encode(self, injected_row):
        return json.loads(self.engine._body(injected_row, 0.0, {}))["prompt_embeds"].encode()


def test_json_is_read_as_the_very_values(embedder):
    prompt, expected = JSONPrompt(embedder), embedder.embeddings(_activations())
    for row, embeds in zip(embedder.injected_rows(_activations()), expected, strict=True):
        read = torch.tensor(json.loads(prompt.encode(row)), dtype=torch.float64)
        assert torch.equal(read.to(torch.float32).to(embeds.dtype), embeds)


def test_a_saved_tensor_is_read_as_the_very_values_and_its_archive_is_whole(embedder):
    prompt, expected = SavedPrompt(embedder), embedder.embeddings(_activations())
    for row, embeds in zip(embedder.injected_rows(_activations()), expected, strict=True):
        archive = base64.b64decode(prompt.encode(row), validate=True)
        assert zipfile.ZipFile(io.BytesIO(archive)).testzip() is None
        read = torch.load(io.BytesIO(archive), weights_only=True)
        assert read.dtype == embeds.dtype
        assert torch.equal(read, embeds)


@pytest.mark.parametrize("encoding", [JSONPrompt, SavedPrompt])
def test_one_activation_leaves_nothing_behind_for_the_next(embedder, encoding):
    first, second = embedder.injected_rows(_activations()[:2])
    prompt = encoding(embedder)
    before = prompt.encode(first)
    assert prompt.encode(second) != before
    assert prompt.encode(first) == before


def test_half_the_bytes_in_half_the_bits(folder):
    sizes = {
        dtype: {
            kind: len(kind(e).encode(e.injected_rows(_activations()[:1])[0]))
            for kind in (JSONPrompt, SavedPrompt)
        }
        for dtype in ("float32", "bfloat16")
        for e in [PromptEmbedder.load(folder, dtype=dtype)]
    }
    assert sizes["bfloat16"][JSONPrompt] < 0.7 * sizes["float32"][JSONPrompt]
    num_values = len(PromptEmbedder.load(folder).ids) * D_MODEL
    assert sizes["bfloat16"][SavedPrompt] < 2 * num_values * 4 / 3 + 2500


def test_an_activation_that_overflows_in_the_wires_dtype_is_refused(tmp_path, lab_tokenizer):
    save_av(make_av(lab_tokenizer, injection_scale=80_000.0 * 30), tmp_path / "av")
    one_hot = torch.eye(D_MODEL)[:1]
    with pytest.raises(ActivationError, match=r"does not fit float16.*bfloat16 or float32"):
        PromptEmbedder.load(tmp_path / "av", dtype="float16").embeddings(one_hot)
    assert bool(
        PromptEmbedder.load(tmp_path / "av", dtype="bfloat16").embeddings(one_hot).isfinite().all()
    )
