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

lazy_package(__name__)
