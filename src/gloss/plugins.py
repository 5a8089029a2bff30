"""What plugs into Gloss by name: entry points of installed packages, or the user's own
``module:name``.

group             a name stands for
gloss.targets     a call that returns the folder (or hub id) of a target model
gloss.corpora     a call ``(max_documents, seed)`` that returns documents
gloss.labellers   a class of ``gloss.providers.Labeller``; ``seed`` is passed where it takes one
gloss.judges      a class of ``ClaimJudge``, for the corpus of that name
gloss.examples    a class of ``KnownTruth``, for NLAs of a target whose texts it knows
gloss.commands    a Typer app, shown below ``gloss data``
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, Protocol

from gloss.errors import ConfigError

Verdict = Literal["right", "wrong", "absent", "text only"]
"""Agrees with what is known, contradicts it, nothing of its kind is known; "text only" agrees with
the text and is not in the activation."""


@dataclass(frozen=True)
class JudgedClaim:
    """One claim of an explanation, where it stands (characters), and whether it is true."""

    kind: str
    value: str
    start: int
    end: int
    verdict: Verdict


@dataclass(frozen=True)
class FactKinds:
    """Kinds of facts by where they stand: ``held`` by the activation, or in ``text_only``.

    ``privileged`` ones are held and stand in no text."""

    held: frozenset[str]
    text_only: frozenset[str] = frozenset()
    privileged: frozenset[str] = frozenset()

    @property
    def facts(self) -> frozenset[str]:
        """All of them."""
        return self.held | self.text_only


class ClaimJudge(Protocol):
    """Knows the truth about the documents that activations were taken from.

    It may have three more attributes: ``fact_kinds``, a ``FactKinds``, where it is known what
    activations hold; ``rewrites``, a method ``(explanation) -> {name: text}`` that says it in
    other words; ``steering``, a ``SteeringBench``, where it is known what the target does with a
    fact."""

    def judge(self, explanation: str, doc_id: str, context: str) -> Sequence[JudgedClaim]:
        """Every claim of the explanation, judged by what holds after ``context``, token and all."""

    def known(self, doc_id: str, context: str) -> Mapping[str, str]:
        """The facts that hold after ``context``: kind → value."""


def fact_kinds(judge: ClaimJudge) -> FactKinds | None:
    """What a judge knows of where its kinds of facts stand."""
    return getattr(judge, "fact_kinds", None)


@dataclass(frozen=True)
class SteeringCase:
    """A text whose last token's activation decides what follows: a fact of ``kind``.

    ``partner`` is a text like it that holds ``intended`` in place of ``value``; ``unrelated`` is
    another fact of the text, as (kind, value, another value)."""

    text: str
    partner: str
    kind: str
    value: str
    intended: str
    unrelated: tuple[str, str, str]


class SteeringBench(Protocol):
    """Texts of a target whose continuations show what it makes of a fact."""

    def cases(self, count: int, seed: int) -> Sequence[SteeringCase]:
        """Cases of texts that nothing was trained on, each of a document of its own."""

    def edited(self, explanation: str, kind: str, value: str) -> str | None:
        """The explanation with ``value`` where it names a value of ``kind``; None if it does
        not."""

    def shown(self, kind: str, continuation: str) -> str | None:
        """The value that a continuation acts on; None if it shows none."""


def steering_bench(judge: ClaimJudge | None) -> SteeringBench | None:
    """What a judge knows of how its target acts."""
    return getattr(judge, "steering", None)


class KnownTruth(Protocol):
    """Knows the truth about some texts of its own."""

    def texts(self, nla: Any) -> Mapping[str, str]:
        """Texts whose truth is known, by id; none for an NLA of another target."""

    def verdicts(self, text: str, end: int, explanation: str) -> Sequence[JudgedClaim] | None:
        """The claims about the token that ends at character ``end``; None for an unknown text."""


def installed(group: str) -> list[str]:
    """The names of a group."""
    return sorted({entry.name for entry in entry_points(group=group)})


def load(group: str, name: str) -> Any:
    """What a name of ``group`` stands for; ``module:name`` runs code of the current folder too.

    Raises: ConfigError that lists what is installed, or says what a ``module:name`` lacks."""
    if ":" in name:
        return _own(name)
    for entry in entry_points(group=group, name=name):
        return entry.load()
    raise ConfigError(
        f"unknown {group.removeprefix('gloss.').removesuffix('s')}",
        expected=f"one that is installed ({', '.join(installed(group)) or 'none'}) or module:name",
        found=repr(name),
    )


def find(group: str, name: str) -> Any | None:
    """What an installed name of ``group`` stands for; None if there is none."""
    return load(group, name) if name in installed(group) else None


def target_place(name: str) -> str:
    """The folder or hub id of a target: what an installed name stands for, else the name itself."""
    folder = find("gloss.targets", name)
    return name if folder is None else str(folder())


def known_truth() -> KnownTruth | None:
    """The truth of all installed examples; None where there are none."""
    sources = [load("gloss.examples", name)() for name in installed("gloss.examples")]
    return _AllTruth(sources) if sources else None


@dataclass(frozen=True)
class _AllTruth:
    sources: Sequence[KnownTruth]

    def texts(self, nla: Any) -> Mapping[str, str]:
        return {name: text for one in self.sources for name, text in one.texts(nla).items()}

    def verdicts(self, text: str, end: int, explanation: str) -> Sequence[JudgedClaim] | None:
        found = (one.verdicts(text, end, explanation) for one in self.sources)
        return next((verdicts for verdicts in found if verdicts is not None), None)


def _own(name: str) -> Any:
    module, _, attribute = name.partition(":")
    here, before = str(Path.cwd()), list(sys.path)
    sys.path.append(here)
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"cannot import {name!r}",
            expected="module:name of a module that Python finds, or of one in this folder",
            found=str(error),
        ) from error
    finally:
        sys.path[:] = before
