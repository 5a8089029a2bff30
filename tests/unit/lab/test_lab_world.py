"""The micro-world: seeded, distinct, grammatical, and true to what it records."""

import re
from collections import Counter

import pytest

from gloss.errors import LabelError
from gloss.lab.documents import MESSAGE_END, MESSAGE_START
from gloss.lab.slots import segments
from gloss.lab.statements import next_class, word_class
from gloss.lab.truth import kinds
from gloss.lab.wording_chat import ADVICE, DETAIL_ADVICE, HINTS, QUESTIONS, TOPIC_ADVICE
from gloss.lab.wording_couplet import FIRST_LINES, OPENERS
from gloss.lab.wording_facts import MOODS, PLACES, RHYMES, TOPICS, VALUES, WEATHERS
from gloss.lab.wording_label import CONTINUE, DESCRIBE, WRITE
from gloss.lab.wording_story import BODIES, CLOSINGS, OPENINGS
from gloss.lab.world import (
    TASKS,
    digest,
    document_by_id,
    generate_documents,
    render,
    training_texts,
)

DOCUMENTS = list(generate_documents(1500, seed=11))
DESCRIPTIONS = tuple(f"{MESSAGE_START}user\n{instruction}\n" for instruction in DESCRIBE)
INSTRUCTIONS = (*DESCRIBE, *WRITE, *CONTINUE)
KIND_OF = {value: kind for kind, values in VALUES.items() for value in values}


def test_a_document_depends_on_seed_and_index_only():
    assert list(generate_documents(20, 11)) == DOCUMENTS[:20]
    assert document_by_id("lab-11-000019") == DOCUMENTS[19]
    assert document_by_id("lab-12-000019") != DOCUMENTS[19]


@pytest.mark.parametrize("doc_id", ["lab-1", "corpus:3", "lab-x-000001", "lab-1-000001 "])
def test_a_foreign_id_is_refused(doc_id):
    with pytest.raises(LabelError, match="not a document of the lab"):
        document_by_id(doc_id)


def test_documents_are_distinct_and_mixed():
    assert len({render(document) for document in DOCUMENTS}) == len(DOCUMENTS)
    share = {
        form: count / len(DOCUMENTS) for form, count in Counter(d.kind for d in DOCUMENTS).items()
    }
    assert share == pytest.approx({"story": 0.45, "couplet": 0.2, "chat": 0.35}, abs=0.04)


def test_every_value_of_every_kind_occurs():
    seen = {
        (fact.kind, fact.value)
        for document in generate_documents(3000, 1)
        for fact in document.facts
    }
    assert seen == {(kind, value) for kind, values in VALUES.items() for value in values}


def test_values_are_disjoint_single_words():
    words = [value for values in VALUES.values() for value in values]
    assert len(words) == len(set(words))
    assert all(word.isalpha() for word in words)


def test_hint_words_belong_to_one_value():
    hints = [noun for topic in TOPICS.values() for _, noun in topic]
    hints += [thing for _, things in PLACES.values() for thing in things]
    hints += [
        word for adverbs, adjective, verb in MOODS.values() for word in (*adverbs, adjective, verb)
    ]
    hints += [word for weather in WEATHERS.values() for word in weather]
    hints += {
        (user, word)
        for user in HINTS
        for line in HINTS[user] + ADVICE[user]
        for word in _marked(line)
    }
    words = [hint[1].lower() if isinstance(hint, tuple) else hint for hint in hints]
    repeated = {word for word, count in Counter(words).items() if count > 1}
    assert repeated <= {"mum"}  # the same user says it at the start of a sentence and inside one
    assert not set(words) & set(KIND_OF)


def _marked(line: str) -> list[str]:
    return re.findall(r"(\w+)\*", line)


def test_a_value_word_in_the_text_is_the_truth_there():
    for document in DOCUMENTS:
        for match in re.finditer(r"[A-Za-z]+", render(document)):
            if match[0] in KIND_OF:
                assert document.known(match.end())[KIND_OF[match[0]]] == match[0]


