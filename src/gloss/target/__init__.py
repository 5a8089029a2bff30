"""Target models: load one, find its blocks, read and change its residual stream."""

from gloss.target.architectures import (
    Architecture,
    architecture_of,
    backbone_of,
    blocks_of,
    remove_final_norm,
    truncate_blocks,
)
from gloss.target.hooks import capture_activations, edit_residual, last_block_at, next_token_logits
from gloss.target.loading import Target, load_target, load_tokenizer, quiet_loading, torch_dtype

__all__ = [
    "Architecture",
    "Target",
    "architecture_of",
    "backbone_of",
    "blocks_of",
    "capture_activations",
    "edit_residual",
    "last_block_at",
    "load_target",
    "load_tokenizer",
    "next_token_logits",
    "quiet_loading",
    "remove_final_norm",
    "torch_dtype",
    "truncate_blocks",
]
