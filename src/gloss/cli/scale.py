"""Verbs for many activations and whole transcripts: what explain does with files, and search,
themes, results.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gloss.cli.console import next_command, print_json, print_rich
from gloss.errors import ConfigError

if TYPE_CHECKING:
    from gloss.nla import NLA, Selection
    from gloss.reading import ExplainConfig, Results

SHOWN_WITHOUT_OUT = 1000
_CONTEXT_SHOWN, _WORDINGS_SHOWN = 70, 3

ACTIVATIONS = Annotated[
    Path | None,
    typer.Option(
        help="Explain the activations in a file (.parquet, .npy, .safetensors) or folder."
    ),
]
CHAT = Annotated[
    Path | None,
    typer.Option(help="Explain a transcript: a JSON file of messages with role and content."),
]
TEXT_FILE = Annotated[Path | None, typer.Option(help="Explain the text in a file.")]
OUT = Annotated[Path | None, typer.Option(help="Write a table (Parquet); a stopped run goes on.")]
JSONL = Annotated[
    bool, typer.Option("--jsonl", help="Write the table as JSON lines too, beside --out.")
]
TOKENS = Annotated[
    str | None,
    typer.Option(
        help="Tokens: all, last (of each message; the default), every:N, or regex:PATTERN."
    ),
]
MAX_ACTIVATIONS = Annotated[
    int | None,
    typer.Option(min=1, help="Explain at most so many of the chosen tokens, evenly spread."),
]
POOL = Annotated[
    str | None, typer.Option(help="mean: explain the mean of the chosen tokens of each message.")
]
MINUS = Annotated[
    Path | None,
    typer.Option(help="Subtract the activations of this file, row by row (one row: from all)."),
]
MINUS_TEXT = Annotated[
    str | None, typer.Option(help="Subtract the activation of a token of this text, its last one.")
]
MINUS_POSITION = Annotated[
    int | None, typer.Option(help="Which token that is; without --minus-text, of the text itself.")
]
BEST_OF = Annotated[
    int, typer.Option(min=1, help="Draw so many responses for each and keep the best by AR score.")
]
PROMPT = Annotated[str | None, typer.Option(help="AV prompt, or a file of it, with <INJECT> once.")]
BATCH_SIZE = Annotated[int, typer.Option(min=1, help="Responses generated side by side.")]
LIMIT = Annotated[
    int | None, typer.Option(min=1, help="Explain only the first so many activations of the file.")
]
FILES = Annotated[list[Path], typer.Argument(help="Tables written by gloss explain --out.")]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

results_app = typer.Typer(
    help="Tables of explanations from and for other tools.", no_args_is_help=True
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What ``gloss explain`` was asked for, beyond one text on the command line."""

    activations: Path | None = None
    chat: Path | None = None
    text_file: Path | None = None
    out: Path | None = None
    jsonl: bool = False
    tokens: str | None = None
    max_activations: int | None = None
    pool: str | None = None
    minus: Path | None = None
    minus_text: str | None = None
    minus_position: int | None = None
    best_of: int = 1
    prompt: str | None = None
    batch_size: int = 64
    limit: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing of this was asked for."""
        return self == Request()

    @property
    def has_input(self) -> bool:
        """Whether a file is to be read instead of the text on the command line."""
        return any(source is not None for source in (self.activations, self.chat, self.text_file))


def register(app: typer.Typer) -> None:
    """Adds the verbs that read tables to the root command."""
    for command in (search, themes):
        app.command()(command)
    app.add_typer(results_app, name="results")


def explain(
    nla: NLA,
    request: Request,
    text: str | None,
    positions: str | None,
    *,
    as_json: bool,
    **sampling: Any,
) -> None:
    """Explains files, transcripts and texts as asked, and prints or writes the result."""
    _check(request, text, positions)
    from gloss.reading import (
        ExplainConfig,
        explain_activations,
        explain_in_memory,
        explain_text,
        read_results,
    )

    config = ExplainConfig(
        **sampling,
        best_of=request.best_of,
        prompt=_prompt(request.prompt),
        batch_size=request.batch_size,
        limit=request.limit,
    )
    found: Results | None
    if request.activations is None:
        found = explain_text(
            nla,
            _document(request, text),
            request.out,
            selection=_selection(request, positions),
            config=config,
        )
    elif request.out is None:
        found = explain_in_memory(
            nla, _few(request.activations, config), config, minus=request.minus
        )
    else:
        written = explain_activations(
            nla, request.activations, request.out, config, minus=request.minus
        )
        found = None if not as_json else read_results(written.path)
    _show(found, request, as_json=as_json)


def search(
    query: Annotated[
        str,
        typer.Argument(
            help="A regular expression; without --case-sensitive, case does not matter."
        ),
    ],
    files: FILES,
    fixed: Annotated[
        bool, typer.Option("--fixed", help="Search for the words themselves, not a pattern.")
    ] = False,
    case_sensitive: Annotated[
        bool, typer.Option("--case-sensitive", help="Upper and lower case differ.")
    ] = False,
    semantic: Annotated[
        bool, typer.Option("--semantic", help="Search by meaning; needs --model.")
    ] = False,
    model: Annotated[
        Path | None, typer.Option(help="Folder of a sentence-transformers model.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Explanations to show; more are counted on stderr.")
    ] = 50,
    as_json: JSON = False,
) -> None:
    """Find explanations in tables of them; ends with 1 if there are none, like grep."""
    if semantic != (model is not None):
        raise ConfigError(
            "a search by meaning needs a model", expected="--semantic and --model together"
        )
    if semantic and (fixed or case_sensitive):
        raise ConfigError(
            "a search by meaning reads no pattern",
            expected="--semantic without --fixed, --case-sensitive",
        )
    from gloss.reading import search as matching
    from gloss.reading import search_by_meaning, sentence_embedder

    if model is not None:
        hits = search_by_meaning(files, query, sentence_embedder(model), limit=limit)
    else:
        every = matching(files, query, fixed=fixed, case_sensitive=case_sensitive)
        hits = list(islice(every, limit))
        if more := sum(1 for _ in every):
            print(
                f"gloss: {limit} of {limit + more} explanations are shown; see more with --limit",
                file=sys.stderr,
            )
    if as_json:
        print_json([hit.to_dict() for hit in hits])
    elif hits:
        print_rich(_hits_table(hits))
    if not hits:
        raise typer.Exit(1)


def themes(
    files: FILES,
    distance: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="How different claims of one theme may be; 0: the same words."
        ),
    ] = 0.25,
    min_tokens: Annotated[int, typer.Option(min=1, help="Tokens that must support a theme.")] = 2,
    neighbours: Annotated[
        int, typer.Option(min=1, help="Positions up to which explained tokens are neighbours.")
    ] = 5,
    limit: Annotated[int, typer.Option(min=1, help="Themes to show.")] = 30,
    as_json: JSON = False,
) -> None:
    """Show what explanations keep saying: claims that come back, at how many tokens and documents,
    and whether neighbours agree.
    """
    from gloss.reading import find_themes

    found = find_themes(files, distance=distance, min_tokens=min_tokens, neighbours=neighbours)[
        :limit
    ]
    if as_json:
        print_json([theme.to_dict() for theme in found])
    else:
        print_rich(_themes_table(found) if found else "no claim comes back")


@results_app.command("import")
def import_results(
    file: Annotated[
        Path, typer.Argument(help="A cache document of Neuronpedia (GET /cache/{id}), as JSON.")
    ],
    out: Annotated[Path, typer.Option(help="Table to write (Parquet).")],
) -> None:
    """Turn Neuronpedia's cache JSON into a table of explanations."""
    from gloss.reading import import_neuronpedia

    results = import_neuronpedia(file, out)
    print(f"{out}: {len(results)} explanations")
    next_command(f'gloss search "…" {out}')


