"""The sidecar of a dataset, ``<file>.nla_meta.yaml``: what was extracted, how, and with which
prompts.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from pydantic.dataclasses import dataclass

from gloss.contract.marker import InjectionMarker
from gloss.contract.sidecar import ModelSidecar, sidecar_path
from gloss.contract.sidecar_fields import (
    Count,
    Date,
    Key,
    Positive,
    SidecarFile,
    Text,
    Texts,
    TokenIds,
    Values,
    Width,
    file_values,
    wanted,
)
from gloss.contract.sidecar_yaml import write_yaml
from gloss.errors import SidecarError

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class DatasetSidecar:
    """Everything about a Parquet file of activations; the vectors themselves are raw (``norm`` is
    always ``none``).
    """

    dataset_id: Text
    stage: Text = ""
    row_count: Count
    base_model: Annotated[Text, Key("extraction.base_model")] = ""
    d_model: Annotated[Width, Key("extraction.d_model")]
    layer: Annotated[Count, Key("extraction.layer_index")]
    norm: Annotated[
        Literal["none"],
        wanted("none: activations are stored raw"),
        Key("extraction.norm"),
    ] = "none"
    corpus: Annotated[Text, Key("extraction.corpus")] = ""
    corpus_slice: Annotated[Values, Key("extraction.corpus_slice")] = field(default_factory=dict)
    positions_per_doc: Annotated[Count | None, Key("extraction.positions_per_doc", null=True)] = (
        None
    )
    norm_statistics: Annotated[dict[str, Positive], Key("extraction.norm_statistics")] = field(
        default_factory=dict
    )
    marker: Annotated[
        InjectionMarker | None, Key("tokens", record=InjectionMarker, prefix="injection_")
    ] = None
    ar_suffix_ids: Annotated[
        TokenIds | None, Key("tokens.critic_suffix_ids", also="tokens.ar_suffix_ids", null=True)
    ] = None
    av_template: Annotated[Text | None, Key("prompt_templates.actor", "prompt_templates.av")] = None
    ar_template: Annotated[Text | None, Key("prompt_templates.critic", "prompt_templates.ar")] = (
        None
    )
    labels: Annotated[Values, Key("api_summaries")] = field(default_factory=dict)
    parent_datasets: Texts = ()
    created_at: Date = ""
    created_by: Text = ""
    extra: Values = field(default_factory=dict)


def read_dataset_sidecar(parquet: Path) -> DatasetSidecar:
    """Reads the sidecar beside a Parquet file (or in a folder of shards).

    Raises: SidecarError that names the file and the key; TemplateError for a template that cannot
    be filled."""
    file = SidecarFile(sidecar_path(parquet), kind="nla_dataset", versions=(_VERSION,))
    file.checked("gloss.extract.min_position", Count | None)  # goes into the trust record
    return file.read(DatasetSidecar, others={"keep_debug_metadata", "git_commit"})


def write_dataset_sidecar(sidecar: DatasetSidecar, parquet: Path) -> Path:
    """Writes the sidecar beside a Parquet file, with the reference's keys."""
    values = file_values(sidecar, kind="nla_dataset", schema_version=_VERSION)
    if sidecar.marker is None and sidecar.ar_suffix_ids is None:
        del values["tokens"]
    if not sidecar.labels:
        del values["api_summaries"]
    values |= {"keep_debug_metadata": True, "git_commit": "", **sidecar.extra}
    return write_yaml(values, sidecar_path(parquet))


def check_same_activations(first: ModelSidecar, *others: ModelSidecar | DatasetSidecar) -> None:
    """Checks that checkpoints and datasets are about the same activations; a layer that is not
    recorded fits any.

    Raises: SidecarError if widths or layers differ.
    """
    for name in ("d_model", "layer"):
        for other in others:
            wanted, found = getattr(first, name), getattr(other, name)
            if None not in (wanted, found) and wanted != found:
                raise SidecarError(
                    f"AV, AR and dataset are of different activations: {name}",
                    expected=wanted,
                    found=found,
                    remedy="Use halves and datasets of one target and one layer",
                )
