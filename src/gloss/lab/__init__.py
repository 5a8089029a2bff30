"""A synthetic micro-world with known truth: documents, labels, claims, a tiny target model and its
tokenizer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gloss.lab.documents import Fact, LabDocument, render
    from gloss.lab.judge import LabJudge
    from gloss.lab.lab_corpus import lab_documents, lab_target_folder
    from gloss.lab.labels import LabLabeller, write_label
    from gloss.lab.tokenizer import build_tokenizer
    from gloss.lab.truth import Claim, kinds, parse_claims, values
    from gloss.lab.world import document_by_id, generate_documents, training_texts

_HOME = {
    "lab_documents": "lab_corpus",
    "lab_target_folder": "lab_corpus",
    "Fact": "documents",
    "LabDocument": "documents",
    "render": "documents",
    "LabJudge": "judge",
    "LabLabeller": "labels",
    "write_label": "labels",
    "build_tokenizer": "tokenizer",
    "Claim": "truth",
    "kinds": "truth",
    "parse_claims": "truth",
    "values": "truth",
    "document_by_id": "world",
    "generate_documents": "world",
    "training_texts": "world",
}

__all__ = [
    "Claim",
    "Fact",
    "LabDocument",
    "LabJudge",
    "LabLabeller",
    "build_tokenizer",
    "document_by_id",
    "generate_documents",
    "kinds",
    "lab_documents",
    "lab_target_folder",
    "parse_claims",
    "render",
    "training_texts",
    "values",
    "write_label",
]


def __getattr__(name: str) -> Any:
    """Imports a public name on first use, so that the command line starts fast."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
