"""Random models with a real tokenizer: what every case runs on."""

from __future__ import annotations

import random
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from gloss.contract import ModelSidecar, add_marker_token, choose_marker, find_marker, prompt_ids
from gloss.lab.tokenizer import build_tokenizer
from gloss.models import ActivationReconstructor, ActivationVerbalizer
from gloss.target_model import Target, load_target, quiet_loading

TRAINING_ATTENTION = "eager"
"""Attention of the training cases on both sides, as the presets set it: its backward pass is the
faster one on a CPU.
"""
AR_TEMPLATE = "What a language model has in mind: <text>{explanation}</text> <activation>"
WORDS = (
    "the",
    "of",
    "and",
    "is",
    "in",
    "it",
    "at",
    "with",
    "calm",
    "rain",
    "harbor",
    "story",
    "mood",
)


@dataclass(frozen=True)
class ModelShape:
    """A random Qwen2; ``vocab_size`` 0 is the tokenizer's own size (larger leaves ids that no text
    has).
    """

    d_model: int = 512
    num_blocks: int = 8
    intermediate: int = 1536
    num_heads: int = 8
    num_kv_heads: int = 4
    vocab_size: int = 0

    @property
    def layer(self) -> int:
        """The block at two thirds of the depth, 0-based."""
        return max(0, round(self.num_blocks * 2 / 3) - 1)


REFERENCE_SHAPE, REFERENCE_LAYER = ModelShape(num_blocks=12, vocab_size=32_000), 8
"""The model and the layer that the reference implementation was measured with."""
REFERENCE_EXPLANATION_TOKENS = 79
TINY = ModelShape(d_model=32, num_blocks=4, intermediate=64, num_heads=4, num_kv_heads=2)


@cache
def tokenizer() -> Any:
    """The lab's tokenizer; whole words and a chat template."""
    return build_tokenizer()


@contextmanager
def temporary_folders() -> Any:
    """A function ``shape → folder`` that writes each random model once; the folders vanish when the
    block ends.
    """
    with ExitStack() as stack:
        root = Path(tempfile.mkdtemp(prefix="gloss-bench-"))
        stack.callback(shutil.rmtree, root, ignore_errors=True)

        @cache
        def folder_of(shape: ModelShape) -> Path:
            return _save(shape, root / "-".join(str(value) for value in asdict(shape).values()))

        yield folder_of


def _save(shape: ModelShape, folder: Path) -> Path:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=max(shape.vocab_size, len(tokenizer())),
        hidden_size=shape.d_model,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.num_blocks,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        initializer_range=shape.d_model**-0.5,
    )
    with quiet_loading():
        Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def target(folder: Path, dtype: str = "float32") -> Target:
    """The random model as a target."""
    return load_target(folder, dtype=dtype)


def verbalizer(
    folder: Path, prefix_tokens: int, attention: str | None = None
) -> ActivationVerbalizer:
    """The random model as an AV whose prompts share exactly ``prefix_tokens`` tokens before the
    marker's left neighbour.
    """
    loaded = load_target(folder, attn_implementation=attention)
    template = _av_template(prefix_tokens)
    marker = choose_marker(loaded.tokenizer, template)
    if marker.added:
        add_marker_token(loaded.tokenizer, marker.marker.char)
    d_model = loaded.d_model
    return ActivationVerbalizer(
        loaded.model,
        loaded.tokenizer,
        ModelSidecar(
            role="av",
            d_model=d_model,
            layer=ModelShape(num_blocks=loaded.num_blocks).layer,
            injection_scale=5.0,
            mse_scale=d_model**0.5,
            marker=marker.marker,
            ar_suffix_ids=None,
            av_template=template,
            ar_template=None,
        ),
    )


def reconstructor(
    folder: Path, dtype: str = "float32", attention: str | None = None, layer: int | None = None
) -> ActivationReconstructor:
    """The random model's first blocks, up to ``layer`` or two thirds of its depth, as an AR."""
    loaded = load_target(folder, dtype=dtype, attn_implementation=attention)
    layer = ModelShape(num_blocks=loaded.num_blocks).layer if layer is None else layer
    sidecar = ModelSidecar(
        role="ar",
        d_model=loaded.d_model,
        layer=layer,
        injection_scale=None,
        mse_scale=loaded.d_model**0.5,
        marker=None,
        ar_suffix_ids=None,
        av_template=None,
        ar_template=AR_TEMPLATE,
    )
    return ActivationReconstructor.from_target(loaded.model, layer, loaded.tokenizer, sidecar)


def activations(rows: int, d_model: int) -> torch.Tensor:
    """Random activations; [rows, d_model]."""
    return torch.randn(rows, d_model, generator=torch.Generator().manual_seed(1))


def text_of(num_words: int, seed: int) -> str:
    """Random words, one token each."""
    drawn = random.Random(seed)
    return " ".join(drawn.choice(WORDS) for _ in range(num_words))


def mixed_lengths(rows: int, longest: int, shortest: int) -> list[int]:
    """Lengths as texts have them: many short, few long; reproducible, in no order."""
    drawn = random.Random(rows * 7919 + longest)
    spread = longest - shortest
    lengths = [shortest + int(spread * drawn.random() ** 2) for _ in range(rows)]
    lengths[rows // 2] = longest
    return lengths


def with_total(lengths: list[int], total: int) -> list[int]:
    """Lengths with the same longest and shortest, the others moved towards one of them until all
    add up to ``total``.
    """
    longest, shortest = max(lengths), min(lengths)
    towards = longest if sum(lengths) < total else shortest
    moved = list(lengths)
    for step in range(longest - shortest + 1):
        share = step / (longest - shortest)
        moved = [n if n == longest else n + round((towards - n) * share) for n in lengths]
        if (sum(moved) >= total) == (towards == longest):
            break
    rest, order = total - sum(moved), [i for i, n in enumerate(lengths) if n != longest]
    for i in range(abs(rest)):
        moved[order[i % len(order)]] += 1 if rest > 0 else -1
    return moved


@cache
def _av_template(prefix_tokens: int) -> str:
    """A template with so many words before the marker that its prompt shares ``prefix_tokens``
    tokens.
    """
    for words in range(prefix_tokens + 1):
        template = f"The{' calm' * words} <concept>{{injection_char}}</concept>"
        marker = choose_marker(tokenizer(), template).marker
        shared = find_marker(prompt_ids(tokenizer(), template, marker.char), marker) - 1
        if shared == prefix_tokens:
            return template
    raise ValueError(f"no template shares {prefix_tokens} tokens; the shortest shares more")
