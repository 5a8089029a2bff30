"""What a sidecar's fields hold and where they stand in its file, for reading and writing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, WrapValidator
from pydantic_core import PydanticCustomError, ValidationError

from gloss.contract.sidecar_yaml import read_yaml
from gloss.contract.templates import validate_ar_template, validate_av_template
from gloss.errors import SidecarError, TemplateError
from gloss.foreign import shown

MAX_INTEGER = 2**53
_Sidecar = TypeVar("_Sidecar", bound=Any)


def wanted(expected: str) -> WrapValidator:
    """Says what a value must be, in place of what pydantic says of it."""

    def check(value: Any, validate: Callable[[Any], Any]) -> Any:
        try:
            return validate(value)
        except ValueError as error:
            raise PydanticCustomError("wanted", "{expected}", {"expected": expected}) from error

    return WrapValidator(check)


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a boolean is no number")
    return value


def _no_lone_surrogate(text: str) -> str:
    text.encode()
    return text


def _as_texts(value: Any) -> tuple[str, ...]:
    """One text alone counts as a list."""
    return tuple(str(item) for item in (value if isinstance(value, list | tuple) else [value]))


Count = Annotated[int, Field(strict=True, ge=0, le=MAX_INTEGER), wanted("an integer of at least 0")]
Width = Annotated[int, Field(strict=True, ge=1, le=MAX_INTEGER), wanted("an integer of at least 1")]
Number = Annotated[
    float, Field(allow_inf_nan=False), BeforeValidator(_no_boolean), wanted("a finite number")
]
"""Numbers written as strings count, booleans do not."""
Positive = Annotated[Number, Field(gt=0), wanted("a finite number above 0")]
Text = Annotated[str, Field(strict=True), AfterValidator(_no_lone_surrogate), wanted("a text")]
Char = Annotated[Text, Field(min_length=1, max_length=1), wanted("one character")]
Texts = Annotated[tuple[str, ...], BeforeValidator(_as_texts)]
Date = Annotated[str, BeforeValidator(str)]
"""As text, whatever YAML took it for."""
TokenIds = Annotated[
    tuple[Count, ...],
    Field(strict=True),
    BeforeValidator(lambda ids: tuple(ids) if isinstance(ids, list) else ids),
    wanted("a list of token ids"),
]
Values = Annotated[Mapping[Any, Any], wanted("a mapping")]


@dataclass(frozen=True)
class Key:
    """Where a field stands in the file; dots lead into blocks, and ``also`` is looked at where
    ``name`` holds nothing. None is written as null if ``null``, else not at all. A ``record``
    spreads over a block, in keys that begin with ``prefix``."""

    name: str
    also: str = ""
    null: bool = False
    record: Any = None
    prefix: str = ""


def _keys(sidecar: Any) -> dict[str, Key]:
    return {
        name: next((m for m in field.metadata if isinstance(m, Key)), Key(name))
        for name, field in sidecar.__pydantic_fields__.items()
        if name != "extra"
    }


class SidecarFile:
    """The values in a sidecar file, and what is wrong with them by file and key."""

    def __init__(self, path: Path, *, kind: str, versions: tuple[int, ...]) -> None:
        self.path, self.values = path, read_yaml(path)
        if self.values.get("kind") != kind:
            raise self.wrong("kind", shown(kind), self.values.get("kind"))
        version = self.values.get("schema_version")
        self.version: int = versions[-1] if version is None else version
        if type(self.version) is not int or self.version not in versions:
            raise self.wrong("schema_version", " or ".join(map(str, versions)), version)

    def block(self, name: str) -> dict[str, Any]:
        """A nested mapping; an empty one where it is missing."""
        found = self.get(name) if name else self.values
        if found is not None and not isinstance(found, dict):
            raise self.wrong(name, "a mapping", found)
        return found or {}

    def get(self, name: str) -> Any:
        """The value under a dotted name; None where it is missing."""
        block, _, key = name.rpartition(".")
        return self.block(block).get(key)

    def checked(self, name: str, kind: Any) -> Any:
        """The value under a name, as one of the kinds of values above."""
        try:
            return TypeAdapter(kind).validate_python(self.get(name))
        except ValidationError as error:
            raise self.wrong(name, error.errors()[0]["msg"], self.get(name)) from error

    def wrong(self, what: str, expected: str, found: Any, **more: str) -> SidecarError:
        """The error of a value."""
        what_is = "nothing" if found is None else shown(found)
        return SidecarError(what, where=self.path, expected=expected, found=what_is, **more)

    def read(self, kind: type[_Sidecar], *, others: set[str], **known: Any) -> _Sidecar:
        """The sidecar in the file, but for ``known`` fields; keys that are neither fields' nor in
        ``others`` are kept in ``extra``."""
        keys = _keys(kind)
        given = {name: self._value(key) for name, key in keys.items()} | known
        unset = (MISSING, MISSING)
        required = {f.name for f in fields(kind) if (f.default, f.default_factory) == unset}
        given = {n: v for n, v in given.items() if v is not None or n in required}
        places = [place for key in keys.values() for place in (key.name, key.also)]
        read = {"kind", "schema_version", *others, *(place.split(".")[0] for place in places)}
        extra = {name: value for name, value in self.values.items() if name not in read}
        try:
            sidecar: _Sidecar = kind(**given, extra=extra)
        except ValidationError as error:
            raise self._refused(error, keys) from error
        try:
            if sidecar.av_template is not None:
                validate_av_template(sidecar.av_template)
            if sidecar.ar_template is not None:
                validate_ar_template(sidecar.ar_template)
        except TemplateError as error:
            raise TemplateError(**{**vars(error), "where": self.path}) from error
        return sidecar

    def _place(self, key: Key) -> str:
        places = (place for place in (key.name, key.also) if place)
        return next((place for place in places if self.get(place) not in (None, "")), key.name)

    def _value(self, key: Key) -> Any:
        if key.record is None:
            value = self.get(self._place(key))
            return None if value == "" else value
        block = self.block(key.name)
        held = {field.name: block.get(key.prefix + field.name) for field in fields(key.record)}
        return held if any(value is not None for value in held.values()) else None

    def _refused(self, error: ValidationError, keys: Mapping[str, Key]) -> SidecarError:
        first = error.errors()[0]
        name, *inside = map(str, first["loc"])
        key = keys[name]
        path = ".".join([self._place(key), *(key.prefix + part for part in inside)])
        expected = first["msg"] if first["type"] == "wanted" else "a mapping"
        return self.wrong(path, expected, first["input"])


def file_values(sidecar: Any, **frame: Any) -> dict[str, Any]:
    """What the file of a sidecar holds: ``frame`` first, then every field at its place."""
    values = dict(frame)
    for name, key in _keys(sidecar).items():
        value = getattr(sidecar, name)
        block, _, inside = key.name.rpartition(".")
        held = values.setdefault(block or key.name, {}) if block or key.record else values
        if key.record is not None:
            record = {} if value is None else asdict(value)
            held.update({key.prefix + part: number for part, number in record.items()})
        elif value is not None or key.null:
            held[inside] = list(value) if isinstance(value, tuple) else value
    return values
