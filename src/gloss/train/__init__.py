"""The three training loops: AV SFT, AR SFT and joint reinforcement learning."""

from typing import TYPE_CHECKING

from gloss.lazy import lazy_package

if TYPE_CHECKING:
    from gloss.train.config import AVSFTConfig, JointConfig, OptimizerConfig, SFTConfig
    from gloss.train.joint import JointResult, train_joint
    from gloss.train.sft import ARSFTResult, AVSFTResult, train_ar, train_av

lazy_package(__name__)
