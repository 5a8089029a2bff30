"""The one method that every labeller has, how one is found by its name, and one that says what it
is told.
"""

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
    """What a labeller sees of one activation: ``text`` up to and with the ``token`` at index
    ``position``.

    ``next_tokens`` holds the target's own most likely next tokens, likeliest first, where the
    labeller asks for them."""

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
        ...

    @property
    def needs_next_tokens(self) -> bool:
        """Whether requests must carry the target's top next tokens."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that changes the labels, recorded with them; values must fit into YAML."""
        ...

    def label(self, requests: Sequence[LabelRequest]) -> list[str | None]:
        """One label per request, in order; None where the labeller gives none.

        A label may depend on its own request and on the settings only, so that a stopped labelling
        can go on."""
        ...


def named_labeller(name: str, settings: Mapping[str, Any], *, seed: int) -> Labeller:
    """The labeller of an installed name, or of the user's own ``module:Class``, with its settings.

    Raises: ConfigError if there is none of that name, it is no labeller, or refuses the settings.
    """
    kind = plugins.load("gloss.labellers", name)
    if not isinstance(kind, type) or not hasattr(kind, "label"):
        raise ConfigError(
            f"label.labeller {name!r} is no labeller", expected="a class with a method label"
        )
    seeded = {"seed": seed} if "seed" in inspect.signature(kind).parameters else {}
    try:
        labeller: Labeller = kind(**{**seeded, **settings})
    except TypeError as error:
        raise ConfigError(
            f"wrong label.settings for labeller {name!r}", found=str(error)
        ) from error
    missing = [member for member in _MEMBERS if not hasattr(labeller, member)]
    if missing:
        raise ConfigError(
            f"label.labeller {name!r} is no labeller",
            expected=", ".join(_MEMBERS),
            found=f"none called {missing[0]}",
        )
    return labeller


class ScriptedLabeller:
    """Answers from a function of the request, from a mapping of ``(doc_id, position)``, or from a
    list in order: for tests, and for labels that exist already.

    ``requests`` keeps every request it was given.
    """

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
        """The scripted answers.

        Raises: LabelError if a list of answers has run out.
        """
        answers = []
        for request in requests:
            answers.append(self._answer(request))
            self.requests.append(request)
        return answers

    def _answer(self, request: LabelRequest) -> str | None:
        if callable(self._script):
            return self._script(request)
        if isinstance(self._script, Mapping):
            return self._script.get((request.doc_id, request.position))
        if len(self.requests) >= len(self._script):
            raise LabelError(
                "the script has run out of labels",
                expected="one per request",
                found=len(self._script),
            )
        return self._script[len(self.requests)]
