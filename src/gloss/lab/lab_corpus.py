"""The lab as a corpus and a target: documents for extraction, and the shipped lab model."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from gloss.errors import ConfigError
from gloss.lab.documents import LabDocument
from gloss.lab.world import generate_documents
from gloss.text.document import Document


def lab_documents(num_documents: int | None, seed: int) -> Iterator[Document]:
    """Documents of the micro-world as a corpus; chats carry their messages.

    Raises: ConfigError without a number, as the micro-world has no end.
    """
    if num_documents is None:
        raise ConfigError(
            "corpus.max_documents is needed for the lab", expected="a number of documents"
        )
    return map(_as_document, generate_documents(num_documents, seed))


def _as_document(document: LabDocument) -> Document:
    messages = document.messages
    return Document(document.doc_id, None if messages else document.text, messages)


def lab_target_folder() -> Path:
    """The lab target that is shipped with Gloss; ``gloss data lab build`` rebuilds it."""
    return Path(str(resources.files("gloss.lab").joinpath("target_model")))
