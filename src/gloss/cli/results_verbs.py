"""``gloss results``: what tables of explanations and finished runs say."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from gloss.cli.options import AtLeast1
from gloss.cli.output import Answer, next_command, note, table
from gloss.contract.files import RESULTS_NAME
from gloss.durable import output_file
from gloss.errors import ConfigError

_CONTEXT_SHOWN, _WORDINGS_SHOWN = 70, 3
Share = Annotated[float, typer.Option(min=0, max=1)]


def search(
    query: str,
    files: list[Path],
    /,
    fixed: bool = False,
    case_sensitive: bool = False,
    semantic: bool = False,
    model: Path | None = None,
    limit: AtLeast1 = 50,
) -> Answer:
    """Find explanations in tables of them, by words, a pattern or meaning."""
    if semantic != (model is not None):
        expected = "--semantic and --model together"
        raise ConfigError("a search by meaning needs a model", expected=expected)
    if semantic and (fixed or case_sensitive):
        expected = "--semantic without --fixed, --case-sensitive"
        raise ConfigError("a search by meaning reads no pattern", expected=expected)
    from gloss.reading.search import search as matching
    from gloss.reading.search import search_by_meaning, sentence_embedder

    _check_tables(files)
    if model is not None:
        hits = search_by_meaning(files, query, sentence_embedder(model), limit=limit)
    else:
        every = matching(files, query, fixed=fixed, case_sensitive=case_sensitive)
        hits = list(islice(every, limit))
        if more := sum(1 for _ in every):
            note(f"{limit} of {limit + more} explanations are shown; see more with --limit")
    if not hits:
        note("no explanation matches")
    return Answer([hit.to_dict() for hit in hits], [_hits_table(hits)] if hits else [])


def themes(
    files: list[Path],
    /,
    distance: Share = 0.25,
    min_tokens: AtLeast1 = 2,
    neighbours: AtLeast1 = 5,
    limit: AtLeast1 = 30,
) -> Answer:
    """Show what explanations keep saying: claims that come back, at how many tokens and documents,
    and whether neighbours agree."""
    _check_tables(files)
    from gloss.reading.themes import find_themes

    found = find_themes(files, distance=distance, min_tokens=min_tokens, neighbours=neighbours)
    shown = _themes_table(found[:limit]) if found else "no claim comes back"
    return Answer([theme.to_dict() for theme in found[:limit]], [shown])


def report(run_dir: Path, /, out: Path | None = None) -> None:
    """Write one self-contained HTML page from a run's results."""
    if not run_dir.is_dir():
        raise ConfigError("no such folder", where=run_dir, expected="a run's folder")
    if out is not None:
        output_file(out, unlike=run_dir / RESULTS_NAME)
    from gloss.report import write_report

    print(write_report(run_dir, out))


def import_(file: Path, /, *, out: Path) -> None:
    """Turn Neuronpedia's cache JSON into a table of explanations."""
    output_file(out, unlike=file)
    from gloss.reading.neuronpedia import import_neuronpedia

    print(f"{out}: {len(import_neuronpedia(file, out))} explanations")
    next_command(f'gloss results search "…" {out}')


def export(file: Path, /, *, out: Path, doc: str | None = None) -> None:
    """Write the explanations of one text as Neuronpedia's cache JSON."""
    output_file(out, unlike=file)
    from gloss.reading.neuronpedia import export_neuronpedia
    from gloss.reading.tables import read_results

    document = export_neuronpedia(read_results(file), out, doc_id=doc)
    print(f"{out}: {len(document['sortedPositions'])} positions")


def _check_tables(files: list[Path]) -> None:
    from gloss.reading.tables import read_header

    for file in files:
        read_header(file)


def _hits_table(hits: Iterable[Any]) -> Any:
    from rich.text import Text

    from gloss.formatting import printable
    from gloss.nla.presentation import visible

    rows = []
    for hit in hits:
        said = Text(printable(hit.text))
        for start, end in hit.spans:
            said.stylize("bold reverse", start, end)
        where = hit.position if hit.position is not None else hit.row
        context = (hit.context or "")[-_CONTEXT_SHOWN:]
        rows.append((hit.doc_id, where, visible(hit.token or ""), context, said))
    return table(("document", "pos>", "token", "context", "explanation"), rows)


def _themes_table(found: Iterable[Any]) -> Any:
    from gloss.formatting import decimal, percent

    rows = [
        (
            "\n  also: ".join(text for text, _ in theme.claims[:_WORDINGS_SHOWN]),
            *(len(theme.claims), theme.n_tokens, theme.n_documents),
            percent(theme.agreement),
            percent(theme.share),
            decimal(theme.fve),
        )
        for theme in found
    ]
    counts = ("wordings>", "tokens>", "documents>", "neighbours agree>", "share of tokens>", "FVE>")
    return table(("theme", *counts), rows)
