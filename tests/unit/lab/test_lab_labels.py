"""The label writer: short, varied, repeatable, wrong as often as it says."""

import re
from collections import Counter
from dataclasses import dataclass

import pytest

from gloss.errors import LabelError
from gloss.lab.labels import DETAIL_SHARE, HELD_SHARE, LabLabeller, write_label
from gloss.lab.statements import spoken
from gloss.lab.truth import judge, parse_claims
from gloss.lab.wording_facts import HELD, VALUES
from gloss.lab.wording_label import STATEMENTS
from gloss.lab.world import generate_documents, render

DOCUMENTS = list(generate_documents(400, seed=5))


@dataclass(frozen=True)
class _Request:
    doc_id: str
    text: str
    position: int
    token: str = ""
    next_tokens: tuple[str, ...] = ()


def _requests():
    for document in DOCUMENTS:
        text = render(document)
        ends = [match.end() for match in re.finditer(r"[a-z]+(?= )", text)]
        for position in (len(ends) // 3, len(ends) // 2, len(ends) - 1):
            yield document, _Request(document.doc_id, text[: ends[position]], position)


ROWS = list(_requests())


def _label(**settings):
    return LabLabeller(**settings).label([request for _, request in ROWS])


def test_labels_repeat_for_the_same_seed_and_differ_for_another():
    first = _label(seed=1)
    assert first == _label(seed=1)
    assert sum(a != b for a, b in zip(first, _label(seed=2), strict=True)) > 0.9 * len(first)


def test_a_label_does_not_depend_on_the_other_requests():
    request = ROWS[7][1]
    assert LabLabeller(seed=1).label([request]) == [_label(seed=1)[7]]


def test_labels_without_errors_are_wholly_right():
    for (document, request), label in zip(ROWS, _label(error_rate=0.0), strict=True):
        claims = parse_claims(label)
        found = {judge(claim, document, len(request.text)) for claim in claims}
        assert found <= {"right", "text only"}, label


def test_errors_are_as_frequent_as_asked_and_only_in_facts():
    verdicts: Counter[tuple[str, bool]] = Counter()
    for (document, request), label in zip(ROWS, _label(error_rate=0.2), strict=True):
        for claim in parse_claims(label):
            of_fact = claim.kind not in ("ending", "next")
            verdicts[judge(claim, document, len(request.text)), of_fact] += 1
    assert verdicts["wrong", True] / (
        verdicts["wrong", True] + verdicts["right", True] + verdicts["text only", True]
    ) == pytest.approx(0.2, abs=0.03)
    assert not verdicts["wrong", False]
    assert not verdicts["absent", True] + verdicts["absent", False]


def test_labels_tell_most_of_what_is_held_some_of_the_rest_and_the_last_word():
    told, known_of = Counter(), Counter()
    for (document, request), label in zip(ROWS, _label(), strict=True):
        *features, last = label.split("\n")
        claims = parse_claims(label)
        facts = [claim.kind for claim in claims if claim.kind not in ("ending", "next")]
        known = document.known(len(request.text))
        assert set(facts) <= set(known)
        assert facts == sorted(set(facts), key=list(VALUES).index)
        assert len(features) == len(claims) - 1
        assert claims[-1].kind == "ending"
        assert last.count('"') == 2
        assert claims[-1].value.strip(".?,") == spoken(request.text).split()[-1].strip(".?,")
        told.update(facts)
        known_of.update(list(known))
    for kind in VALUES:
        share = HELD_SHARE if kind in HELD else DETAIL_SHARE
        assert told[kind] / known_of[kind] == pytest.approx(share, abs=0.09), kind


def test_each_kind_has_four_wordings_or_more():
    assert all(len(set(wordings)) >= 4 for wordings in STATEMENTS.values())


def test_articles_suit_their_word():
    for label in _label():
        outside = re.sub(r'"[^"]*"', "", label)
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", outside), label


def test_labels_fit_the_explanation_length(lab_tokenizer):
    lengths = sorted(len(lab_tokenizer.encode(label)) for label in _label())
    assert 28 <= sum(lengths) / len(lengths) <= 36
    assert lengths[len(lengths) // 20] >= 16
    assert lengths[-1] <= 62


def test_the_start_of_a_message_has_nothing_to_quote():
    chat = next(document for document in DOCUMENTS if document.kind == "chat")
    offset = render(chat).index("assistant\n") + len("assistant\n")
    label = write_label(chat, offset, seed=0, position=0, error_rate=0.0)
    assert label.endswith("Nothing is said yet.")
    assert "<|" not in label


def test_bad_settings_and_foreign_documents_are_refused():
    with pytest.raises(LabelError, match="error_rate"):
        LabLabeller(error_rate=1.5)
    with pytest.raises(LabelError, match="not a document of the lab"):
        LabLabeller().label([_Request("stories:1", "text", 1)])


def test_settings_say_what_the_labels_depend_on():
    assert LabLabeller(seed=3).settings == {"seed": 3, "error_rate": 0.08}
    assert LabLabeller().name == "lab"
    assert LabLabeller().needs_next_tokens is False
