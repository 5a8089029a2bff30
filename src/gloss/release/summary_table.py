"""A checkpoint's summary as a table for the terminal."""

from __future__ import annotations

from rich.table import Table

from gloss.nla.results import printable
from gloss.release.summary import CheckpointSummary

_SHOWN_VALUES = 8
_HALVES = {"av": "AV, activation verbalizer", "ar": "AR, activation reconstructor"}


def summary_table(summary: CheckpointSummary) -> Table:
    """Two columns: what, and its value; texts from files are shown without control characters."""
    table = Table(
        title=printable(f"{summary.place}: {_HALVES[summary.role]}"),
        title_justify="left",
        show_header=False,
    )
    marker = summary.marker
    rows = {
        "base": summary.base_checkpoint or "—",
        "stage": summary.stage or "—",
        "family": f"{summary.family}, {summary.num_blocks} blocks, d_model {summary.d_model}",
        "layer": "—" if summary.layer is None else str(summary.layer),
        "injection scale": (
            "raw" if summary.injection_scale is None else f"{summary.injection_scale:g}"
        ),
        "mse scale": f"{summary.mse_scale:g}",
        "marker": (
            f"{marker['char']} = token {marker['token_id']}, between {marker['left_neighbor_id']}"
            f" and {marker['right_neighbor_id']}"
            if marker
            else "—"
        ),
        "AR suffix": str(list(summary.ar_suffix_ids)) if summary.ar_suffix_ids else "—",
        "AV template": summary.av_template or "—",
        "AR template": summary.ar_template or "—",
        "weights": (
            f"{summary.num_parameters:,} values: "
            + ", ".join(f"{dtype} {count:,}" for dtype, count in summary.dtypes.items())
        ),
        "sidecar": (
            f"dialect {summary.dialect}, schema version {summary.schema_version or 'not given'}"
        ),
        "made by": summary.created_by or "—",
        "commit": summary.commit or "—",
        **{f"recorded {name}": _recorded(value) for name, value in summary.recorded.items()},
        "files": "\n".join(f"{name}  {_size(size)}" for name, size in summary.files.items()),
    }
    if summary.role == "ar":
        del rows["injection scale"]
    for name, value in rows.items():
        table.add_row(name, printable(value))
    return table


def _recorded(value: object) -> str:
    """A value that training noted; of a vector its width and length, as ``--json`` has the rest."""
    if (
        isinstance(value, list)
        and len(value) > _SHOWN_VALUES
        and all(isinstance(one, int | float) for one in value)
    ):
        return f"{len(value)} values, norm {sum(one * one for one in value) ** 0.5:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_recorded(one)}" for name, one in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _size(num_bytes: int) -> str:
    size, units = float(num_bytes), ["B", "KB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"