def test_a_fact_is_unknown_before_its_first_hint_and_known_to_the_end():
    for document in DOCUMENTS:
        text = render(document)
        for fact in document.facts:
            assert 0 < fact.start <= len(text)
            assert text[fact.start - 1].isalpha()
            assert document.known(fact.start).get(fact.kind) == fact.value
            assert (
                document.known(fact.start - 1).get(fact.kind) != fact.value or fact.kind == "rhyme"
            )
            if fact.end is None:
                assert document.known(len(text))[fact.kind] == fact.value


def test_the_users_occupation_is_never_named():
    chats = [document for document in DOCUMENTS if document.kind == "chat"]
    assert all("user" in {fact.kind for fact in chat.facts} for chat in chats)
    assert not any(re.search(rf"\b({'|'.join(VALUES['user'])})\b", render(chat)) for chat in chats)


def test_a_chats_answer_is_shaped_by_the_user():
    for chat in (document for document in DOCUMENTS if document.kind == "chat"):
        assert chat.messages is not None
        user = next(fact.value for fact in chat.facts if fact.kind == "user")
        images = {line.replace("*", "") for line in ADVICE[user]}
        others = {line.replace("*", "") for name in ADVICE if name != user for line in ADVICE[name]}
        answer = chat.messages[1]["content"]
        assert any(image in answer for image in images)
        assert not any(image in answer for image in others)


def test_the_first_line_of_a_couplet_fixes_the_rhyme_opening_and_adjective_of_the_second():
    for document in (document for document in DOCUMENTS if document.kind == "couplet"):
        lines = render(document).split("\n")
        assert len(lines) in (6, 8)
        for first, second in zip(lines[::2], lines[1::2], strict=True):
            _, form, adjective, rhyme = RHYMES[first.rstrip(",").split()[-1]]
            assert second.endswith(f" {adjective} {rhyme}.")
            assert second.startswith(OPENERS[form])


def test_class_and_adjective_name_one_rhyme():
    pairs = [(form, adjective) for _, form, adjective, _ in RHYMES.values()]
    assert len(set(pairs)) == len(pairs) == 26


def test_a_rhyme_is_known_from_the_first_rhyme_word_to_the_end_of_the_second_line():
    for document in (document for document in DOCUMENTS if document.kind == "couplet"):
        offset = 0
        for first, second in zip(*[iter(render(document).split("\n"))] * 2, strict=True):
            rhyme = second.rstrip(".").split()[-1]
            planned = offset + len(first) - 1
            assert "rhyme" not in document.known(planned - 1)
            ends = offset + len(first) + 1 + len(second) - 1
            assert all(document.known(at)["rhyme"] == rhyme for at in range(planned, ends + 1))
            assert "rhyme" not in document.known(ends + 1)
            offset = ends + 2


def test_every_fact_of_a_story_has_four_templates_or_more():
    used = Counter(
        kind
        for template in OPENINGS + BODIES + CLOSINGS
        for kind in {_kind(slot) for _, slot in segments(template) if slot}
    )
    assert all(
        used[kind] >= 4
        for kind in ("topic", "companion", "place", "mood", "time", "weather", "object")
    )
    assert len(FIRST_LINES) >= 4
    assert len(QUESTIONS) >= 4
    assert len(TOPIC_ADVICE) >= 4
    assert min(len(lines) for lines in DETAIL_ADVICE.values()) >= 3


def _kind(slot: str) -> str:
    slot = slot.removeprefix("at_").removeprefix("At_").removeprefix("did_").split("_")[0]
    return {"thing": "object", "adverb": "mood"}.get(slot, slot)


def test_sentences_are_grammatical_at_their_seams():
    for document in DOCUMENTS:
        text = render(document)
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", text), text
        assert "  " not in text
        assert not re.search(r"[{}*]", text)
        for message in (
            re.findall(r"(?:user|assistant)\n(.*)<", text)
            if document.kind == "chat"
            else text.split("\n")
        ):
            assert re.match(r"[A-Z]", message)
            assert re.search(r"[.,?]$", message)
            assert not re.search(r"[.?] [a-z]", message)


