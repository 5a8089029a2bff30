"""Typed reading of sidecar values: every wrong one is named by file and key."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import yaml

from gloss.contract.templates import validate_ar_template, validate_av_template
from gloss.durable import write_text
from gloss.errors import SidecarError, TemplateError

MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
MAX_INTEGER = 2**53
_NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MAX_NUMBER_CHARS = 64
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_REQUIRED = object()


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file, built from plain values only.

    Raises: SidecarError if it is missing, too large (also once its aliases are followed), no YAML
    or no mapping."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise SidecarError(
                "the sidecar is too large", where=file, expected=f"at most {MAX_BYTES} bytes"
            )
        values = _plain_values(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SidecarError(
            f"no sidecar ({error.strerror})",
            where=file,
            remedy="Every checkpoint and every dataset has one; check the path",
        ) from error
    except _UNREADABLE as error:
        reason = str(getattr(error, "problem", None) or type(error).__name__)
        raise SidecarError(f"not readable as YAML ({reason[:120]})", where=file) from error
    if not isinstance(values, dict):
        raise SidecarError(
            "not a sidecar", where=file, expected="a mapping", found=type(values).__name__
        )
    return {str(key): value for key, value in values.items()}


_UNREADABLE = (
    yaml.YAMLError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    TypeError,
    RecursionError,
)
"""What PyYAML's safe loader raises for bad files, odd scalars such as ``!!int ''`` or ``!!timestamp
x`` included.
"""


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
    """How many values a node holds, each alias counted as what it stands for.

    Raises: YAMLError for too many, a key that comes twice or a number that is none; RecursionError
    for an alias to itself."""
    if id(node) in known:
        return known[id(node)]
    if isinstance(node, yaml.ScalarNode):
        if node.tag in _NUMBER_TAGS and len(node.value) > _MAX_NUMBER_CHARS:
            raise yaml.constructor.ConstructorError(
                problem=f"a number of {len(node.value)} characters"
            )
        return 1
    inside = list(node.value)
    if isinstance(node, yaml.MappingNode):
        keys = [(key.tag, key.value) for key, _ in inside if isinstance(key, yaml.ScalarNode)]
        if twice := [key for (_, key), times in Counter(keys).items() if times > 1]:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {twice[0][:40]!r} comes twice"
            )
        inside = [part for pair in inside for part in pair]
    known[id(node)] = count = 1 + sum(_num_values(part, known) for part in inside)
    if count > MAX_VALUES:
        raise yaml.constructor.ConstructorError(problem=f"more than {MAX_VALUES} values")
    return count


def write_yaml(values: Mapping[str, Any], file: Path) -> Path:
    """Writes a mapping as YAML, atomically.

    All beyond ASCII is escaped, as in the reference's files: some of it (U+0085) changes where it
    is not.
    Raises: SidecarError for a value that YAML has no form for.
    """
    try:
        text = yaml.safe_dump(dict(values), sort_keys=False)
    except yaml.YAMLError as error:
        raise SidecarError(f"a value cannot be written as YAML ({error})", where=file) from error
    write_text(file, text)
    return file


def check_templates(file: Path, *, av: str | None, ar: str | None) -> None:
    """Raises TemplateError, naming the file, for a template that cannot be filled."""
    try:
        if av is not None:
            validate_av_template(av)
        if ar is not None:
            validate_ar_template(ar)
    except TemplateError as error:
        raise TemplateError(
            error.what, where=file, expected=error.expected, found=error.found, remedy=error.remedy
        ) from error


@dataclass(frozen=True)
class FieldReader:
    """Reads the values of one mapping of a sidecar; ``prefix`` is its place in the file."""

    values: Mapping[str, Any]
    where: Path
    prefix: str = ""

    def mapping(self, name: str) -> FieldReader:
        """A nested mapping; an empty one where it is missing."""
        value = self.values.get(name)
        if value is None:
            return FieldReader({}, self.where, f"{self.prefix}{name}.")
        if not isinstance(value, dict):
            raise self._wrong(name, "a mapping", value)
        return FieldReader(value, self.where, f"{self.prefix}{name}.")

    def expect(self, name: str, wanted: str) -> None:
        """Refuses any other value."""
        if self.values.get(name) != wanted:
            raise self._wrong(name, repr(wanted), self.values.get(name))

    @overload
    def integer(self, name: str, *, minimum: int = 0) -> int: ...
    @overload
    def integer(self, name: str, *, default: int, minimum: int = 0) -> int: ...
    @overload
    def integer(self, name: str, *, default: None, minimum: int = 0) -> int | None: ...
    def integer(self, name: str, *, default: Any = _REQUIRED, minimum: int = 0) -> int | None:
        """An integer of at least ``minimum``; booleans and strings are none."""
        value = self.values.get(name)
        if value is None and default is not _REQUIRED:
            return default  # type: ignore[no-any-return]
        if (
            not isinstance(value, int)
            or isinstance(value, bool)
            or not minimum <= value <= MAX_INTEGER
        ):
            raise self._wrong(name, f"an integer of at least {minimum}", value)
        return value

    def positive(self, name: str) -> float:
        """A finite number above 0; numbers written as strings count, booleans do not."""
        value = self.values.get(name)
        try:
            number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = math.nan
        if not (math.isfinite(number) and number > 0):
            raise self._wrong(name, "a finite number above 0", value)
        return number

    def text(self, *names: str, required: bool = False) -> str | None:
        """The first of several keys that holds a non-empty text."""
        for name in names:
            value = self.values.get(name)
            if value is not None and (not isinstance(value, str) or _LONE_SURROGATE.search(value)):
                raise self._wrong(name, "a text", value)
            if value:
                return value
        if required:
            raise self._wrong(names[0], "a text", self.values.get(names[0]))
        return None

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; one alone counts as a list."""
        value = self.values.get(name)
        items = [] if value is None else value if isinstance(value, list) else [value]
        return tuple(str(item) for item in items)

    def integers(self, *names: str) -> tuple[int, ...] | None:
        """The first of several keys that holds a list of token ids."""
        for name in names:
            value = self.values.get(name)
            if value is None:
                continue
            if not isinstance(value, list) or not all(
                type(i) is int and 0 <= i <= MAX_INTEGER for i in value
            ):
                raise self._wrong(name, "a list of token ids", value)
            return tuple(value)
        return None

    def _wrong(self, name: str, expected: str, found: Any) -> SidecarError:
        shown = "nothing" if found is None else repr(found)[:80]
        return SidecarError(
            f"{self.prefix}{name}", where=self.where, expected=expected, found=shown
        )
