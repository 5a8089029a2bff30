"""From corpora to training datasets: activations, splits, labels, prompts; stages of files."""

from typing import TYPE_CHECKING

from gloss.lazy import lazy_package

if TYPE_CHECKING:
    from gloss.contract.foreign_text import special_token_ids
    from gloss.data.build import BuildResult, ar_suffix_ids, build
    from gloss.data.corpus import load_corpus, read_corpus
    from gloss.data.extract import ExtractCounts, ExtractResult, extract, sample_positions
    from gloss.data.label import LabelResult, label
    from gloss.data.settings import BuildConfig, ExtractConfig, LabelConfig, SplitConfig
    from gloss.data.split import SplitResult, check_document_disjoint, split
    from gloss.store.activations import (
        ActivationWriter,
        activation_schema,
        iter_activations,
        norm_statistics,
        read_activations,
        vectors_as_array,
    )
    from gloss.text.document import Document

lazy_package(__name__)
