"""The one method that every labeller has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


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
