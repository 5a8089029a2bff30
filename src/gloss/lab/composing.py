"""Writes one document of each form from a random latent state."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from gloss.lab.documents import Fact, LabDocument, render_message
from gloss.lab.slots import Draft, latent_state, needs
from gloss.lab.wording_chat import (
    ADVICE,
    DETAIL_ADVICE,
    DETAILS,
    GREETINGS,
    HINTS,
    MOTIVE_ANSWERS,
    MOTIVE_CUES,
    QUESTIONS,
    TEST_ANSWERS,
    TEST_CUES,
    TOPIC_ADVICE,
    VOICE_CLOSINGS,
    VOICE_OPENINGS,
)
from gloss.lab.wording_couplet import FILLERS, FIRST_LINES, OPENERS, RESTED, SECOND_LINE
from gloss.lab.wording_facts import RHYMES
from gloss.lab.wording_story import BODIES, CLOSINGS, OPENINGS

STORY_KINDS = ("topic", "companion", "place", "mood", "time", "weather", "object")
CHAT_DETAILS = ("mood", "object", "time", "companion")
CHAT_HIDDEN = ("motive", "test", "voice")
CUES = {"motive": MOTIVE_CUES, "test": TEST_CUES}


def compose(doc_id: str, rng: Random) -> LabDocument:
    """A document: a story with probability 0.45, couplets 0.2, a chat 0.35."""
    draw = rng.random()
    if draw < 0.45:
        return _story(doc_id, rng)
    return _couplets(doc_id, rng) if draw < 0.65 else _chat(doc_id, rng)


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
    hidden = [kind for kind in CHAT_HIDDEN if rng.random() < 0.7]
    details = rng.sample(CHAT_DETAILS, rng.choice((1, 2, 2)))
    draft = Draft(latent_state(("user", "topic", *hidden, *details), rng), rng)
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
    rng, state = draft.rng, draft.state
    details = [template for template in DETAILS if needs(template) <= state.keys()]
    cues = [
        *(("user", hint) for hint in rng.sample(HINTS[state["user"]], rng.choice((1, 2)))),
        *((kind, rng.choice(CUES[kind][state[kind]])) for kind in CUES if kind in state),
        *(("", detail) for detail in rng.sample(details, min(len(details), 1))),
        ("", rng.choice(QUESTIONS)),
    ]
    rng.shuffle(cues)
    if "voice" in state:
        cues.insert(0, ("voice", rng.choice(GREETINGS[state["voice"]])))
    _sentences(draft, cues)


def _answer(draft: Draft) -> None:
    rng, state = draft.rng, draft.state
    told = [kind for kind in CHAT_DETAILS if kind in draft.told]
    images = ADVICE[state["user"]]
    body = [
        *(("", rng.choice(DETAIL_ADVICE[kind])) for kind in told),
        ("user", rng.choice(images)),
        ("", rng.choice(TOPIC_ADVICE)),
    ]
    if "motive" in state:
        body += [("motive", sentence) for sentence in MOTIVE_ANSWERS[state["motive"]]]
    if "test" in state:
        body.append(("test", TEST_ANSWERS[state["test"]]))
    rng.shuffle(body)
    if "voice" in state:
        body.insert(0, ("voice", VOICE_OPENINGS[state["voice"]]))
        body.append(("voice", VOICE_CLOSINGS[state["voice"]]))
    _sentences(draft, body)


def _sentences(draft: Draft, templates: Sequence[tuple[str, str]]) -> None:
    """Writes templates as sentences; the ``*`` of each tells the kind it stands with."""
    for i, (kind, template) in enumerate(templates):
        if i:
            draft.write(" ")
        hint, mark, rest = template.partition("*")
        draft.fill(hint)
        if mark:
            draft.tell(kind, draft.state[kind])
        draft.fill(rest)


def _in_order(facts: list[Fact]) -> tuple[Fact, ...]:
    return tuple(sorted(facts, key=lambda fact: fact.start))
