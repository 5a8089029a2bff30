"""Words facts and endings as short sentences, for labels and for digests."""

from __future__ import annotations

import re
from functools import cache
from random import Random

from gloss.lab.documents import MESSAGE_END, MESSAGE_START, LabDocument, render
from gloss.lab.slots import at_place
from gloss.lab.wording_facts import (
    BOYS,
    GIRLS,
    MOODS,
    OBJECTS,
    RHYMES,
    TIMES,
    TOPICS,
    VALUES,
    WEATHERS,
)
from gloss.lab.wording_label import (
    ADJECTIVES,
    ADVERBS,
    ARTICLES,
    CONNECTIVES,
    ENDING_OF_NOTHING,
    ENDINGS,
    HERO_BY_FORM,
    PREPOSITIONS,
    PRONOUNS,
    STATEMENTS,
    TOPIC_BY_FORM,
    VERBS,
)

NEXT_SHARE = 0.5

_NEXT = re.compile(r"(\n)| ?([,.?])| ?([A-Za-z]+)")
_PUNCTUATION = {",": "comma", ".": "period", "?": "period"}


def statement(kind: str, value: str, form: str, rng: Random) -> str:
    """One short sentence that says a fact, in one of several wordings that suit the form of the
    document."""
    wordings = STATEMENTS[kind]
    if kind == "topic":
        wordings += TOPIC_BY_FORM.get(form, ())
    elif kind == "hero":
        wordings += HERO_BY_FORM.get(form, ())
    return worded(kind, value, rng.choice(wordings))


def worded(kind: str, value: str, wording: str) -> str:
    """A fact in one of the wordings of its kind."""
    article = "an" if value[0] in "aeiou" else "a"
    where = TIMES[value] if kind == "time" else at_place(value) if kind == "place" else ""
    return wording.format(v=value, a=article, A=article.capitalize(), at=where)


def features(
    document: LabDocument,
    char_offset: int,
    rng: Random,
    error_rate: float = 0.0,
) -> str:
    """Features of a text, one a line: two to four facts at random if they are known, each wrong
    with ``error_rate``; then what comes next, and the end of the text."""
    known = document.known(char_offset)
    follows = next_class(document, char_offset) if rng.random() < NEXT_SHARE else None
    wanted = rng.randint(2, 4)
    if follows:
        wanted -= rng.random() < 0.5
    lines = []
    for kind in rng.sample(list(known), min(len(known), wanted)):
        value = known[kind]
        if rng.random() < error_rate:
            value = rng.choice([other for other in VALUES[kind] if other != value])
        lines.append(statement(kind, value, document.kind, rng))
    if follows:
        lines.append(statement("next", follows, document.kind, rng))
    return "\n".join([*lines, ending(document, char_offset, rng)])


def ending(document: LabDocument, char_offset: int, rng: Random, max_words: int = 4) -> str:
    """A sentence that quotes the last two to four words before ``char_offset``, but at most
    ``max_words``."""
    words = spoken(render(document)[:char_offset]).split()[-min(max_words, rng.randint(2, 4)) :]
    if not words:
        return ENDING_OF_NOTHING
    sentence = rng.choice(ENDINGS).format(q=" ".join(words))
    return sentence[:-1] if words[-1][-1] in ".?" else sentence


def spoken(text: str) -> str:
    """What the last message of a rendered text says so far; the text itself where there are no
    messages."""
    if MESSAGE_START not in text:
        return text
    return text.rpartition(MESSAGE_START)[2].partition("\n")[2].partition(MESSAGE_END)[0]


def next_class(document: LabDocument, char_offset: int) -> str | None:
    """The class of the word or sign that follows; None inside a word and at the end of a message or
    document."""
    text = render(document)
    if (
        char_offset
        and text[char_offset - 1 : char_offset + 1].isalpha()
        and len(text) > char_offset
    ):
        return None
    match = _NEXT.match(text, char_offset)
    if match is None or MESSAGE_START in text[max(0, char_offset - 16) : char_offset]:
        return None
    if match[1]:
        return "break" if document.messages is None else None
    return _PUNCTUATION[match[2]] if match[2] else word_class(match[3])


def word_class(word: str) -> str:
    """The class of a word of the micro-world; nouns are what is nothing else."""
    listed = _listed().get(word)
    if listed:
        return listed
    return "adverb" if word.endswith("ly") else "verb" if word.endswith("ed") else "noun"


@cache
def _listed() -> dict[str, str]:
    """The class of every word that its ending would not tell."""
    adjectives = {
        *ADJECTIVES,
        *MOODS,
        *OBJECTS.values(),
        *(adjective for _, adjective, _ in MOODS.values()),
        *(adjective for _, adjective in WEATHERS.values()),
        *(adjective for _, _, adjective, _ in RHYMES.values()),
    }
    verbs = {
        *VERBS,
        *(verb for _, _, verb in MOODS.values()),
        *(phrase.split()[0] for topic in TOPICS.values() for phrase, _ in topic),
    }
    classes: dict[str, str] = {}
    for name, words in (
        ("noun", tuple(RHYMES)),
        ("name", GIRLS + BOYS),
        ("article", ARTICLES),
        ("pronoun", PRONOUNS),
        ("preposition", PREPOSITIONS),
        ("connective", CONNECTIVES),
        ("adverb", ADVERBS),
        ("verb", sorted(verbs)),
        ("adjective", sorted(adjectives)),
    ):
        classes |= dict.fromkeys(words, name)
    return classes