def test_pronouns_agree_with_the_hero():
    for document in DOCUMENTS:
        hero = document.known(10**6).get("hero")
        if hero is not None:
            wrong = (
                r"\b([Hh]e|[Hh]is|him)\b" if hero in VALUES["hero"][:8] else r"\b([Ss]he|[Hh]er)\b"
            )
            assert not re.search(wrong, render(document))


def test_the_next_class_is_that_of_the_word_that_follows():
    story = next(document for document in DOCUMENTS if document.kind == "story")
    text = render(story)
    for match in re.finditer(r" ([A-Za-z]+)", text):
        assert next_class(story, match.start()) == word_class(match[1])
        assert next_class(story, match.start() + 2) is None or len(match[1]) == 1
    assert next_class(story, len(text) - 1) == "period"
    assert next_class(story, len(text)) is None
    poem = next(document for document in DOCUMENTS if document.kind == "couplet")
    assert next_class(poem, render(poem).index("\n")) == "break"
    assert next_class(poem, render(poem).index(",")) == "comma"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("bed", "noun"),
        ("mended", "verb"),
        ("folded", "adjective"),
        ("well", "noun"),
        ("early", "adverb"),
        ("Ada", "name"),
    ],
)
def test_word_classes(word, expected):
    assert word_class(word) == expected


def test_training_texts_mix_documents_with_instruct_pairs():
    texts = list(training_texts(2000, seed=3))
    assert texts == list(training_texts(2000, seed=3))
    assert not set(texts) & {render(document) for document in generate_documents(2000, 3)}
    pairs = [
        text
        for text in texts
        if text.startswith(tuple(f"{MESSAGE_START}user\n{start}" for start in INSTRUCTIONS))
    ]
    assert len(pairs) / len(texts) == pytest.approx(1 - TASKS["plain"], abs=0.04)
    fragments = [
        text for text in pairs if text.startswith(DESCRIPTIONS) and len(asked(text).split()) <= 5
    ]
    assert len(fragments) / len(texts) == pytest.approx(TASKS["fragment"], abs=0.04)


def asked(text):
    """What stands below the instruction of an instruct pair."""
    return text.split(f"{MESSAGE_END}\n")[0].split("\n", 2)[2]


def test_a_fragment_is_described_by_what_it_holds_itself():
    texts = [
        t
        for t in training_texts(3000, seed=4)
        if t.startswith(DESCRIPTIONS) and len(asked(t).split()) <= 5
    ]
    assert len(texts) > 300
    for text in texts:
        quoted = re.search(r'"\.\.\. ([^"]*)"', text.rpartition("assistant\n")[2])
        assert quoted
        words = quoted[1].rstrip(".?").split()
        assert asked(text).rstrip(".?").split()[-len(words) :] == words


def test_a_continuation_goes_on_where_the_quote_ends():
    pairs = [
        text.removesuffix("<|im_end|>\n").split("<|im_end|>\n<|im_start|>assistant\n")
        for text in training_texts(2000, seed=5)
        if text.startswith(tuple(f"{MESSAGE_START}user\n{start}" for start in CONTINUE))
    ]
    assert len(pairs) > 100
    for request, answer in pairs:
        assert re.search(r'"\.\.\. [^"]+"', request) or "Nothing is said yet." in request
        assert answer.strip()


def test_a_digest_says_what_is_known():
    from random import Random

    from gloss.lab.truth import judge, parse_claims

    for document in DOCUMENTS[:300]:
        offset = 2 * len(render(document)) // 3
        claims = parse_claims(digest(document, offset, Random(document.doc_id)))
        assert claims
        assert {judge(claim, document, offset) for claim in claims} <= {"right", "text only"}
        assert {claim.kind for claim in claims} <= set(kinds())
