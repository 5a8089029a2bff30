"""The target's own most likely next tokens behind texts, for datasets that were extracted without
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gloss.contract import text_ids

if TYPE_CHECKING:
    from gloss.target_model import Target

_BATCH_TOKENS = 16384


def top_next_tokens(target: Target, texts: Sequence[str], count: int) -> list[tuple[str, ...]]:
    """Per text the ``count`` most likely next tokens, likeliest first; a text without tokens has
    none.

    Long texts are read from where the target's context allows.
    """
    import torch

    from gloss.target_model import next_token_logits

    longest = (
        getattr(target.model.config.get_text_config(), "max_position_embeddings", None) or 4096
    )
    rows = [text_ids(target.tokenizer, text)[-longest:] for text in texts]
    found: list[tuple[str, ...]] = [()] * len(rows)
    order = sorted((i for i, row in enumerate(rows) if row), key=lambda i: len(rows[i]))
    while order:
        size = max(1, _BATCH_TOKENS // len(rows[order[-1]]))
        batch, order = order[-size:], order[:-size]
        width = max(len(rows[i]) for i in batch)
        ids = torch.tensor(
            [rows[i] + [0] * (width - len(rows[i])) for i in batch], device=target.model.device
        )
        mask = torch.tensor(
            [[1] * len(rows[i]) + [0] * (width - len(rows[i])) for i in batch],
            device=target.model.device,
        )
        for i, top in zip(
            batch,
            next_token_logits(target.model, ids, mask).topk(count).indices.tolist(),
            strict=True,
        ):
            found[i] = tuple(
                target.tokenizer.decode([token], clean_up_tokenization_spaces=False)
                for token in top
            )
    return found
