"""AR scoring: explanations in sorted batches behind their shared beginning, against one at a
time.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from benchmarks import models
from benchmarks.case import Case, Dtype, FolderOf, Prepared, Workload, require_close
from gloss.contract import ar_prompt_ids

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}


def prepare(
    folder_of: FolderOf,
    workload: Workload,
    dtype: Dtype,
    *,
    layer: int | None = None,
    mean: int | None = None,
) -> Prepared:
    """Explanations of up to ``tokens`` words of mixed lengths, of ``mean`` words if given;
    tokenization on both sides.
    """
    ar = models.reconstructor(folder_of(workload.model), dtype, layer=layer).requires_grad_(False)
    lengths = models.mixed_lengths(workload.rows, workload.tokens, workload.tokens // 4)
    if mean is not None:
        lengths = models.with_total(lengths, mean * workload.rows)
    texts = [models.text_of(length, seed) for seed, length in enumerate(lengths)]

    def ours() -> torch.Tensor:
        return ar.reconstruct(texts, batch_size=workload.batch)

    @torch.inference_mode()
    def alternative() -> torch.Tensor:
        vectors = []
        for text in texts:
            ids = torch.tensor([ar_prompt_ids(ar.tokenizer, models.AR_TEMPLATE, text)])
            hidden = ar.backbone(input_ids=ids, use_cache=False).last_hidden_state
            vectors.append(ar.head(hidden[:, -1]).float())
        return torch.cat(vectors)

    def check() -> None:
        require_close("reconstructions", ours(), alternative(), tolerance=TOLERANCE[dtype])

    return Prepared(ours, alternative, check, tokens=sum(len(row) for row in ar.encode(texts)))


CASE = Case(
    name="scoring",
    alternative="one explanation at a time",
    target={"float32": 1.5, "bfloat16": 2.0},
    prepare=prepare,
    full=Workload(models.ModelShape(num_blocks=12), rows=256, tokens=150, batch=64),
    quick=Workload(models.ModelShape(num_blocks=6), rows=32, tokens=100, batch=32),
    tiny=Workload(models.TINY, rows=7, tokens=20, batch=3),
)
REFERENCE = Case(
    name="scoring-reference",
    alternative="one explanation at a time, the shape that the reference was measured with",
    target={"float32": 1.6, "bfloat16": 2.0},
    prepare=partial(
        prepare, layer=models.REFERENCE_LAYER, mean=models.REFERENCE_EXPLANATION_TOKENS
    ),
    full=Workload(models.REFERENCE_SHAPE, rows=64, tokens=140),
    quick=Workload(models.REFERENCE_SHAPE, rows=16, tokens=140),
    tiny=Workload(replace(models.TINY, num_blocks=10), rows=7, tokens=140),
)
