"""The micro-world: documents in plain English made from a latent state, with the truth kept per document and per position.

A story's facts are needed again and again to predict its next words; a couplet's second line is planned at the line break, since its
opening words depend on the rhyme; a chat's answer depends on who the user is, which is never said.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gloss.errors import CorpusError
from gloss.lab import wording

DocumentKind = Literal["story", "couplet", "chat"]
_SLOT = re.compile(r"\{(\w+)\}")
_DOC_ID = re.compile(r"lab-(\d+)-(\d+)")


@dataclass(frozen=True)
class Fact:
    """One fact: known from character ``start`` of the rendered text on, until ``end`` (None: to its end)."""

    kind: str
    value: str
    start: int
    end: int | None = None


@dataclass(frozen=True)
class LabDocument:
    """A document of the micro-world; ``text`` is rendered (a chat with its template), and facts refer to it."""

    doc_id: str
    kind: DocumentKind
    text: str
    facts: tuple[Fact, ...]
    messages: tuple[Mapping[str, str], ...] | None = None

    def known(self, offset: int) -> dict[str, str]:
        """The facts that hold for a reader of the first ``offset`` characters: kind → value."""
        return {f.kind: f.value for f in self.facts if f.start <= offset and (f.end is None or offset <= f.end)}


class _Writer:
    """Puts a text together and notes where each fact is first told."""

    def __init__(self) -> None:
        self.text = ""
        self.facts: dict[str, Fact] = {}

    def fill(self, template: str, slots: Mapping[str, tuple[str, str | None, str | None]]) -> None:
        """Appends a template; a slot gives its text and, where it tells a fact, kind and value."""
        at = 0
        for match in _SLOT.finditer(template):
            self.text += template[at : match.start()]
            shown, kind, value = slots[match[1]]
            self.text += shown
            if kind is not None and value is not None and kind not in self.facts:
                self.facts[kind] = Fact(kind, value, len(self.text))
            at = match.end()
        self.text += template[at:]


def generate_documents(num_documents: int, seed: int) -> Iterator[LabDocument]:
    """Documents 0 … n−1 of a seed; each depends on (seed, index) only."""
    return (generate_document(seed, index) for index in range(num_documents))


def generate_document(seed: int, index: int) -> LabDocument:
    """Document ``index`` of a seed: a story (60 %), couplets (20 %) or a chat (20 %)."""
    draw = random.Random(f"document {seed} {index}")
    doc_id, kind = f"lab-{seed}-{index:06d}", draw.random()
    if kind < 0.6:
        return _story(draw, doc_id)
    return _couplets(draw, doc_id) if kind < 0.8 else _chat(draw, doc_id)


def document_by_id(doc_id: str) -> LabDocument:
    """The document that an id names.

    Raises: CorpusError if it is no id of the lab.
    """
    match = _DOC_ID.fullmatch(doc_id)
    if match is None:
        raise CorpusError("not a document of the lab", expected="lab-SEED-INDEX", found=repr(doc_id))
    return generate_document(int(match[1]), int(match[2]))


def _story(draw: random.Random, doc_id: str) -> LabDocument:
    hero = draw.choice(sorted(wording.HEROES))
    state = {
        "topic": draw.choice(sorted(wording.TOPICS)),
        "companion": draw.choice(wording.COMPANIONS),
        "place": draw.choice(wording.PLACES),
        "mood": draw.choice(sorted(wording.MOODS)),
        "time": draw.choice(sorted(wording.TIMES)),
        "weather": draw.choice(sorted(wording.WEATHERS)),
        "object": draw.choice(wording.OBJECTS),
    }
    missing = set(draw.sample(("companion", "time", "weather", "object"), draw.choice((0, 1, 1, 2))))
    templates = [draw.choice(_without(wording.OPENERS, missing))]
    middles = _without(wording.MIDDLES, missing)
    templates += draw.sample(middles, min(len(middles), draw.choice((4, 5, 6))))
    closers = _without(wording.CLOSERS, missing)
    if closers:
        templates.append(draw.choice(closers))
    writer = _Writer()
    for number, template in enumerate(templates):
        writer.text += " " if number else ""
        writer.fill(template, _story_slots(draw, hero, state))
    return LabDocument(doc_id, "story", writer.text, tuple(writer.facts.values()))


def _without(templates: Sequence[str], missing: set[str]) -> list[str]:
    return [t for t in templates if not any(f"{{{kind}}}" in t or f"{{{kind.title()}}}" in t for kind in missing)]


def _story_slots(
    draw: random.Random, hero: str, state: Mapping[str, str]
) -> dict[str, tuple[str, str | None, str | None]]:
    pronoun = wording.HEROES[hero]
    possessive = wording.POSSESSIVE[pronoun]
    adverbs, adjectives, moods = wording.MOODS[state["mood"]]
    told = {
        "hero": (hero, "hero", hero),
        "act": (draw.choice(wording.TOPICS[state["topic"]]), "topic", state["topic"]),
        "companion": (state["companion"], "companion", state["companion"]),
        "place": (state["place"], "place", state["place"]),
        "object": (state["object"], "object", state["object"]),
        "adverb": (draw.choice(adverbs), "mood", state["mood"]),
        "adjective": (draw.choice(adjectives), "mood", state["mood"]),
        "mood": (draw.choice(moods), "mood", state["mood"]),
        "time": (wording.TIMES[state["time"]], "time", state["time"]),
        "weather": (draw.choice(wording.WEATHERS[state["weather"]]), "weather", state["weather"]),
    }
    slots: dict[str, tuple[str, str | None, str | None]] = {
        "he": (pronoun, None, None),
        "his": (possessive, None, None),
        "He": (pronoun.title(), None, None),
        "His": (possessive.title(), None, None),
        **told,
    }
    for name in ("time", "weather"):
        shown, kind, value = told[name]
        slots[name.title()] = (shown[0].upper() + shown[1:], kind, value)
    return slots


def _couplets(draw: random.Random, doc_id: str) -> LabDocument:
    hero = draw.choice(sorted(wording.HEROES))
    writer, rhymes = _Writer(), []
    pairs = draw.sample(sorted(wording.RHYMES.items()), draw.choice((3, 3, 4)))
    for number, (first, second) in enumerate(pairs):
        writer.text += "\n" if number else ""
        slots: dict[str, tuple[str, str | None, str | None]] = {"hero": (hero, "hero", hero), "first": (first, None, None)}
        writer.fill(draw.choice(wording.FIRST_LINES), slots)
        known_from = len(writer.text)
        members, openers, adjectives = next(c for c in wording.RHYME_CLASSES.values() if second in c[0])
        adjective = adjectives[members.index(second) % len(adjectives)]
        writer.text += f",\n{draw.choice(openers)} the {adjective} {second}"
        rhymes.append(Fact("rhyme", second, known_from, len(writer.text)))
        writer.text += "."
    return LabDocument(doc_id, "couplet", writer.text, (*writer.facts.values(), *rhymes))


def _chat(draw: random.Random, doc_id: str) -> LabDocument:
    user, question = draw.choice(sorted(wording.USERS)), draw.choice(sorted(wording.QUESTIONS))
    hints, images = wording.USERS[user]
    trouble, advice = wording.QUESTIONS[question]
    first, second = draw.sample(hints, 2)
    opening, closing = draw.sample(images, 2)
    order = draw.random() < 0.5
    asked = _Writer()
    parts = [("{hint}", first, "user", user), ("{trouble}", trouble, "question", question), ("{hint}", second, "user", user)]
    parts = parts if order else [parts[1], parts[0], parts[2]]
    for number, (slot, shown, kind, value) in enumerate(parts):
        sentence = shown[0].upper() + shown[1:]
        asked.fill((" " if number else "") + slot + ".", {slot.strip("{}"): (sentence, kind, value)})
    asked.text += " What should I do?"
    answer = draw.choice(wording.REPLIES).format(advice=advice, image=opening)
    answer += " " + draw.choice(wording.ENCOURAGEMENTS).format(image=closing)
    messages = ({"role": "user", "content": asked.text}, {"role": "assistant", "content": answer})
    start = len("<|im_start|>user\n")
    facts = tuple(Fact(f.kind, f.value, f.start + start) for f in asked.facts.values())
    return LabDocument(doc_id, "chat", render_chat(messages), facts, messages)


def render_chat(messages: Sequence[Mapping[str, str]]) -> str:
    """A chat as the lab tokenizer's template renders it."""
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
