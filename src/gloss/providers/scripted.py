"""A labeller that says what it is told: for tests, and for labels that exist already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gloss.errors import LabelError
from gloss.providers.labeller import LabelRequest


class ScriptedLabeller:
    """Answers from a function of the request, from a mapping of ``(doc_id, position)``, or from a
    list in order.

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
