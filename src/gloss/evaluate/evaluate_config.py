"""Settings of the evaluation stage."""

from __future__ import annotations

from pydantic import Field

from gloss.data.settings import MANY, Seed, Settings


class EvaluateConfig(Settings):
    """What is measured on held-out documents."""

    max_rows: int = Field(default=1000, ge=2, le=MANY)
    """Held-out activations that are explained, from documents drawn at random."""
    max_new_tokens: int = Field(default=150, gt=0, le=100_000)
    """Length cap of an explanation."""
    bootstrap_resamples: int = Field(default=2000, ge=100, le=1_000_000)
    """Resamples of documents behind the 95 % interval."""
    probe_rows: int = Field(default=4000, ge=0, le=MANY)
    """Activations that the best readers are fitted on, from training documents drawn at random; 0
    leaves them out."""
    trust_rows: int = Field(default=400, ge=0, le=MANY)
    """Explanations whose claims the trust score is fitted on where the truth is known; 0 leaves it
    out."""
    steering_texts: int = Field(default=100, ge=0, le=MANY)
    """Texts whose explanations are edited to see what the target makes of it, where a judge has
    such texts; 0 leaves it out."""
    examples: int = Field(default=12, ge=0, le=100_000)
    """Examples kept for the report."""
    attn_implementation: str | None = None
    """Attention kernel of Transformers; None takes its default."""
    seed: Seed = 0
    """Seed of sampling, shuffling and bootstrap."""