@results_app.command("export")
def export_results(
    file: Annotated[
        Path, typer.Argument(help="A table written by gloss explain --out or gloss results import.")
    ],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    doc: Annotated[
        str | None, typer.Option(help="Which text, where the table holds several.")
    ] = None,
) -> None:
    """Write the explanations of one text as Neuronpedia's cache JSON."""
    from gloss.reading import export_neuronpedia, read_results

    document = export_neuronpedia(read_results(file), out, doc_id=doc)
    print(f"{out}: {len(document['sortedPositions'])} positions")


def _check(request: Request, text: str | None, positions: str | None) -> None:
    """Refuses inputs and options that do not go together, before anything is loaded."""
    inputs = [
        name for name in ("activations", "chat", "text_file") if getattr(request, name) is not None
    ]
    if len(inputs) + (text is not None) > 1:
        raise ConfigError(
            "several things to explain",
            expected="one of TEXT, --activations, --chat and --text-file",
        )
    of_text = ("tokens", "max_activations", "pool", "minus_text", "minus_position")
    foreign = of_text if request.activations is not None else ("minus", "limit")
    defaults = {field.name: field.default for field in fields(Request)}
    given = [name for name in foreign if getattr(request, name) != defaults[name]]
    if request.activations is not None and positions is not None:
        given.append("positions")
    if given:
        option = "--" + given[0].replace("_", "-")
        wanted = "a text or a chat" if request.activations is not None else "--activations"
        raise ConfigError(f"{option} does not fit this input", expected=f"{wanted} with {option}")
    if request.pool not in (None, "mean"):
        raise ConfigError("unknown --pool", expected="mean", found=repr(request.pool))
    if request.out is not None and request.out.suffix != ".parquet":
        raise ConfigError(
            "--out names no table", expected="a name that ends in .parquet", found=request.out
        )
    if request.jsonl and request.out is None:
        raise ConfigError("--jsonl writes beside the table", expected="--out too")


