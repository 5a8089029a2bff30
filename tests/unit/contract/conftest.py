"""Tokenizers of single characters, with the habits that real ones have."""

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

ASCII = [chr(code) for code in range(32, 127)] + ["\n"]
CHAT_TEMPLATE = (
    "{{ bos_token or '' }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] | trim }}{%"
    " endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def character_tokenizer(
    more: str = "",
    *,
    bos: bool = False,
    appends_eos: bool = False,
    normalizer=None,
    chat_template: str | None = None,
) -> PreTrainedTokenizerFast:
    vocabulary = ["<unk>", "<s>", "</s>", *ASCII, *more]
    tokenizer = Tokenizer(
        models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if bos or appends_eos:
        single = ("<s> " if bos else "") + "$A" + (" </s>" if appends_eos else "")
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>" if bos else None,
        eos_token="</s>",
    )
    wrapped.chat_template = chat_template
    return wrapped


@pytest.fixture
def make_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    return character_tokenizer


@pytest.fixture
def chat_template() -> str:
    return CHAT_TEMPLATE


@pytest.fixture
def nfkc():
    return normalizers.NFKC()


@pytest.fixture
def prepends_space():
    return normalizers.Sequence([normalizers.Prepend("_"), normalizers.Replace(" ", "_")])
