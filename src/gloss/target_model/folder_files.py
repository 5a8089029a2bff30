"""What a model folder from elsewhere must not make the loader do: read files outside it, or fetch
code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gloss.errors import CheckpointError

UNREADABLE = (Exception,)
"""What a damaged model folder raises: tokenizers, huggingface_hub and safetensors have errors of no
narrower kind.
"""


def refuse_unsafe_files(folder: Path) -> None:
    """Checks the files that name other files or code, before Transformers reads them.

    Raises: CheckpointError for an index whose shards lie outside the folder or are no safetensors,
    and for an attention kernel that would be fetched from a hub."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        weight_map = json_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(
            isinstance(name, str) for name in weight_map.values()
        ):
            raise CheckpointError(
                "wrong index of weights", where=index, expected="weight_map, from names to files"
            )
        for name in sorted(set(weight_map.values())):
            if name != Path(name).name or "\\" in name or not name.endswith(".safetensors"):
                raise CheckpointError(
                    "a shard outside the folder",
                    where=index,
                    expected="names of .safetensors files beside the index",
                    found=repr(name)[:120],
                    remedy=(
                        "Do not load this folder: its files were put together wrongly or to harm"
                    ),
                )
    config = folder / "config.json"
    kernel = json_object(config).get("attn_implementation") if config.is_file() else None
    if isinstance(kernel, str | dict) and "/" in json.dumps(kernel):
        raise CheckpointError(
            "config.json names an attention kernel to be fetched",
            where=config,
            found=repr(kernel)[:80],
            remedy="Remove attn_implementation from the file",
        )


def json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file of a model folder.

    Raises: CheckpointError if it cannot be read or holds something else.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"cannot be read as JSON ({first_line(error)})", where=file
        ) from error
    if not isinstance(values, dict):
        raise CheckpointError(
            "wrong content", where=file, expected="a JSON object", found=type(values).__name__
        )
    return values


def first_line(error: BaseException) -> str:
    """The beginning of what an error says, or its name if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
