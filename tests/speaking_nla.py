"""A tiny NLA folder whose AV has learned, in seconds, to write well-formed explanations; no trained
weights are shipped.
"""

from pathlib import Path
from typing import Any

import torch
from tiny_models import random_model
from tiny_nla import D_MODEL, LAYER, NUM_BLOCKS, make_ar, make_av

from gloss.contract import TrustRecord, wrap_explanation
from gloss.models import save_ar, save_av

SAYINGS = (
    "the mood is calm\nthe place is the harbor",
    "the mood is calm\nit rains",
    "a story about a boat\nthe last word is a name",
    "a question\nthe gulls sleep",
)


def directions() -> torch.Tensor:
    """One direction for each saying; [4, d_model]."""
    return torch.randn(len(SAYINGS), D_MODEL, generator=torch.Generator().manual_seed(7))


def speaking_av(tokenizer: Any, *, steps: int = 90, **changes: Any) -> Any:
    """An AV trained on four directions, each with its saying."""
    av = make_av(tokenizer, **changes)
    ids, mask = av.encode_responses([wrap_explanation(saying) for saying in SAYINGS])
    parameters = list(av.model.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    for _ in range(steps):
        loss = -av.response_logprobs(directions(), ids, mask).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    av.model.requires_grad_(False)
    return av


def save_speaking_nla(folder: Path, tokenizer: Any) -> Path:
    """A folder with ``target``, ``av`` and ``ar``."""
    recorded = {
        "norm_statistics": {"p99": 50.0},
        "min_position": 12,
        "max_new_tokens": 40,
        "direction_variance": 1.0,
    }
    random_model(vocab_size=len(tokenizer), num_blocks=NUM_BLOCKS).save_pretrained(
        folder / "target"
    )
    tokenizer.save_pretrained(folder / "target")
    save_av(speaking_av(tokenizer, trust=TrustRecord.model_validate(recorded)), folder / "av")
    save_ar(make_ar(tokenizer, layer=LAYER), folder / "ar")
    return folder
