"""Every error a user can meet. Each says what, where, expected, found and the remedy, on one line.

GlossError
├── ConfigError, MissingExtraError                                   what was asked for
├── SidecarError, MarkerError, TemplateError, CheckpointError,       models
│   ArchitectureError, InjectionError, ActivationError, PositionError
├── CorpusError, DatasetError, LabelError                            data
├── TrainingError, ResumeError, StorageError, LockError              long work
└── EngineError, ServerError: ServerBusyError, AccessError           servers
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gloss.foreign import printable

_SHOWN_CHARS = 600


class GlossError(Exception):
    """An error with one clear line for the user: ``where: what: expected …, found …. Remedy.``"""

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: Any = None,
        remedy: str | None = None,
    ) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        self.expected, self.found = expected, found
        super().__init__(self._line())

    def _line(self) -> str:
        line = f"{self.where}: {_shown(self.what)}" if self.where is not None else _shown(self.what)
        details = []
        if self.expected is not None:
            details.append(f"expected {self.expected}")
        if self.found is not None:
            details.append(f"found {_shown(str(self.found))}")
        if details:
            line += ": " + ", ".join(details)
        line = line.rstrip(".") + "."
        if self.remedy:
            line += f" {self.remedy.rstrip('.')}."
        return printable(" ".join(line.split()))


def _shown(text: str) -> str:
    """The beginning of a text, as much as one line shows."""
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def first_line(error: BaseException) -> str:
    """The beginning of an error's message, or its name: as much as fits into another's line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def foreign_faults(
    kind: type[GlossError], what: str, *, where: object = None, remedy: str | None = None
) -> Iterator[None]:
    """The boundary to code that is not Gloss's: whatever it raises, panics of Rust too, becomes one
    line that names the file or row.

    A GlossError, a stop and running out of memory pass as they are. Raises: ``kind``."""
    try:
        yield
    except (GlossError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        found = f"{type(error).__name__}: {first_line(error)}"
        raise kind(what, where=where, found=found, remedy=remedy) from error


class ConfigError(GlossError):
    """A config file, a flag, or a combination of settings is wrong."""


class SidecarError(GlossError):
    """An ``nla_meta.yaml`` is missing, unreadable or contradicts what it describes."""


class MarkerError(GlossError):
    """The injection marker does not survive the tokenizer or the prompt."""


class TemplateError(GlossError):
    """An AV or AR prompt template cannot be used."""


class CheckpointError(GlossError):
    """A checkpoint folder is incomplete or its weights are damaged."""


class ArchitectureError(GlossError):
    """The model family has no entry in the registry of architectures."""


class InjectionError(GlossError):
    """Activations and marker sites do not match."""


class ActivationError(GlossError):
    """An activation is zero, not finite, or has the wrong shape."""


class CorpusError(GlossError):
    """A corpus cannot be read or holds no usable document."""


class DatasetError(GlossError):
    """A Parquet dataset or its sidecar cannot be used."""


class LabelError(GlossError):
    """A labeller or its settings cannot be used."""


class TrainingError(GlossError):
    """A training run cannot go on."""


class ResumeError(GlossError):
    """A run folder does not fit what was asked for."""


class StorageError(GlossError):
    """A file cannot be written: a full disk, a read-only folder, or a missing permission."""


class LockError(GlossError):
    """Another process is writing the same folder."""


class PositionError(GlossError):
    """Token positions were asked for that the text does not have."""


class EngineError(GlossError):
    """A server that generates explanations fails, answers wrongly, or has wrong settings."""


class ServerError(GlossError):
    """A Gloss server cannot be reached, or failed to answer."""


class ServerBusyError(ServerError):
    """A Gloss server is too busy or shutting down; ``retry_after_s`` says when to ask again."""

    retry_after_s: float = 1.0


class AccessError(ServerError):
    """A Gloss server wants a secret, or another one, or refuses the page that asks."""


class MissingExtraError(GlossError):
    """An optional dependency is not installed; the message names the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        remedy = f"Install it with: pip install 'gloss-nla[{extra}]'"
        super().__init__(f"{package} is not installed", remedy=remedy)
