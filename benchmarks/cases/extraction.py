"""Activations at two thirds of the depth: stop there, against ``output_hidden_states=True`` on the
whole model.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from benchmarks import models
from benchmarks.case import Case, Dtype, FolderOf, Prepared, Workload, require_close
from gloss.models.capture import ReadJob, read_all

POSITIONS_PER_DOCUMENT = 8
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}


def prepare(
    folder_of: FolderOf,
    workload: Workload,
    dtype: Dtype,
    *,
    mixed: bool,
    layer: int | None = None,
    total: int | None = None,
) -> Prepared:
    """Some positions of every document, of ``total`` tokens together if given; read at ``layer``,
    else at two thirds.

    The plain way pads to the longest of ``batch`` documents, in file order.
    """
    loaded = models.target(folder_of(workload.model), dtype)
    layer = workload.model.layer if layer is None else layer
    shortest = max(POSITIONS_PER_DOCUMENT, workload.tokens // 16)
    lengths = (
        models.mixed_lengths(workload.rows, workload.tokens, shortest)
        if mixed
        else [workload.tokens] * workload.rows
    )
    if total is not None:
        lengths = models.with_total(lengths, total)
    generator = torch.Generator().manual_seed(3)
    documents = [torch.randint(10, 900, (length,), generator=generator) for length in lengths]
    positions = [
        np.linspace(0, n - 1, POSITIONS_PER_DOCUMENT).astype(int).tolist() for n in lengths
    ]
    jobs = [
        ReadJob(ids.numpy(), picked, np.arange(len(ids)))
        for ids, picked in zip(documents, positions, strict=True)
    ]

    def ours() -> torch.Tensor:
        vectors = torch.empty(len(jobs), POSITIONS_PER_DOCUMENT, workload.model.d_model)
        tokens = workload.batch * workload.tokens
        for index, reading in read_all(
            loaded, layer, jobs, batch_tokens=tokens, batch_size=max(64, workload.batch)
        ):
            vectors[index] = torch.from_numpy(reading.vectors)
        return vectors

    @torch.inference_mode()
    def alternative() -> torch.Tensor:
        vectors = torch.empty(len(jobs), POSITIONS_PER_DOCUMENT, workload.model.d_model)
        for first in range(0, len(documents), workload.batch):
            batch = documents[first : first + workload.batch]
            ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
            real = torch.tensor([len(row) for row in batch]).unsqueeze(1)
            mask = (torch.arange(ids.shape[1]) < real).long()
            output = loaded.model(
                input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False
            )
            hidden = output.hidden_states[layer + 1]
            for row in range(len(batch)):
                vectors[first + row] = hidden[row, positions[first + row]].float()
        return vectors

    def check() -> None:
        require_close("activations", ours(), alternative(), tolerance=TOLERANCE[dtype])

    return Prepared(ours, alternative, check, tokens=sum(lengths))


EQUAL = Case(
    name="extraction-equal",
    alternative="whole model, output_hidden_states=True",
    target={"float32": 1.5, "bfloat16": 1.5},
    prepare=partial(prepare, mixed=False),
    full=Workload(models.ModelShape(num_blocks=12), rows=32, tokens=256, batch=16),
    quick=Workload(models.ModelShape(num_blocks=6), rows=8, tokens=128, batch=8),
    tiny=Workload(models.TINY, rows=4, tokens=24, batch=4),
)
MIXED = Case(
    name="extraction-mixed",
    alternative="whole model, output_hidden_states=True, padded to the longest in file order",
    target={"float32": 2.5, "bfloat16": 2.5},
    prepare=partial(prepare, mixed=True),
    full=Workload(models.ModelShape(num_blocks=12), rows=64, tokens=384, batch=16),
    quick=Workload(models.ModelShape(num_blocks=6), rows=16, tokens=192, batch=8),
    tiny=Workload(models.TINY, rows=9, tokens=32, batch=4),
)
REFERENCE_EQUAL = Case(
    name="extraction-reference-equal",
    alternative=(
        "all 12 blocks and the vocabulary head, output_hidden_states=True: what the reference runs"
    ),
    target={"float32": 1.6, "bfloat16": 1.6},
    prepare=partial(prepare, mixed=False, layer=models.REFERENCE_LAYER),
    full=Workload(models.REFERENCE_SHAPE, rows=32, tokens=256, batch=16),
    quick=Workload(models.REFERENCE_SHAPE, rows=4, tokens=128, batch=4),
    tiny=Workload(replace(models.TINY, num_blocks=10), rows=4, tokens=24, batch=4),
)
REFERENCE_MIXED = Case(
    name="extraction-reference-mixed",
    alternative=(
        "the same, padded to the longest of 16 documents in file order: what the reference runs"
    ),
    target={"float32": 3.0, "bfloat16": 4.0},
    prepare=partial(prepare, mixed=True, layer=models.REFERENCE_LAYER, total=4342),
    full=Workload(models.REFERENCE_SHAPE, rows=32, tokens=288, batch=16),
    quick=Workload(models.REFERENCE_SHAPE, rows=32, tokens=288, batch=16),
    tiny=Workload(replace(models.TINY, num_blocks=10), rows=32, tokens=288, batch=16),
)
