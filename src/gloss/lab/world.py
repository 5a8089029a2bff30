"""The micro-world: seeded documents whose truth is known, and the texts that the lab target is
trained on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from gloss.errors import LabelError
from gloss.lab.composing import compose
from gloss.lab.documents import Fact, Form, LabDocument, render, render_message
from gloss.lab.statements import ending, features, next_class, statement
from gloss.lab.wording_label import CONTINUE, DESCRIBE, WRITE

__all__ = [
    "Fact",
    "Form",
    "LabDocument",
    "digest",
    "document_by_id",
    "generate_documents",
    "render",
    "training_texts",
]

TASKS = {"plain": 0.55, "describe": 0.12, "fragment": 0.18, "write": 0.05, "continue": 0.10}
_DOC_ID = re.compile(r"lab-(-?\d+)-(\d{6,})")


def generate_documents(num_documents: int, seed: int) -> Iterator[LabDocument]:
    """Documents ``lab-{seed}-{i}``; document i depends on the seed and i only."""
    return (_document(seed, i) for i in range(num_documents))


def document_by_id(doc_id: str) -> LabDocument:
    """The document that an id names, generated anew.

    Raises: LabelError if the id is no lab document's.
    """
    match = _DOC_ID.fullmatch(doc_id)
    if match is None:
        raise LabelError(
            "not a document of the lab", expected="an id like lab-0-000012", found=repr(doc_id)
        )
    return _document(int(match[1]), int(match[2]))


def _document(seed: int, index: int) -> LabDocument:
    return compose(f"lab-{seed}-{index:06d}", Random(f"document {seed} {index}"))


def training_texts(num_texts: int, seed: int) -> Iterator[str]:
    """Rendered texts for the lab target; see ``training_documents``."""
    return (text for text, _ in training_documents(num_texts, seed))


def training_documents(num_texts: int, seed: int) -> Iterator[tuple[str, LabDocument | None]]:
    """Rendered texts for the lab target: documents, and instruct pairs about documents in the
    shares of ``TASKS``; each with the document that it is, None for a pair.

    None of them is about a document of ``generate_documents``.
    """
    for i in range(num_texts):
        rng = Random(f"training {seed} {i}")
        document = compose("", rng)
        (task,) = rng.choices(list(TASKS), list(TASKS.values()))
        if task == "plain":
            yield render(document), document
        else:
            yield _PAIRS[task](document, rng), None


def digest(document: LabDocument, char_offset: int, rng: Random) -> str:
    """Three to five short sentences about what is known after ``char_offset`` characters, as a
    person would note it."""
    known = document.known(char_offset)
    kinds = rng.sample(list(known), min(len(known), rng.randint(3, 5)))
    notes = [statement(kind, known[kind], document.kind, rng) for kind in kinds]
    if len(notes) < 3 or rng.random() < 0.5:
        notes.append(ending(document, char_offset, rng))
    return " ".join(notes)


def _describe(document: LabDocument, rng: Random) -> str:
    start, ends = _word_ends(document, rng)
    cut = rng.choice(ends[min(8, len(ends) - 1) :])
    return _pair(
        f"{rng.choice(DESCRIBE)}\n{render(document)[start:cut]}", digest(document, cut, rng)
    )


def _describe_fragment(document: LabDocument, rng: Random) -> str:
    """The last one to five words before a cut: what they tell themselves, what class follows, and
    how they end."""
    start, ends = _word_ends(document, rng)
    last = rng.randrange(len(ends))
    count = min(rng.choice((1, 1, 1, 2, 3, 5)), last + 1)
    begin, cut = ends[last - count] if last >= count else start, ends[last]
    told = [fact for fact in document.facts if begin < fact.start <= cut]
    notes = [
        statement(fact.kind, fact.value, document.kind, rng)
        for fact in rng.sample(told, min(len(told), 3))
    ]
    follows = next_class(document, cut)
    if follows and rng.random() < 0.5:
        notes.append(statement("next", follows, document.kind, rng))
    notes.append(ending(document, cut, rng, max_words=count))
    return _pair(f"{rng.choice(DESCRIBE)}\n{render(document)[begin:cut]}", "\n".join(notes))


def _write(document: LabDocument, rng: Random) -> str:
    if document.messages is not None:
        return _describe(document, rng)
    whole = render(document)
    return _pair(f"{rng.choice(WRITE)}\n{digest(document, len(whole), rng)}", whole)


def _continue(document: LabDocument, rng: Random) -> str:
    _, ends = _word_ends(document, rng)
    cut = rng.choice(ends[min(8, len(ends) - 1) : -1] or ends[:1])
    rest = render(document)[cut : ends[-1]]
    return _pair(f"{rng.choice(CONTINUE)}\n{features(document, cut, rng)}", rest)


def _word_ends(document: LabDocument, rng: Random) -> tuple[int, list[int]]:
    """Where one message of the document (or all of its text) begins, and where each of its words
    ends."""
    rendered = render(document)
    start, shown = 0, rendered
    if document.messages is not None:
        shown = rng.choice(document.messages)["content"]
        start = rendered.index(shown)
    return start, [start + match.end() for match in re.finditer(r"\S+", shown)]


def _pair(request: str, answer: str) -> str:
    return render_message("user", request) + render_message("assistant", answer)


_PAIRS = {
    "describe": _describe,
    "fragment": _describe_fragment,
    "write": _write,
    "continue": _continue,
}
