"""Writes one document of each form from a random latent state."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from gloss.lab.documents import Fact, LabDocument, render_message
from gloss.lab.slots import Draft, latent_state, needs
from gloss.lab.wording_chat import ADVICE, DETAIL_ADVICE, DETAILS, HINTS, QUESTIONS, TOPIC_ADVICE
from gloss.lab.wording_couplet import FILLERS, FIRST_LINES, OPENERS, RESTED, SECOND_LINE
from gloss.lab.wording_facts import RHYMES
from gloss.lab.wording_story import BODIES, CLOSINGS, OPENINGS

STORY_KINDS = ("topic", "companion", "place", "mood", "time", "weather", "object")
CHAT_DETAILS = ("mood", "object", "time", "companion")


def compose(doc_id: str, rng: Random) -> LabDocument:
    """A document: a story with probability 0.6, couplets 0.2, a chat 0.2."""
    draw = rng.random()
    if draw < 0.6:
        return _story(doc_id, rng)
    return _couplets(doc_id, rng) if draw < 0.8 else _chat(doc_id, rng)


def _story(doc_id: str, rng: Random) -> LabDocument:
    kinds = ["hero", *rng.sample(STORY_KINDS, len(STORY_KINDS) - rng.choice((0, 1, 1, 2)))]
    draft = Draft(latent_state(kinds, rng), rng)
    fits = frozenset(kinds).issuperset
    draft.fill(rng.choice([template for template in OPENINGS if fits(needs(template))]))
    bodies = [template for template in BODIES if fits(needs(template))]
    closing = rng.random() < 0.6
    for _ in range(rng.randint(6, 7) - closing):
        template = _most_new(rng.sample(bodies, 3), frozenset(kinds) - set(draft.told))
        bodies.remove(template)
        draft.write(" ")
        draft.fill(template)
    if closing:
        draft.write(" ")
        draft.fill(rng.choice([template for template in CLOSINGS if fits(needs(template))]))
    return LabDocument(doc_id, "story", draft.text, None, _in_order(list(draft.told.values())))


def _most_new(templates: Sequence[str], untold: frozenset[str]) -> str:
    return max(templates, key=lambda template: len(needs(template) & untold))


def _couplets(doc_id: str, rng: Random) -> LabDocument:
    kinds = ["hero", *rng.sample(("mood", "time"), rng.choice((1, 2, 2)))]
    draft = Draft(latent_state(kinds, rng), rng)
    first_lines = [template for template in FIRST_LINES if needs(template) <= set(kinds)]
    rhymes: list[Fact] = []
    for a in rng.sample(list(RHYMES), rng.choice((3, 4, 4, 4))):
        before, b_class, adjective, b = RHYMES[a]
        if draft.length:
            draft.write("\n")
        rested = draft.choose("rested", RESTED)
        draft.fill(draft.choose("first line", first_lines), rested=rested, a_phrase=f"{before} {a}")
        start = draft.length - len(",")
        draft.write("\n")
        opener, filler = rng.choice(OPENERS[b_class]), rng.choice(FILLERS)
        draft.fill(SECOND_LINE, opener=opener, filler=filler, b_phrase=f"{adjective} {b}")
        rhymes.append(Fact("rhyme", b, start, draft.length - len(".")))
    return LabDocument(
        doc_id, "couplet", draft.text, None, _in_order([*draft.told.values(), *rhymes])
    )


def _chat(doc_id: str, rng: Random) -> LabDocument:
    draft = Draft(
        latent_state(("user", "topic", *rng.sample(CHAT_DETAILS, rng.choice((2, 2, 3)))), rng), rng
    )
    messages = []
    for role, write in (("user", _question), ("assistant", _answer)):
        header, footer = render_message(role, "\0").split("\0")
        draft.write(header)
        start = draft.length
        write(draft)
        messages.append({"role": role, "content": draft.text[start:]})
        draft.write(footer)
    return LabDocument(doc_id, "chat", None, tuple(messages), _in_order(list(draft.told.values())))


def _question(draft: Draft) -> None:
    details = [template for template in DETAILS if needs(template) <= draft.state.keys()]
    sentences = [
        *draft.rng.sample(HINTS[draft.state["user"]], draft.rng.choice((1, 2, 2))),
        *draft.rng.sample(details, min(len(details), draft.rng.choice((1, 2)))),
    ]
    draft.rng.shuffle(sentences)
    question = draft.rng.choice(QUESTIONS)
    _sentences(
        draft, [question, *sentences] if draft.rng.random() < 0.3 else [*sentences, question]
    )


def _answer(draft: Draft) -> None:
    rng = draft.rng
    told = [kind for kind in CHAT_DETAILS if kind in draft.told]
    middle = [rng.choice(DETAIL_ADVICE[kind]) for kind in told]
    images = ADVICE[draft.state["user"]]
    body = [
        *middle,
        *rng.sample(images[:2], rng.choice((1, 2))),
        *rng.sample(TOPIC_ADVICE, rng.choice((1, 2))),
    ]
    rng.shuffle(body)
    _sentences(draft, [*body[:5], images[2]] if rng.random() < 0.7 else body[:6])


def _sentences(draft: Draft, templates: Sequence[str]) -> None:
    for i, template in enumerate(templates):
        if i:
            draft.write(" ")
        hint, mark, rest = template.partition("*")
        draft.fill(hint)
        if mark:
            draft.tell("user", draft.state["user"])
        draft.fill(rest)


def _in_order(facts: list[Fact]) -> tuple[Fact, ...]:
    return tuple(sorted(facts, key=lambda fact: fact.start))
