"""Reading at scale: many activations, transcripts, tables of explanations, and what can be found in them."""

from gloss.reading.explain import ExplainConfig, ExplainResult, explain_activations, explain_in_memory, explain_rows
from gloss.reading.results import RESULT_SCHEMA, Results, iter_results, read_results, write_json_lines, write_results
from gloss.reading.vectors import DifferenceSource, VectorRows, VectorSource, memory_source, open_source

__all__ = [
    "RESULT_SCHEMA",
    "DifferenceSource",
    "ExplainConfig",
    "ExplainResult",
    "Results",
    "VectorRows",
    "VectorSource",
    "explain_activations",
    "explain_in_memory",
    "explain_rows",
    "iter_results",
    "memory_source",
    "open_source",
    "read_results",
    "write_json_lines",
    "write_results",
]
