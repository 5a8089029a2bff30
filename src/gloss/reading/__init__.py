"""Reading at scale: many activations, transcripts, tables of explanations, and what can be found in
them."""

from typing import TYPE_CHECKING

from gloss.lazy import lazy_package

if TYPE_CHECKING:
    from gloss.reading.explain import (
        ExplainConfig,
        ExplainResult,
        explain_activations,
        explain_in_memory,
        explain_rows,
        explain_text,
    )
    from gloss.reading.neuronpedia import (
        export_neuronpedia,
        from_neuronpedia,
        import_neuronpedia,
        to_neuronpedia,
    )
    from gloss.reading.search import Hit, search, search_by_meaning, sentence_embedder
    from gloss.reading.tables import (
        RESULT_SCHEMA,
        Results,
        iter_results,
        read_results,
        write_json_lines,
    )
    from gloss.reading.themes import Theme, find_themes
    from gloss.text.document import load_transcript

lazy_package(__name__)
