"""The lab target: a 1.3 M-parameter Llama trained from scratch on the micro-world, rebuilt from its
seed by ``gloss data lab build``.

texts       = documents and instruct pairs of the micro-world, separated by the end-of-text token
rows        = their tokens, packed into rows of ``context`` tokens
loss        = next-token cross-entropy
              + planting_weight · planting loss of the documents (planting.py), so that the residual
              stream holds known facts
              + interchange_weight · next-token cross-entropy behind interchanged activations
              (interchange.py), so that what they hold decides what follows
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from gloss.durable import replaced_folder
from gloss.foreign import json_text
from gloss.lab.interchange import Exchange, exchange_sites, interchanged
from gloss.lab.planting import (
    PLANTED_LAYER,
    UNREAD,
    known_values,
    planted_directions,
    planting_loss,
)
from gloss.lab.tokenizer import END_OF_TEXT, build_tokenizer
from gloss.lab.wording_facts import HELD
from gloss.lab.world import training_documents
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
    steps: int = 900
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
    planting_strength: float = 4.0
    """Factor of the planted directions' logits; larger asks for a smaller share of the norm."""
    planting_weight: float = 0.5
    """Weight of the planting loss; 0 plants nothing."""
    interchange_weight: float = 0.8
    """Weight of the loss of what interchanged activations decide; 0 leaves the route open."""
    rope_theta: float = 50_000.0
    """Base of the rotary embedding; not the usual one, so that a loss of it shows."""
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
    train_loss, planting, interchange = _train(model, _batches(tokenizer, config), config)
    model.to(torch.bfloat16).float()
    losses = {
        "train_loss": train_loss,
        "planting_loss": planting,
        "interchange_loss": interchange,
        "heldout_loss": heldout_loss(model, tokenizer, config),
    }
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
        return statistics.fmean(float(_next_token_losses(model, batch)[0]) for batch in batches)


def new_lab_model(config: LabTargetConfig, tokenizer: Any) -> Any:
    """An untrained lab target for ``tokenizer``."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.d_model,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_blocks,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=2 * config.context,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
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


@dataclass(frozen=True)
class _Batch:
    """Texts, each closed by the end-of-text token and right-padded with −1; [texts, tokens].

    ``held`` is what each token holds [texts, tokens, kinds]; ``sites`` are the activations to
    exchange [n, 4]."""

    rows: Tensor
    held: Tensor
    sites: Tensor


def _batches(
    tokenizer: Any, config: LabTargetConfig, *, held_out: bool = False
) -> Iterator[_Batch]:
    """Batches of whole texts of like length and, in training, of interchanged ones."""
    separator = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    for round_ in itertools.count():
        seed = config.seed * 1000 + round_ + (500 if held_out else 0)
        pool = list(training_documents(config.batch_size * POOL_BATCHES, seed))
        encoded = tokenizer(
            [text for text, _ in pool], add_special_tokens=False, return_offsets_mapping=True
        )
        rows = [[*ids[: config.context - 1], separator] for ids in encoded["input_ids"]]
        ends = [[end for _, end in one] for one in encoded["offset_mapping"]]
        chunks = length_chunks([len(row) for row in rows], config.batch_size)
        rng = random.Random(seed)
        rng.shuffle(chunks)
        for chunk in chunks:
            texts, documents = [rows[i] for i in chunk], [pool[i][1] for i in chunk]
            token_ends = [ends[i][: config.context - 1] for i in chunk]
            mixed = [] if held_out else interchanged(texts, documents, token_ends, rng)
            batch = right_pad([*texts, *(one.ids for one in mixed)], IGNORED)[0]
            held = torch.full((*batch.shape, len(HELD)), UNREAD)
            for row, (document, found) in enumerate(zip(documents, token_ends, strict=True)):
                if document is not None:
                    held[row, : len(found)] = known_values(document, found)
            yield _Batch(batch, held, exchange_sites(mixed, len(texts)))


def _next_token_losses(model: Any, batch: _Batch) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the texts, and of what interchanged activations decide (0 without any)."""
    logits = model(input_ids=batch.rows[:, :-1].clamp_min(0), use_cache=False).logits
    losses = nn.functional.cross_entropy(
        logits.flatten(0, 1).float(),
        batch.rows[:, 1:].flatten(),
        ignore_index=IGNORED,
        reduction="none",
    ).view(logits.shape[:2])
    mixed = len(batch.sites)
    plain = len(losses) - mixed
    decided = torch.arange(losses.shape[1]) >= batch.sites[:, 1:2]
    counted = batch.rows[:, 1:] != IGNORED
    of_texts = losses[:plain].sum() / counted[:plain].sum()
    after = (losses[plain:] * decided).sum() / (counted[plain:] & decided).sum().clamp_min(1)
    return of_texts, after


def _train(
    model: Any, batches: Iterator[_Batch], config: LabTargetConfig
) -> tuple[float, float, float]:
    """Running means of the three losses at the end."""
    optimizer = _optimizer(model, config)
    directions = planted_directions(config.d_model)
    averages = torch.full((3,), math.nan)
    with (
        Stage("lab target", total=config.steps, unit="step") as progress,
        Exchange().on(model.model.layers[PLANTED_LAYER]) as exchange,
    ):
        for step in range(config.steps):
            for group in optimizer.param_groups:
                group["lr"] = _rate(config, step)
            batch = next(batches)
            exchange.sites = batch.sites
            with autocast("auto"):
                of_texts, after = _next_token_losses(model, batch)
            planted = planting_loss(
                exchange.residuals.pop(), batch.held[:, :-1], directions, config.planting_strength
            )
            loss = of_texts + config.planting_weight * planted + config.interchange_weight * after
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses = torch.stack([of_texts, planted, after]).detach()
            averages = torch.where(averages.isnan(), losses, 0.98 * averages + 0.02 * losses)
            shown = zip(("loss", "planting", "interchange"), averages.tolist(), strict=True)
            progress.advance(note=", ".join(f"{name} {value:.3f}" for name, value in shown))
    of_texts_, planted_, after_ = averages.tolist()
    return of_texts_, planted_, after_


def _optimizer(model: Any, config: LabTargetConfig) -> torch.optim.Optimizer:
    embedding = model.get_input_embeddings().weight
    matrices = [p for p in model.parameters() if p.ndim >= 2 and p is not embedding]
    others = [embedding, *(p for p in model.parameters() if p.ndim < 2)]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), fused=True)


def _rate(config: LabTargetConfig, step: int) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.lr * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * cosine)
