"""Fills the slots of document templates from a latent state, and notes where each fact becomes
known.

{H} the hero's name; {X} {x} name or pronoun; {h} {Her} {o} his or her, His or Her, him or her;
every other slot is named after what it says: {place}, {at_place}, {adverb} (of the mood), {thing}
(the object, often with an adjective) …"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from random import Random

from gloss.lab.documents import Fact
from gloss.lab.wording_facts import BOYS, MOODS, OBJECTS, PLACES, TIMES, TOPICS, VALUES, WEATHERS

_SLOT = re.compile(r"\{(\w+)\}")


class Draft:
    """A document being written: its text so far, the latent state behind it, and the facts that the
    text has told."""

    def __init__(self, state: Mapping[str, str], rng: Random) -> None:
        self.state, self.rng = state, rng
        self.length = 0
        self.told: dict[str, Fact] = {}
        self._parts: list[str] = []
        self._last: dict[str, str] = {}
        self.his = state.get("hero") in BOYS

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._parts)

    def write(self, text: str) -> None:
        """Appends plain text."""
        self._parts.append(text)
        self.length += len(text)

    def tell(self, kind: str, value: str) -> None:
        """Notes that the text so far has told a fact; the first time counts."""
        if kind not in self.told:
            self.told[kind] = Fact(kind, value, self.length)

    def fill(self, template: str, **fields: str) -> None:
        """Appends a template; ``fields`` fill slots that carry no fact."""
        for literal, slot in segments(template):
            self.write(literal)
            if slot in fields:
                self.write(fields[slot])
            elif slot:
                self._fill_slot(slot)

    def choose(self, purpose: str, options: Sequence[str]) -> str:
        """A random option, not the one chosen last for the same purpose."""
        choice = self.rng.choice(options)
        while choice == self._last.get(purpose) and len(options) > 1:
            choice = self.rng.choice(options)
        self._last[purpose] = choice
        return choice

    def _fill_slot(self, slot: str) -> None:
        if slot in _PRONOUNS:
            self.write(_PRONOUNS[slot][self.his])
            return
        if slot in ("X", "x"):
            pronoun = _SUBJECT[slot][self.his]
            name = "hero" not in self.told or self.rng.random() < 0.5
            self.write(self.state["hero"] if name else pronoun)
            if name:
                self.tell("hero", self.state["hero"])
            return
        kind, expand = _SLOTS[slot]
        self.write(expand(self, self.state[kind]))
        self.tell(kind, self.state[kind])


@cache
def segments(template: str) -> tuple[tuple[str, str | None], ...]:
    """A template as pairs of literal text and the slot behind it."""
    parts = [*_SLOT.split(template), None]
    return tuple((str(parts[i]), parts[i + 1]) for i in range(0, len(parts), 2))


@cache
def needs(template: str) -> frozenset[str]:
    """The kinds of facts that a template tells or presupposes; pronouns and plain fields presuppose
    the hero."""
    slots = [slot for _, slot in segments(template) if slot]
    return frozenset(_SLOTS[slot][0] if slot in _SLOTS else "hero" for slot in slots)


def latent_state(kinds: Sequence[str], rng: Random) -> dict[str, str]:
    """Independent, uniform values."""
    return {kind: rng.choice(VALUES[kind]) for kind in kinds}


def at_place(place: str) -> str:
    """A place with its preposition: at the harbor, in the forest."""
    return f"{PLACES[place][0]} the {place}"


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _thing(draft: Draft, value: str) -> str:
    return f"{OBJECTS[value]} {value}" if draft.rng.random() < 0.6 else value


def _did_topic(draft: Draft, value: str) -> str:
    noun = draft.choose("topic", [noun for _, noun in TOPICS[value]])
    return next(f"{verb} {own}" for verb, own in TOPICS[value] if own == noun)


_PRONOUNS = {"h": ("her", "his"), "Her": ("Her", "His"), "o": ("her", "him")}
_SUBJECT = {"X": ("She", "He"), "x": ("she", "he")}
_SLOTS: dict[str, tuple[str, Callable[[Draft, str], str]]] = {
    "H": ("hero", lambda _, value: value),
    "companion": ("companion", lambda _, value: value),
    "place": ("place", lambda _, value: value),
    "at_place": ("place", lambda _, value: at_place(value)),
    "At_place": ("place", lambda _, value: _upper(at_place(value))),
    "place_things": ("place", lambda draft, value: draft.choose("place", PLACES[value][1])),
    "mood": ("mood", lambda _, value: value),
    "adverb": ("mood", lambda draft, value: draft.choose("mood", MOODS[value][0])),
    "mood_adj": ("mood", lambda _, value: MOODS[value][1]),
    "mood_verb": ("mood", lambda _, value: MOODS[value][2]),
    "time": ("time", lambda _, value: value),
    "at_time": ("time", lambda _, value: TIMES[value]),
    "At_time": ("time", lambda _, value: _upper(TIMES[value])),
    "weather": ("weather", lambda _, value: value),
    "weather_verb": ("weather", lambda _, value: WEATHERS[value][0]),
    "weather_adj": ("weather", lambda _, value: WEATHERS[value][1]),
    "thing": ("object", _thing),
    "topic": ("topic", lambda _, value: value),
    "did_topic": ("topic", _did_topic),
    "topic_noun": (
        "topic",
        lambda draft, value: draft.choose("topic", [noun for _, noun in TOPICS[value]]),
    ),
}
