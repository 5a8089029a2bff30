"""What a check says, and the one way in which checks are run: a failed one never stops the
others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from gloss.contract import SIDECAR_NAME, ModelSidecar, read_model_sidecar
from gloss.errors import CheckpointError, GlossError
from gloss.release.summary import text_config
from gloss.target_model import ModelPlace, load_tokenizer
from gloss.target_model.folder_files import json_object

Status = Literal["ok", "warning", "fail", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One line of ``validate``; ``half`` is av, ar or pair."""

    half: str
    check: str
    status: Status
    says: str
    remedy: str = ""


class Doubt(GlossError):
    """What a check raises for a checkpoint that can be used, but perhaps should not."""


class Half:
    """One half under examination; each part is read when a check first asks for it.

    The properties raise what reading raises: SidecarError, TemplateError, CheckpointError.
    """

    def __init__(self, role: str, place: ModelPlace) -> None:
        self.role, self.place = role, place

    @cached_property
    def files(self) -> dict[str, int]:
        """Names and sizes of its files."""
        return self.place.files()

    @cached_property
    def folder(self) -> Path:
        """Its folder on this machine."""
        return self.place.folder_unchecked()

    @cached_property
    def sidecar(self) -> ModelSidecar:
        """Its sidecar."""
        return read_model_sidecar(self.folder / SIDECAR_NAME)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Its text model's config."""
        return text_config(json_object(self.folder / "config.json"))

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer, loaded as Gloss loads it: files only, no code."""
        return load_tokenizer(self.folder)

    @property
    def num_blocks(self) -> int:
        """Number of blocks by its config."""
        return self.config_integer("num_hidden_layers")

    def config_integer(self, name: str) -> int:
        """An integer of the config.

        Raises: CheckpointError if it is missing or none.
        """
        value = self.config.get(name)
        if not isinstance(value, int):
            raise CheckpointError(
                f"config.json has no {name}",
                where=self.place,
                remedy="Copy config.json from the model it belongs to",
            )
        return value

    def has(self, part: str) -> bool:
        """Whether one of ``sidecar``, ``config`` and ``tokenizer`` can be read."""
        try:
            getattr(self, part)
        except GlossError:
            return False
        return True


@dataclass(frozen=True)
class Check:
    """A check's name, what it looks at (it returns what it found, or raises) and the parts without
    which it is skipped.
    """

    name: str
    look: Callable[[Half], str]
    needs: tuple[str, ...] = ()
    roles: Collection[str] = ("av", "ar")


def run_checks(half: Half, checks: Iterable[Check]) -> list[Finding]:
    """The findings of every check that concerns this half."""
    return [_finding(half, check) for check in checks if half.role in check.roles]


def _finding(half: Half, check: Check) -> Finding:
    missing = [part for part in check.needs if not half.has(part)]
    if missing:
        return Finding(
            half.role, check.name, "skipped", f"needs a readable {' and '.join(missing)}"
        )
    return finding_of(half.role, check.name, lambda: check.look(half))


def finding_of(half: str, name: str, look: Callable[[], str]) -> Finding:
    """Runs one check; what it raises becomes its line."""
    try:
        return Finding(half, name, "ok", look())
    except Doubt as doubt:
        return Finding(half, name, "warning", _without_remedy(doubt), doubt.remedy or "")
    except GlossError as error:
        return Finding(half, name, "fail", _without_remedy(error), error.remedy or "")


def _without_remedy(error: GlossError) -> str:
    return str(
        GlossError(error.what, where=error.where, expected=error.expected, found=error.found)
    ).rstrip(".")
