"""The one method of every labeller, how one is found by its name, and one that is scripted."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gloss import plugins
from gloss.errors import ConfigError, LabelError

_MEMBERS = ("name", "needs_next_tokens", "settings", "label")


@dataclass(frozen=True)
class LabelRequest:
    """A ``text`` up to and with the ``token`` at ``position``, and likely next tokens if needed."""

    doc_id: str
    text: str
    position: int
    token: str
    next_tokens: tuple[str, ...] = ()


class Labeller(Protocol):
    """Describes what a model must have in mind at the end of each text."""

    @property
    def name(self) -> str:
        """Recorded with the labels."""

    @property
    def needs_next_tokens(self) -> bool:
        """Whether requests must carry the target's top next tokens."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that changes the labels, recorded with them; values must fit into YAML."""

    def label(self, requests: Sequence[LabelRequest]) -> list[str | None]:
        """One label per request, or None; it depends on its request and the settings only."""


def named_labeller(name: str, settings: Mapping[str, Any], *, seed: int) -> Labeller:
    """An installed labeller, or ``module:Class``. Raises: ConfigError for none, or its settings."""
    no_labeller = f"label.labeller {name!r} is no labeller"
    kind = plugins.load("gloss.labellers", name)
    if not isinstance(kind, type) or not hasattr(kind, "label"):
        raise ConfigError(no_labeller, expected="a class with a method label")
    seeded = {"seed": seed} if "seed" in inspect.signature(kind).parameters else {}
    try:
        labeller: Labeller = kind(**{**seeded, **settings})
    except TypeError as error:
        what = f"wrong label.settings for labeller {name!r}"
        raise ConfigError(what, found=str(error)) from error
    missing = [member for member in _MEMBERS if not hasattr(labeller, member)]
    if missing:
        found = f"none called {missing[0]}"
        raise ConfigError(no_labeller, expected=", ".join(_MEMBERS), found=found)
    return labeller


class ScriptedLabeller:
    """Answers from a function, a mapping of ``(doc_id, position)``, or a list; for tests."""

    name = "scripted"

    def __init__(
        self,
        script: Callable[[LabelRequest], str | None]
        | Mapping[tuple[str, int], str]
        | Sequence[str | None],
        *,
        needs_next_tokens: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.needs_next_tokens = needs_next_tokens
        self.settings: Mapping[str, Any] = dict(settings or {})
        self.requests: list[LabelRequest] = []
        self._script = script

    def label(self, requests: Sequence[LabelRequest]) -> list[str | None]:
        """The scripted answers. Raises: LabelError if a list of answers has run out."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: LabelRequest) -> str | None:
        index = len(self.requests)
        self.requests.append(request)
        if callable(self._script):
            return self._script(request)
        if isinstance(self._script, Mapping):
            return self._script.get((request.doc_id, request.position))
        if index >= len(self._script):
            what, found = "the script has run out of labels", len(self._script)
            raise LabelError(what, expected="one per request", found=found)
        return self._script[index]
