"""The micro-world: seeded documents whose truth is known, and the texts that the lab target is trained on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from gloss.errors import LabelError
from gloss.lab.composing import compose
from gloss.lab.documents import Fact, Form, LabDocument, render, render_message
from gloss.lab.statements import ending, statement
from gloss.lab.wording_label import DESCRIBE, WRITE

__all__ = ["Fact", "Form", "LabDocument", "digest", "document_by_id", "generate_documents", "render", "training_texts"]

PLAIN_SHARE, DESCRIBE_SHARE = 0.7, 0.2
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
        raise LabelError("not a document of the lab", expected="an id like lab-0-000012", found=repr(doc_id))
    return _document(int(match[1]), int(match[2]))


def _document(seed: int, index: int) -> LabDocument:
    return compose(f"lab-{seed}-{index:06d}", Random(f"document {seed} {index}"))


def training_texts(num_texts: int, seed: int) -> Iterator[str]:
    """Rendered texts for the lab target: 70 % documents, else instruct pairs that describe or write a document.

    None of them is a document of ``generate_documents``.
    """
    for i in range(num_texts):
        rng = Random(f"training {seed} {i}")
        document = compose("", rng)
        draw = rng.random()
        if draw < PLAIN_SHARE:
            yield render(document)
        elif draw < PLAIN_SHARE + DESCRIBE_SHARE or document.messages is not None:
            yield _describe(document, rng)
        else:
            whole = render(document)
            request = f"{rng.choice(WRITE)}\n{digest(document, len(whole), rng)}"
            yield render_message("user", request) + render_message("assistant", whole)


def digest(document: LabDocument, char_offset: int, rng: Random) -> str:
    """Three to five short sentences about what is known after ``char_offset`` characters, as a person would note it."""
    known = document.known(char_offset)
    kinds = rng.sample(list(known), min(len(known), rng.randint(3, 5)))
    notes = [statement(kind, known[kind], document.kind, rng) for kind in kinds]
    if len(notes) < 3 or rng.random() < 0.5:
        notes.append(ending(document, char_offset, rng))
    return " ".join(notes)


def _describe(document: LabDocument, rng: Random) -> str:
    rendered = render(document)
    start, shown = 0, rendered
    if document.messages is not None:
        shown = document.messages[0]["content"]
        start = rendered.index(shown)
    ends = [match.end() for match in re.finditer(r"\S+", shown)]
    cut = rng.choice(ends[min(8, len(ends) - 1) :])
    request = f"{rng.choice(DESCRIBE)}\n{shown[:cut]}"
    return render_message("user", request) + render_message("assistant", digest(document, start + cut, rng))
