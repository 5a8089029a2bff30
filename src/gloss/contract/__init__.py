"""What AV, AR, datasets and other tools agree on: sidecars, marker, templates, explanations. No
torch here."""

from gloss.contract.checkpoint_rules import (
    CONTRACT_RULES,
    Finding,
    Rule,
    verify_model_sidecar,
)
from gloss.contract.explanation import (
    CLOSE_TAG,
    OPEN_TAG,
    Explanation,
    ExtractionFailed,
    extract_explanation,
    wrap_explanation,
)
from gloss.contract.foreign_text import encode_texts, special_token_ids
from gloss.contract.marker import (
    ChosenMarker,
    InjectionMarker,
    add_marker_token,
    choose_marker,
    find_marker,
    marker_for,
)
from gloss.contract.sidecar import (
    SIDECAR_NAME,
    VALUE_HEAD_NAME,
    DatasetSidecar,
    Dialect,
    ModelSidecar,
    TargetRecord,
    TrustRecord,
    check_same_activations,
    read_dataset_sidecar,
    read_model_sidecar,
    sidecar_path,
    write_dataset_sidecar,
    write_model_sidecar,
)
from gloss.contract.templates import (
    DEFAULT_AR_TEMPLATE,
    DEFAULT_AV_TEMPLATE,
    ar_ids,
    ar_prompt_ids,
    check_ar_prompt,
    custom_prompt_ids,
    fill,
    prompt_ids,
    render_chat_ids,
    text_ids,
    validate_ar_template,
    validate_av_template,
)
