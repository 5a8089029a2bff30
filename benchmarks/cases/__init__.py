"""All cases by name; a new one is a file here and a line below."""

from benchmarks.case import Case
from benchmarks.cases import av_step, data, extraction, generation, grpo_step, scoring

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        av_step.CASE,
        grpo_step.CASE,
        generation.CASE,
        extraction.EQUAL,
        extraction.MIXED,
        extraction.REFERENCE_EQUAL,
        extraction.REFERENCE_MIXED,
        scoring.CASE,
        scoring.REFERENCE,
        data.SPLIT_CASE,
    )
}
