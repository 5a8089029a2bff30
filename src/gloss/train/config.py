"""Settings of the three training loops; unknown keys are refused."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from gloss.data.settings import MANY, Seed, Settings
from gloss.engines.engine_names import LOCAL, MAX_TEMPERATURE, MIN_TEMPERATURE, parse_engine
from gloss.models import ComputeDtype


class OptimizerConfig(Settings):
    """AdamW or Muon with a linear warm-up, then a cosine to ``final_lr_fraction`` of the rate."""

    algorithm: Literal["adamw", "muon"] = "adamw"
    """``muon``: the blocks' matrices by Muon (at AdamW's step size), all else by AdamW."""
    lr: float = Field(gt=0, le=1)
    """Peak learning rate."""
    warmup_steps: int = Field(default=20, ge=0, le=MANY)
    """Steps over which the rate rises from 0."""
    final_lr_fraction: float = Field(default=0.1, ge=0, le=1)
    """Rate at the last step, as a fraction of the peak."""
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    """Decoupled weight decay."""
    beta2: float = Field(default=0.98, ge=0.5, lt=1)
    """Decay of the squared-gradient average."""
    max_grad_norm: float = Field(default=1.0, ge=1e-6, le=1e6)
    """Gradients are clipped to this norm."""
    max_skipped_steps: int = Field(default=20, ge=0, le=MANY)
    """Steps with a non-finite loss or gradient that are skipped before the run ends."""


class _LoopConfig(Settings):
    compute_dtype: ComputeDtype = "auto"
    """Number format of matrix products; ``auto`` is bfloat16 where it is native."""
    attn_implementation: str | None = None
    """Attention kernel; ``eager`` is fastest for short texts on a CPU, None: the default."""
    seed: Seed = 0
    """Seed of row order and sampling."""
    tensorboard: bool = False
    """Also write metrics for TensorBoard (needs the ``tensorboard`` extra)."""


class SFTConfig(_LoopConfig):
    """Supervised warm start of one half on labels."""

    steps: int = Field(gt=0, le=MANY)
    """Optimizer steps."""
    batch_size: int = Field(default=64, gt=0, le=MANY)
    """Activations per step."""
    optimizer: OptimizerConfig
    """Learning rate and its schedule."""
    checkpoint_every: int = Field(default=100, gt=0, le=MANY)
    """Steps between checkpoints that a stopped run resumes from."""


class AVSFTConfig(SFTConfig):
    """Supervised warm start of the AV."""

    injection_scale: float | None = Field(default=None, ge=1e-6, le=1e9)
    """L2 norm of injected activations; the 75th percentile of their norms if not set."""
    reading_steps: int = Field(default=0, ge=0, le=MANY)
    """Steps before the labels in which the AV learns to write the text's last words."""
    reading_words: int = Field(default=4, gt=0, le=1000)
    """Words of the text that the AV writes in those steps."""


Measure = Literal[
    "fve", "fve_sampled", "fve_above_blind", "claims_right", "claims_right_sampled", "facts_right"
]
"""What a series of checkpoints can be judged by; the last three need a known truth."""
NEEDS_TRUTH: tuple[Measure, ...] = ("claims_right", "claims_right_sampled", "facts_right")


class SeriesConfig(Settings):
    """Checkpoints that are kept and measured while joint RL goes on."""

    points: int = Field(default=0, ge=0, le=1000)
    """How many, evenly over the steps, beside the start; 0 for none."""
    rows: int = Field(default=128, ge=2, le=MANY)
    """Activations that each is measured on; their documents are not trained on."""
    max_mb: float = Field(default=2000, ge=0, le=1e9)
    """Most megabytes of their weights (differences from the start, in bfloat16); of more than fit
    the worst are dropped."""
    keep: Measure | None = None
    """The measure whose best checkpoint is the result; the last one if not set."""


class StopWhen(Settings):
    """Ends joint RL where one measure falls while another rises."""

    falls: Measure = "claims_right"
    """What must not fall."""
    while_rises: Measure = "fve"
    """What may go on rising while the words get worse."""
    points: int = Field(default=2, ge=1, le=1000)
    """Over how many points of the series in a row."""


class JointConfig(_LoopConfig):
    """Joint reinforcement learning: GRPO for the AV, regression for the AR on the same texts."""

    steps: int = Field(gt=0, le=MANY)
    """Joint steps."""
    prompts_per_step: int = Field(default=64, gt=0, le=1_000_000)
    """Activations per step."""
    group_size: int = Field(default=8, gt=1, le=10_000)
    """Explanations sampled per activation; their mean reward is the baseline (GRPO's G)."""
    av: OptimizerConfig
    """The AV's optimizer."""
    ar: OptimizerConfig
    """The AR's optimizer."""
    reward: Literal["neg_mse", "neg_log_mse"] = "neg_mse"
    """−direction MSE, or −log of it (the paper's)."""
    kl_weight: float = Field(default=0.01, ge=0, le=1000)
    """Weight of the KL divergence to the AV's SFT start (k3 estimator)."""
    normalize_advantages: bool = True
    """Divide advantages by the standard deviation of the group's rewards."""
    max_new_tokens: int = Field(default=150, gt=0, le=100_000)
    """Length cap; a response cut off here has no closing tag and counts as failed."""
    length_penalty: float = Field(default=0.0, ge=0, le=100)
    """Reward taken off per generated token."""
    temperature: float = Field(default=1.0, ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)
    """Sampling temperature of the rollouts."""
    engine: str = "local"
    """What samples the rollouts: ``local``, or a server that starts with this AV and takes over the
    weights of every step, such as ``vllm+http://host:8000`` or ``sglang+http://host:30000``."""

    micro_batch_size: int = Field(default=128, gt=0, le=MANY)
    """Explanations per forward and backward pass."""
    checkpoint_every: int = Field(default=20, gt=0, le=MANY)
    """Steps between checkpoints that a stopped run resumes from."""
    evaluate_every: int = Field(default=10, gt=0, le=MANY)
    """Steps between greedy evaluations on held-out activations."""
    evaluate_rows: int = Field(default=128, ge=2, le=MANY)
    """Held-out activations in each of those evaluations."""
    series: SeriesConfig = SeriesConfig()
    """Checkpoints kept and measured on the way."""
    stop_when: StopWhen | None = None
    """Ends the training when words get worse while FVE rises; needs ``series``."""

    @field_validator("engine")
    @classmethod
    def _known(cls, engine: str) -> str:
        if engine != LOCAL:
            parse_engine(engine)
        return engine

    @model_validator(mode="after")
    def _series_is_there(self) -> Self:
        needed = 0 if self.stop_when is None else self.stop_when.points
        if self.series.points < needed:
            raise ValueError(f"stop_when.points {needed} must be at most series.points")
        if self.series.keep is not None and not self.series.points:
            raise ValueError("series.keep needs series.points above 0")
        if self.series.points > self.steps:
            raise ValueError(f"series.points must be at most steps, {self.steps}")
        return self

    @property
    def judged_by(self) -> list[Measure]:
        """The measures that decide on something."""
        stop = self.stop_when
        named = [self.series.keep, *(() if stop is None else (stop.falls, stop.while_rises))]
        return [name for name in named if name is not None]
