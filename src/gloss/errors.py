"""Every error a user can meet. Each says what, where, expected, found and the remedy, on one line.

GlossError
├── ConfigError          a config file, a flag, or a combination of settings
├── SidecarError         an ``nla_meta.yaml``
├── MarkerError          the injection marker against a tokenizer or a prompt
├── TemplateError        an AV or AR prompt template
├── CheckpointError      a checkpoint folder or its weights
├── ArchitectureError    a model family that is not in the registry
├── InjectionError       activations and marker sites that do not match
├── ActivationError      a zero, non-finite or wrongly shaped activation
├── CorpusError          a corpus that cannot be read
├── DatasetError         a Parquet file or its sidecar
├── LabelError           a labeller or its settings
├── TrainingError        a training run that cannot go on
├── ResumeError          a run folder that does not fit the request
├── StorageError         a file that cannot be written: full disk, missing permission
├── LockError            a folder that another process is writing
├── PositionError        token positions that a text does not have
├── EngineError          a server that generates explanations, or its settings
├── ServerError          a Gloss server that cannot be reached, or failed
│   ├── ServerBusyError    its queue is full, or it is shutting down: ask again later
│   └── AccessError        secret missing or wrong, or the page that asks is not the server's own
└── MissingExtraError    an optional dependency that is not installed
"""

from __future__ import annotations

from typing import Any
from unicodedata import category

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
        self.what, self.where, self.expected, self.found, self.remedy = (
            what,
            where,
            expected,
            found,
            remedy,
        )
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
        return " ".join(line.split())


def _shown(text: str) -> str:
    """The text as it fits into one line: its beginning, without control characters, which a
    terminal would obey.
    """
    short = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
    return "".join(
        char if char.isspace() or not category(char).startswith("C") else "\ufffd" for char in short
    )


def cause(error: BaseException) -> str:
    """The first line of what a library says, or the kind of its error where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


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
    """A file cannot be written: the disk is full, the folder read-only, or a permission is
    missing.
    """


class LockError(GlossError):
    """Another process is writing the same folder."""


class PositionError(GlossError):
    """Token positions were asked for that the text does not have."""


class EngineError(GlossError):
    """A server that generates explanations cannot be reached, answers wrongly, or has the wrong
    settings.
    """


class ServerError(GlossError):
    """A Gloss server cannot be reached, or failed to answer."""


class ServerBusyError(ServerError):
    """A Gloss server has more to do than it takes on, or is shutting down; ``retry_after_s`` says
    when to ask again.
    """

    retry_after_s: float = 1.0


class AccessError(ServerError):
    """A Gloss server wants a secret, or another one, or refuses the page that asks."""


class MissingExtraError(GlossError):
    """An optional dependency is not installed; the message names the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed",
            remedy=f"Install it with: pip install 'gloss-nla[{extra}]'",
        )
