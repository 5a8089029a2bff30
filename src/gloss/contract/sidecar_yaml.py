"""YAML of sidecars from anywhere: plain values only, of bounded size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from gloss.durable import write_text
from gloss.errors import SidecarError

MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
_NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MAX_NUMBER_CHARS = 64


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file, of plain values only; SidecarError if there is none."""
    try:
        is_small = file.stat().st_size <= MAX_BYTES
        values = _plain_values(file.read_text(encoding="utf-8")) if is_small else None
    except OSError as error:
        what = f"no sidecar ({error.strerror})"
        remedy = "Every checkpoint and every dataset has one; check the path"
        raise SidecarError(what, where=file, remedy=remedy) from error
    except Exception as error:  # PyYAML's safe loader raises of every kind, as for ``!!int ''``
        reason = str(getattr(error, "problem", None) or type(error).__name__)
        raise SidecarError(f"not readable as YAML ({reason[:120]})", where=file) from error
    if not is_small:
        most = f"at most {MAX_BYTES} bytes"
        raise SidecarError("the sidecar is too large", where=file, expected=most)
    if not isinstance(values, dict):
        found = type(values).__name__
        raise SidecarError("not a sidecar", where=file, expected="a mapping", found=found)
    return {str(key): value for key, value in values.items()}


def _plain_values(text: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _num_values(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _num_values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node holds, each alias counted as what it stands for; refuses too many."""
    if id(node) in known:
        return known[id(node)]
    if isinstance(node, yaml.ScalarNode):
        if node.tag in _NUMBER_TAGS and len(node.value) > _MAX_NUMBER_CHARS:
            raise ConstructorError(problem=f"a number of {len(node.value)} characters")
        return 1
    inside = list(node.value)
    if isinstance(node, yaml.MappingNode):
        keys = [(key.tag, key.value) for key, _ in inside if isinstance(key, yaml.ScalarNode)]
        if twice := [key for (_, key), times in Counter(keys).items() if times > 1]:
            raise ConstructorError(problem=f"the key {twice[0][:40]!r} comes twice")
        inside = [part for pair in inside for part in pair]
    known[id(node)] = count = 1 + sum(_num_values(part, known) for part in inside)
    if count > MAX_VALUES:
        raise ConstructorError(problem=f"more than {MAX_VALUES} values")
    return count


def write_yaml(values: Mapping[str, Any], file: Path) -> Path:
    """Writes YAML, escaped beyond ASCII: some of it (U+0085) changes where it is not."""
    try:
        text = yaml.safe_dump(dict(values), sort_keys=False)
    except yaml.YAMLError as error:
        raise SidecarError(f"a value cannot be written as YAML ({error})", where=file) from error
    write_text(file, text)
    return file
