"""A small AV and AR over a random Qwen2, and a tokenizer that adds a BOS."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tiny_models import random_model

from gloss.contract import (
    DatasetSidecar,
    ModelSidecar,
    TrustRecord,
    choose_marker,
    write_dataset_sidecar,
)
from gloss.data import ActivationWriter, activation_schema
from gloss.models import ActivationReconstructor, ActivationVerbalizer, save_ar, save_av
from gloss.store.activations import vector_column

D_MODEL, NUM_BLOCKS, LAYER, SCALE = 32, 4, 2, 20.0
AV_TEMPLATE = "Explain the vector: <concept>{injection_char}</concept>"
AR_TEMPLATE = "<text>{explanation}</text> <activation>"
BOS = "<|endoftext|>"


def nla_sidecar(tokenizer: Any, role: str, **changes: Any) -> ModelSidecar:
    sidecar = ModelSidecar(
        role=role,
        d_model=D_MODEL,
        layer=LAYER,
        injection_scale=SCALE if role == "av" else None,
        mse_scale=D_MODEL**0.5,
        marker=choose_marker(tokenizer, AV_TEMPLATE).marker,
        ar_suffix_ids=None,
        av_template=AV_TEMPLATE,
        ar_template=AR_TEMPLATE,
    )
    return replace(sidecar, **changes)


def make_av(tokenizer: Any, *, seed: int = 0, **changes: Any) -> ActivationVerbalizer:
    model = random_model(vocab_size=len(tokenizer), num_blocks=NUM_BLOCKS, seed=seed)
    return ActivationVerbalizer(
        model.requires_grad_(False), tokenizer, nla_sidecar(tokenizer, "av", **changes)
    )


def make_ar(tokenizer: Any, *, layer: int = LAYER, **changes: Any) -> ActivationReconstructor:
    model = random_model(vocab_size=len(tokenizer), num_blocks=NUM_BLOCKS)
    sidecar = nla_sidecar(tokenizer, "ar", layer=layer, **changes)
    return ActivationReconstructor.from_target(model, layer, tokenizer, sidecar).requires_grad_(
        False
    )


def write_nla(folder: Path, tokenizer: Any) -> Path:
    """``target``, ``av`` and ``ar`` of one random Qwen2 that nothing was trained on."""
    recorded = {
        "norm_statistics": {"p99": 50.0},
        "min_position": 12,
        "max_new_tokens": 4,
        "direction_variance": 1.0,
    }
    random_model(vocab_size=len(tokenizer), num_blocks=NUM_BLOCKS).save_pretrained(
        folder / "target"
    )
    tokenizer.save_pretrained(folder / "target")
    save_av(make_av(tokenizer, trust=TrustRecord.model_validate(recorded)), folder / "av")
    save_ar(make_ar(tokenizer), folder / "ar")
    return folder


def with_bos(tokenizer: Any) -> Any:
    """A copy that puts a BOS before every text, as Gemma's and Llama's do."""
    from tokenizers import processors

    copied = deepcopy(tokenizer)
    copied.bos_token = BOS
    copied.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, copied.convert_tokens_to_ids(BOS))]
    )
    return copied


def write_rows(
    file: Path, tokenizer: Any, vectors: np.ndarray, *, doc_ids: Any = None, **changes: Any
) -> Path:
    """A dataset of these activations, of one document if not told otherwise, with its sidecar."""
    n, schema = len(vectors), activation_schema(D_MODEL)
    columns = [
        [5] * n,
        ["a text"] * n,
        vector_column(vectors),
        [LAYER] * n,
        doc_ids or ["d"] * n,
        [4] * n,
        [1] * n,
        ["t"] * n,
    ]
    with ActivationWriter(file, schema) as writer:
        writer.write(pa.table(columns, schema=schema))
    sidecar = DatasetSidecar(
        dataset_id="rows",
        stage="rl",
        row_count=n,
        base_model="m",
        d_model=D_MODEL,
        layer=LAYER,
        marker=nla_sidecar(tokenizer, "av").marker,
        av_template=AV_TEMPLATE,
        ar_template=AR_TEMPLATE,
        norm_statistics=writer.norm_statistics,
    )
    write_dataset_sidecar(replace(sidecar, **changes), file)
    return file
