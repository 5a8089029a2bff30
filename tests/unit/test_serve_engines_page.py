"""Every example of docs/serve_engines.md runs, with stand-ins in the place of the servers."""

from pathlib import Path

import pytest
from docs_examples import examples, run_page
from stand_ins import serving
from tiny_models import random_model
from tiny_nla import NUM_BLOCKS, make_ar, make_av

from gloss.contract import TrustRecord
from gloss.models import load_av, save_ar, save_av

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serve_engines.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def served(tmp_path_factory, lab_tokenizer):
    """The page's text with a small NLA's folder and stand-in servers in it."""
    folder = tmp_path_factory.mktemp("released")
    random_model(vocab_size=len(lab_tokenizer), num_blocks=NUM_BLOCKS).save_pretrained(
        folder / "target"
    )
    lab_tokenizer.save_pretrained(folder / "target")
    save_av(make_av(lab_tokenizer, trust=TrustRecord(max_new_tokens=4)), folder / "nla-av")
    save_ar(make_ar(lab_tokenizer), folder / "nla-ar")
    av = load_av(folder / "nla-av")
    with serving.VLLM(av) as vllm, serving.SGLang(av) as sglang:

        def fitted(text):
            text = text.replace("http://127.0.0.1:8000", vllm.url).replace(
                "http://127.0.0.1:30000", sglang.url
            )
            text = text.replace("kitft/nla-qwen2.5-7b-L20", str(folder / "nla"))
            return text.replace("max_new_tokens=150", "max_new_tokens=4")

        yield fitted


def test_every_example_runs(served, tmp_path):
    printed = run_page(PAGE, tmp_path, served)
    assert len(printed) == 4
    assert "tokens/s" in printed[0]


def test_the_servers_commands_have_the_flags_that_the_engines_ask_for():
    from gloss.engines import SGLangEngine

    vllm, sglang = (
        next(e.content for e in examples(PAGE) if word in e.content)
        for word in ("vllm serve", "sglang.launch_server")
    )
    assert "--enable-prompt-embeds" in vllm
    assert SGLangEngine.cache_remedy.split()[-1] in sglang.split()
    for explained in (
        "no server can be reached",
        "the server answers two different activations alike",
    ):
        assert explained in TEXT
