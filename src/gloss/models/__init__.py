"""The two halves of an NLA and the geometry they are measured in."""

from typing import TYPE_CHECKING

from gloss.lazy import lazy_package

if TYPE_CHECKING:
    from gloss.models.ar import ActivationReconstructor
    from gloss.models.av import ActivationVerbalizer, further_stop_ids, response_text
    from gloss.models.geometry import (
        ORTHOGONAL_MSE,
        cosine,
        direction_mse,
        direction_variance,
        fraction_of_variance_explained,
        mean_direction,
        scale_to_norm,
        steering_offset,
        unit_rms,
    )
    from gloss.models.injection import inject, injection_rows, injection_sites
    from gloss.models.precision import (
        ComputeDtype,
        autocast,
        has_fast_bfloat16,
        linear_weights_cast_once,
    )
    from gloss.models.prefix import (
        GatheringPrefix,
        SharedPrefix,
        common_prefix_length,
        fitted_chunks,
        hidden_after_prefix,
        length_chunks,
        right_pad,
    )
    from gloss.models.prompt_embedder import PromptEmbedder
    from gloss.models.saving import load_ar, load_av, save_ar, save_av

__all__ = [
    "ORTHOGONAL_MSE",
    "ActivationReconstructor",
    "ActivationVerbalizer",
    "ComputeDtype",
    "GatheringPrefix",
    "PromptEmbedder",
    "SharedPrefix",
    "autocast",
    "common_prefix_length",
    "cosine",
    "direction_mse",
    "direction_variance",
    "fitted_chunks",
    "fraction_of_variance_explained",
    "further_stop_ids",
    "has_fast_bfloat16",
    "hidden_after_prefix",
    "inject",
    "injection_rows",
    "injection_sites",
    "length_chunks",
    "linear_weights_cast_once",
    "load_ar",
    "load_av",
    "mean_direction",
    "response_text",
    "right_pad",
    "save_ar",
    "save_av",
    "scale_to_norm",
    "steering_offset",
    "unit_rms",
]

lazy_package(__name__)
