"""The lab target: a 1.3 M-parameter Qwen2 trained from scratch on the micro-world, rebuilt from its
seed by ``gloss data lab build``.

texts       = documents and instruct pairs of the micro-world, separated by the end-of-text token
rows        = their tokens, packed into rows of ``context`` tokens
loss        = next-token cross-entropy
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from gloss.durable import replaced_folder
from gloss.foreign import json_text
from gloss.lab.tokenizer import END_OF_TEXT, build_tokenizer
from gloss.lab.world import training_texts
from gloss.models import autocast, length_chunks, right_pad
from gloss.models.both_majors import write_for_both
from gloss.progress import Stage
from gloss.target_model import quiet_loading

RECORD_NAME = "lab_target.json"
POOL_BATCHES = 40
IGNORED = -1


class LabTargetConfig(BaseModel):
    """Shape and training of the lab target."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    d_model: int = 128
    """Width of the residual stream."""
    num_blocks: int = 6
    """Decoder blocks."""
    intermediate_size: int = 384
    """Width of the gated MLP."""
    context: int = 256
    """Most tokens of one text."""
    batch_size: int = 96
    """Texts per step."""
    steps: int = 550
    """Optimizer steps."""
    embedding_std: float = 2.0
    """Spread of the input embeddings at the start; large, so that the residual stream keeps its
    token in sight."""
    weight_decay: float = 0.6
    """Decoupled weight decay of all matrices but the input embedding."""
    lr: float = 4e-3
    """Peak learning rate of AdamW, reached after 100 steps, then a cosine to 2 %."""
    seed: int = 1
    """Seed of weights and texts."""
    eval_batches: int = 10
    """Held-out batches that the final loss is measured on."""


def build_lab_target(config: LabTargetConfig, out_dir: Path) -> dict[str, float]:
    """Trains the lab target and writes it as a Hugging Face folder in bfloat16; returns its losses
    in nats per token.

    The result depends on the config, the torch version and the thread count only.
    """
    tokenizer = build_tokenizer()
    torch.manual_seed(config.seed)
    model = new_lab_model(config, tokenizer)
    model.set_attn_implementation("eager")
    started = time.monotonic()
    train_loss = _train(model, _batches(tokenizer, config), config)
    model.to(torch.bfloat16).float()
    losses = {"train_loss": train_loss, "heldout_loss": heldout_loss(model, tokenizer, config)}
    with replaced_folder(out_dir) as temporary:
        with quiet_loading():
            model.to(torch.bfloat16).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_for_both(temporary)
        record = {"config": config.model_dump(), **losses}
        (temporary / RECORD_NAME).write_text(json_text(record, indent=1) + "\n", encoding="utf-8")
    return {**losses, "seconds": time.monotonic() - started}


def heldout_loss(model: Any, tokenizer: Any, config: LabTargetConfig) -> float:
    """Next-token loss on texts that training does not see, nats per token."""
    batches = itertools.islice(_batches(tokenizer, config, held_out=True), config.eval_batches)
    with torch.inference_mode():
        return statistics.fmean(float(_loss(model, batch)) for batch in batches)


def new_lab_model(config: LabTargetConfig, tokenizer: Any) -> Any:
    """An untrained lab target for ``tokenizer``."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=config.d_model,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_blocks,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=2 * config.context,
            tie_word_embeddings=False,
            initializer_range=0.05,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    embedding: Any = model.get_input_embeddings()
    nn.init.normal_(embedding.weight, std=config.embedding_std)
    return model


def _batches(
    tokenizer: Any, config: LabTargetConfig, *, held_out: bool = False
) -> Iterator[Tensor]:
    """Batches of whole texts of like length, each closed by the end-of-text token and right-padded
    with −1; [texts, tokens]."""
    separator = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    for round_ in itertools.count():
        seed = config.seed * 1000 + round_ + (500 if held_out else 0)
        texts = list(training_texts(config.batch_size * POOL_BATCHES, seed))
        rows = [
            [*ids[: config.context - 1], separator]
            for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]
        ]
        chunks = length_chunks([len(row) for row in rows], config.batch_size)
        random.Random(seed).shuffle(chunks)
        for chunk in chunks:
            yield right_pad([rows[i] for i in chunk], IGNORED)[0]


def _loss(model: Any, rows: Tensor) -> Tensor:
    logits = model(input_ids=rows[:, :-1].clamp_min(0), use_cache=False).logits
    return nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), rows[:, 1:].flatten(), ignore_index=IGNORED
    )


def _train(model: Any, batches: Iterator[Tensor], config: LabTargetConfig) -> float:
    embedding = model.get_input_embeddings().weight
    matrices = [p for p in model.parameters() if p.ndim >= 2 and p is not embedding]
    others = [embedding, *(p for p in model.parameters() if p.ndim < 2)]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), fused=True)
    average = math.nan
    with Stage("lab target", total=config.steps, unit="step") as progress:
        for step in range(config.steps):
            warm = min(1.0, (step + 1) / 100)
            rate = (
                config.lr
                * warm
                * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / config.steps)))
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            with autocast("auto"):
                loss = _loss(model, next(batches))
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            value = float(loss.detach())
            average = value if math.isnan(average) else 0.98 * average + 0.02 * value
            progress.advance(note=f"loss {average:.3f}")
    return average