def _document(request: Request, text: str | None) -> Any:
    from gloss.reading import load_transcript
    from gloss.text.document import Document

    if request.chat is not None:
        return load_transcript(request.chat)
    if request.text_file is None:
        return Document("text", text)
    try:
        return Document(request.text_file.stem, request.text_file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(
            "not a text file", where=request.text_file, expected="UTF-8", found=str(error)
        ) from error


def _selection(request: Request, positions: str | None) -> Selection:
    from gloss.nla import Selection

    return Selection(
        tokens=request.tokens,
        positions=positions,
        max_activations=request.max_activations,
        pool="mean" if request.pool else None,
        minus=request.minus_text,
        minus_position=request.minus_position,
    )


def _prompt(prompt: str | None) -> str | None:
    """The prompt's text: that of a file of this name, or the words themselves."""
    if prompt is None or "<INJECT>" in prompt:
        return prompt
    path = Path(prompt)
    try:
        return path.read_text(encoding="utf-8").strip("\n")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(
            "neither a prompt nor a readable file of one",
            expected="a text with <INJECT> once",
            found=repr(prompt),
        ) from error


def _few(path: Path, config: ExplainConfig) -> Any:
    """The activations of a file, if there are few enough to be printed."""
    from gloss.store.sources import open_source

    source = open_source(path)
    if min(source.num_rows, config.limit or source.num_rows) > SHOWN_WITHOUT_OUT:
        raise ConfigError(
            "too many activations to print",
            where=path,
            expected=f"at most {SHOWN_WITHOUT_OUT} rows",
            found=source.num_rows,
            remedy="Write a table with --out, or take the first ones with --limit",
        )
    return source


def _show(found: Results | None, request: Request, *, as_json: bool) -> None:
    if request.jsonl and request.out is not None:
        from gloss.reading import iter_results, write_json_lines

        write_json_lines(request.out.with_suffix(".jsonl"), iter_results(request.out))
    if as_json:
        print_json([] if found is None else found.to_dicts())
    elif request.out is None:
        print_rich(_results_table([] if found is None else found.to_dicts()))
    else:
        print(request.out)
        next_command(f"gloss themes {request.out}")


def _results_table(rows: Iterable[dict[str, Any]]) -> Any:
    rows = list(rows)
    several = len({row["doc_id"] for row in rows}) > 1
    chat = any(row["role"] is not None or row["section"] is not None for row in rows)
    columns = [
        ("pos", "right"),
        "token",
        *(["in"] if chat else []),
        "explanation",
        ("FVE", "right"),
        "flags",
    ]
    table = _table(*(["document"] if several else []), *columns)
    for row in rows:
        where = row["position"] if row["position"] is not None else row["row"]
        part = " ".join(str(row[name]) for name in ("role", "section") if row[name] is not None)
        shown = row["text"] if row["text"] is not None else row["response"]
        cells = [where, _token(row["token"]), *([part] if chat else []), shown, _number(row["fve"])]
        _add(table, *([row["doc_id"]] if several else []), *cells, ", ".join(row["flags"]))
    return table


def _hits_table(hits: Iterable[Any]) -> Any:
    table = _table("document", ("pos", "right"), "token", "context", "explanation")
    for hit in hits:
        explanation = _plain(hit.text)
        for start, end in hit.spans:
            explanation.stylize("bold reverse", start, end)
        where = hit.position if hit.position is not None else hit.row
        _add(
            table,
            hit.doc_id,
            where,
            _token(hit.token),
            (hit.context or "")[-_CONTEXT_SHOWN:],
            explanation,
        )
    return table


def _themes_table(found: Iterable[Any]) -> Any:
    table = _table(
        "theme",
        *((name, "right") for name in ("wordings", "tokens", "documents", "neighbours agree")),
    )
    table.add_column("share of tokens", justify="right")
    table.add_column("FVE", justify="right")
    for theme in found:
        agreement = "—" if theme.agreement is None else f"{theme.agreement:.0%}"
        counts = (len(theme.claims), theme.n_tokens, theme.n_documents)
        _add(
            table,
            "\n  also: ".join(text for text, _ in theme.claims[:_WORDINGS_SHOWN]),
            *counts,
            agreement,
            f"{theme.share:.0%}",
            _number(theme.fve),
        )
    return table


def _table(*columns: Any) -> Any:
    from rich.table import Table

    table = Table(show_lines=True, header_style="bold")
    for column in columns:
        name, justify = column if isinstance(column, tuple) else (column, "left")
        table.add_column(name, justify=justify)
    return table


def _add(table: Any, *cells: Any) -> None:
    from rich.text import Text

    table.add_row(
        *(
            cell if isinstance(cell, Text) else _plain("" if cell is None else str(cell))
            for cell in cells
        )
    )


def _token(token: str | None) -> Any:
    from rich.text import Text

    from gloss.nla.results import visible

    return Text(visible(token or ""))


def _plain(text: str) -> Any:
    from rich.text import Text

    from gloss.nla.results import printable

    return Text(printable(text))


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"
