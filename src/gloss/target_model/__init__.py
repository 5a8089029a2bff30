"""Target models: load one, find its blocks, read and change its residual stream."""

from typing import TYPE_CHECKING

from gloss.lazy import lazy_package

if TYPE_CHECKING:
    from gloss.target_model.adapters import ADAPTER_CONFIG, add_adapter
    from gloss.target_model.architectures import (
        Architecture,
        architecture_of,
        backbone_of,
        blocks_of,
        check_positions,
        known_families,
        output_logits,
        remove_final_norm,
        text_name,
        truncate_blocks,
        unwrapped,
    )
    from gloss.target_model.embedding_rows import read_embedding_rows
    from gloss.target_model.folder_files import (
        UNREADABLE,
        refuse_outside_links,
        refuse_unsafe_files,
    )
    from gloss.target_model.hooks import (
        capture_activations,
        edit_residual,
        kernel_for_short_rows,
        last_block_at,
        next_token_logits,
    )
    from gloss.target_model.hub import ModelPlace, commit_of
    from gloss.target_model.identity import difference, identity_of
    from gloss.target_model.loading import (
        LoadOptions,
        Target,
        load_target,
        load_weights,
        quiet_loading,
        read_config,
        torch_dtype,
        weights_fingerprint,
    )
    from gloss.target_model.tokenizer_files import load_tokenizer
    from gloss.target_model.weight_checks import (
        refuse_missing,
        refuse_not_finite,
        refuse_without_row,
    )

lazy_package(__name__)
