"""Before a long run: the injection reaches the AV's output; reward and training agree."""

from __future__ import annotations

import torch
from torch import Tensor

from gloss.errors import TrainingError
from gloss.models import ActivationReconstructor, ActivationVerbalizer

PROBE_TEXTS = (
    "a short one",
    "a longer explanation, with several words, a {brace}\nand a second line",
    "x",
)
TOLERANCE = 1e-3


def check_injection_reaches_forward(av: ActivationVerbalizer, activations: Tensor) -> None:
    """Raises TrainingError if an activation [d] and its negative give the same next tokens."""
    ids = torch.tensor([[av.stop_id]]).expand(2, 1)
    with torch.inference_mode():
        probe = torch.stack([activations[0], -activations[0]])
        logits = av.response_logits(probe, ids, torch.ones_like(ids, dtype=torch.bool))
    if float((logits[0] - logits[1]).abs().max()) < 1e-6:
        raise TrainingError(
            "the AV's output does not depend on the injected activation",
            expected="different logits for an activation and its negative",
            found="equal logits",
            remedy="Check the injection scale and the marker in the sidecar",
        )


def check_reward_path(ar: ActivationReconstructor) -> None:
    """Raises TrainingError if a batch gives other vectors than single texts, above 1e-3."""
    with torch.inference_mode():
        batched = ar.reconstruct_ids(ar.encode(PROBE_TEXTS))
        single = torch.cat([ar.reconstruct_ids(ar.encode([text])) for text in PROBE_TEXTS])
    difference = float(((batched - single).norm(dim=1) / single.norm(dim=1)).max())
    if not difference < TOLERANCE:
        raise TrainingError(
            "the AR gives other vectors in a batch than alone",
            expected=f"relative difference below {TOLERANCE}",
            found=f"{difference:.2g}",
            remedy="Check the padding side of its tokenizer and its template",
        )
