"""What the lab target is trained on: documents, and what an instruct model has seen besides: describing a text, writing one from notes."""

from __future__ import annotations

import random
from collections.abc import Iterator

from gloss.lab import wording
from gloss.lab.world import LabDocument, generate_document, render_chat

PLAIN, DESCRIBE = 0.6, 0.85


def training_texts(num_texts: int, seed: int) -> Iterator[str]:
    """Rendered texts 0 … n−1 of a seed: 60 % documents, 25 % descriptions of a document, 15 % documents written from notes.

    Their documents are other ones than those of ``generate_documents`` with the same seed.
    """
    return (training_text(seed, index) for index in range(num_texts))


def training_text(seed: int, index: int) -> str:
    """Text ``index`` of the training mix."""
    draw = random.Random(f"mix {seed} {index}")
    document = generate_document(-1 - seed, index)
    kind = draw.random()
    if kind < PLAIN:
        return document.text
    if kind < DESCRIBE:
        words = document.text.split(" ")
        part = " ".join(words[: draw.randint(min(10, len(words)), len(words))])
        shown = part.replace("<|im_start|>", "").replace("<|im_end|>", "")
        return _exchange(f"{draw.choice(wording.DESCRIBE)}\n{shown}", notes(draw, document, part))
    if document.kind == "chat":
        return document.text
    return _exchange(f"{draw.choice(wording.WRITE)}\n{notes(draw, document, document.text)}", document.text)


def notes(draw: random.Random, document: LabDocument, text: str) -> str:
    """Short notes on what a reader of ``text``, the document's beginning, knows."""
    known = sorted(document.known(len(text)).items())
    draw.shuffle(known)
    lines = [draw.choice(wording.GENRES[document.kind])]
    lines += [draw.choice(wording.FEATURES[kind]).format(value) for kind, value in known]
    return "\n".join(lines)


def _exchange(asked: str, answer: str) -> str:
    return render_chat(({"role": "user", "content": asked}, {"role": "assistant", "content": answer}))
