"""A byte-level tokenizer made on the spot, a random target over it, and documents of several
lengths.
"""

import random
from functools import cache

import torch

from gloss.target_model import Target, architecture_of
from gloss.text.document import Document

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_NOUNS = (
    "boat lake storm lantern keeper harbour signal winter ledger copper gull anchor chart rope tide"
    " beacon"
)
WORDS = _NOUNS.split()


@cache
def make_tokenizer(*, bos: bool = False):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|bos|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([" ".join(WORDS) + " ㊗ user assistant explanation"] * 20, trainer)
    extra = {}
    if bos:
        template = processors.TemplateProcessing(
            single="<|bos|> $A", special_tokens=[("<|bos|>", 3)]
        )
        backend.post_processor = processors.Sequence(
            [processors.ByteLevel(trim_offsets=False), template]
        )
        extra = {"bos_token": "<|bos|>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        **extra,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@cache
def make_target(*, bos: bool = False) -> Target:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(make_tokenizer(bos=bos)),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM(config).eval()
    return Target(
        model=model,
        tokenizer=make_tokenizer(bos=bos),
        architecture=architecture_of("qwen2"),
        name="here/tiny",
    )


def make_documents(count: int, *, seed: int = 0) -> list[Document]:
    rng = random.Random(seed)
    return [
        Document(f"doc:{i}", " ".join(rng.choices(WORDS, k=rng.randint(3, 60))))
        for i in range(count)
    ]
