"""The questions to an NLA: explain, steer, and under ``gloss nla`` tokens, reconstruct, score,
trust, compare, continue. Options are those of the methods of ``NLA``."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gloss.cli.options import (
    ARGUMENT,
    AtLeast0,
    AtLeast1,
    NLAOptions,
    NotNegative,
    SourceOptions,
    TextOptions,
    read_text,
)
from gloss.cli.output import Answer, print_json, table
from gloss.errors import ConfigError

if TYPE_CHECKING:
    from gloss.nla import NLA
    from gloss.nla.presentation import Result

SHOWN_WITHOUT_OUT = 1000


@dataclass(frozen=True, kw_only=True)
class SelectionOptions:
    """Which activations of a text are meant."""

    positions: str | None = None
    tokens: str | None = None
    max_activations: AtLeast1 | None = None
    pool: str | None = None
    minus_text: str | None = None
    minus_position: int | None = None

    def asked(self) -> dict[str, Any]:
        """As ``NLA.explain`` takes them. Raises: ConfigError, PositionError."""
        from gloss.nla.request import Selection

        if self.pool not in (None, "mean"):
            raise ConfigError("unknown --pool", expected="mean", found=repr(self.pool))
        asked = asdict(self)
        asked["minus"] = asked.pop("minus_text")
        return vars(Selection(**asked))


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How explanations are drawn."""

    samples: AtLeast1 = 1
    best_of: AtLeast1 = 1
    temperature: NotNegative | None = None
    seed: int = 0
    prompt: str | None = None

    def asked(self) -> dict[str, Any]:
        """As ``NLA.explain`` takes them, the prompt read from a file where it names one.

        Raises: ConfigError.
        """
        from gloss.nla.request import Sampling

        asked = asdict(self)
        Sampling(**asked)
        if self.prompt is not None and "<INJECT>" not in self.prompt:
            try:
                asked["prompt"] = Path(self.prompt).read_text(encoding="utf-8").strip("\n")
            except (OSError, ValueError) as error:
                raise ConfigError(
                    "neither a prompt nor a readable file of one",
                    expected="a text with <INJECT> once",
                    found=repr(self.prompt),
                ) from error
        return asked


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What is done with files of activations, and where results are written."""

    minus: Path | None = None
    limit: AtLeast1 | None = None
    batch_size: AtLeast1 = 64
    out: Path | None = None
    jsonl: bool = False

    def __post_init__(self) -> None:
        if self.out is not None and self.out.suffix != ".parquet":
            raise ConfigError(
                "--out names no table", expected="a name that ends in .parquet", found=self.out
            )
        if self.jsonl and self.out is None:
            raise ConfigError("--jsonl writes beside the table", expected="--out too")


@dataclass(frozen=True, kw_only=True)
class ComparedOptions(SourceOptions):
    """Two activations: tokens of one text or of two, or rows of a file."""

    other: str | None = field(default=None, metadata=ARGUMENT)
    position: int | None = None
    other_position: int | None = None

    def sides(self) -> tuple[Any, Any]:
        """As ``NLA.compare`` takes them. Raises: ConfigError, CorpusError, DatasetError."""
        if self.activations is not None:
            if self.other is not None:
                raise ConfigError("a text beside a file", expected="--activations alone")
            return self._row(self.position or 0), self._row(
                1 if self.other_position is None else self.other_position
            )
        if self.other is None and self.position == self.other_position:
            raise ConfigError(
                "nothing to compare with", expected="OTHER, or --position and --other-position"
            )
        document = self.document()
        places = (-1 if one is None else one for one in (self.position, self.other_position))
        first, second = zip((document, self.other or document), places, strict=True)
        return first, second

    def _row(self, row: int) -> Any:
        source = self.vectors()
        if not 0 <= row < source.num_rows:
            expected = f"0 to {source.num_rows - 1}"
            raise ConfigError("no such row", where=self.activations, expected=expected, found=row)
        chunk = next(c for c in source.chunks(1024) if row < c.first + len(c.vectors))
        return chunk.vectors[row - chunk.first]


def explain(
    source: SourceOptions,
    selection: SelectionOptions,
    sampling: SamplingOptions,
    files: FileOptions,
    parts: NLAOptions,
) -> Answer:
    """Explain what a model holds in mind at tokens of a text or a transcript, or in a file of
    activations."""
    _check_fit(source, selection, files)
    chosen, drawn = selection.asked(), sampling.asked()
    if source.activations is not None:
        _check_files(source, files)
    else:
        document = source.document()
    nla = parts.open()
    if source.activations is None and files.out is None:
        found = nla.explain(document, **chosen, **drawn)
        _report_speed(nla)
        return Answer(found.to_dicts(), [found.table()])
    from gloss.nla import Selection
    from gloss.reading import ExplainConfig, explain_activations, explain_in_memory, explain_text

    config = ExplainConfig(**drawn, batch_size=files.batch_size, limit=files.limit)
    if source.activations is None:
        explain_text(nla, document, files.out, selection=Selection(**chosen), config=config)
    elif files.out is None:
        path = source.activations
        rows = explain_in_memory(nla, path, config, minus=files.minus).explanations
        return Answer(rows.to_dicts(), [rows.table()])
    else:
        explain_activations(nla, source.activations, files.out, config, minus=files.minus)
    return _written(files)


def steer(
    text: TextOptions,
    parts: NLAOptions,
    edit: str | None = None,
    edited: str | None = None,
    explanation: str | None = None,
    unrelated: str | None = None,
    positions: str = "-1",
    alphas: list[float] | None = None,
    max_new_tokens: AtLeast1 = 24,
    top_tokens: AtLeast0 = 10,
    seed: int = 0,
) -> Answer:
    """Edit an explanation and see how the target goes on: h + α‖h‖Δ/‖Δ‖, Δ = AR(edited) −
    AR(original)."""
    from gloss.text.positions import check_positions

    check_positions(positions)
    if (edit is None) == (edited is None):
        raise ConfigError("nothing to steer along", expected="one of --edit and --edited")
    edits = {"edit": _pair("--edit", edit), "unrelated": _pair("--unrelated", unrelated)}
    document = text.document()
    found = parts.open().steer(
        document,
        **edits,
        edited=edited,
        original=explanation,
        positions=positions,
        alphas=alphas or (0.5, 1.0, 2.0),
        max_new_tokens=max_new_tokens,
        top_tokens=top_tokens,
        seed=seed,
    )
    return _answer(found)


def tokens(text: TextOptions, parts: NLAOptions) -> Answer:
    """Show a text or a chat as the tokens that the target reads."""
    from gloss.nla.presentation import visible

    document = text.document()
    read = parts.open().tokens(document)
    rows = [(t.position, visible(t.token), t.token_id, t.role, t.section) for t in read.tokens]
    return Answer(asdict(read), [table(("pos>", "token", "id>", "role", "section"), rows)])


def reconstruct(explanation: str, /, parts: NLAOptions, out: Path | None = None) -> None:
    """Rebuild the activation that an explanation describes, and print it as JSON."""
    read = read_text(explanation)
    vector = parts.open().reconstruct([read])[0]
    if out is None:
        values = [round(value, 6) for value in vector.tolist()]
        print_json({"d_model": len(vector), "activation": values})
        return
    from safetensors.torch import save_file

    save_file({"activation": vector}, out)
    print(out)


def score(
    source: SourceOptions,
    parts: NLAOptions,
    *,
    explanation: str,
    position: int = -1,
    limit: AtLeast1 = 100,
) -> Answer:
    """Score how well one explanation rebuilds the activation of a token, or each activation of a
    file."""
    read = read_text(explanation)
    if source.activations is None:
        document = source.document()
        names: list[str | None] = [document.doc_id]
        found = parts.open().score([read], document, position=position)
    else:
        opened = source.vectors()
        nla, chunk = parts.open(), next(opened.chunks(limit))
        names = list(chunk.columns.get("doc_id", [None] * len(chunk.vectors)))
        found = nla.score([read] * len(names), chunk.vectors)
    from gloss.nla.presentation import number

    rows = [(i, name, one) for i, (name, one) in enumerate(zip(names, found, strict=True))]
    cells = ((i, name, number(one.cosine, 3), number(one.fve, 3)) for i, name, one in rows)
    return Answer(
        [{"row": i, "doc_id": name, **asdict(one)} for i, name, one in rows],
        [table(("row>", "document", "cosine>", "FVE>"), cells)],
    )


def trust(
    text: TextOptions,
    parts: NLAOptions,
    position: int = -1,
    explanation: str | None = None,
    samples: AtLeast0 = 4,
    neighbours: AtLeast0 = 2,
    seed: int = 0,
) -> Answer:
    """Show what speaks for a token's explanation and against it: controls, samples, neighbours, and
    what each claim carries."""
    document = text.document()
    asked = {"samples": samples, "neighbours": neighbours, "seed": seed}
    nla = parts.open()
    return _answer(nla.trust(document, position=position, explanation=explanation, **asked))


def compare(
    compared: ComparedOptions,
    parts: NLAOptions,
    temperature: NotNegative | None = None,
    seed: int = 0,
) -> Answer:
    """Put two activations side by side, and their difference into words."""
    first, second = compared.sides()
    return _answer(parts.open().compare(first, second, temperature=temperature, seed=seed))


def continue_(
    text: TextOptions,
    parts: NLAOptions,
    max_new_tokens: AtLeast1 = 16,
    temperature: NotNegative = 0.0,
    seed: int = 0,
) -> Answer:
    """Let the target write on."""
    document = text.document()
    found = parts.open().continue_text(
        document, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    )
    return _answer(found)


def _answer(found: Result) -> Answer:
    return Answer(found.to_dict(), [found.table()])


def _pair(option: str, value: str | None) -> tuple[str, str] | None:
    """The two sides of ``old=>new``. Raises: ConfigError."""
    if value is None:
        return None
    old, arrow, new = value.partition("=>")
    if not arrow or not old:
        raise ConfigError(f"cannot read {option}", expected='"old=>new"', found=repr(value))
    return old, new


def _check_fit(source: SourceOptions, selection: SelectionOptions, files: FileOptions) -> None:
    """Refuses options that do not fit what is explained."""
    of_file = source.activations is not None
    foreign = asdict(selection) if of_file else {"minus": files.minus, "limit": files.limit}
    given = [name for name, value in foreign.items() if value is not None]
    if given:
        option = "--" + given[0].replace("_", "-")
        wanted = "a text or a chat" if of_file else "--activations"
        raise ConfigError(f"{option} does not fit this input", expected=f"{wanted} with {option}")


def _check_files(source: SourceOptions, files: FileOptions) -> None:
    """Refuses files that cannot be read, and too many rows to print."""
    found = source.vectors().num_rows
    if files.minus is not None:
        SourceOptions(activations=files.minus).vectors()
    if files.out is None and min(found, files.limit or found) > SHOWN_WITHOUT_OUT:
        raise ConfigError(
            "too many activations to print",
            where=source.activations,
            expected=f"at most {SHOWN_WITHOUT_OUT} rows",
            found=found,
            remedy="Write a table with --out, or take the first ones with --limit",
        )


def _written(files: FileOptions) -> Answer:
    """A table that was written."""
    from gloss.reading import iter_results, read_results, write_json_lines

    assert files.out is not None
    if files.jsonl:
        write_json_lines(files.out.with_suffix(".jsonl"), iter_results(files.out))
    rows = read_results(files.out).to_dicts
    return Answer(rows, [str(files.out)], f"gloss results themes {files.out}")


def _report_speed(nla: NLA) -> None:
    """Says on standard error how fast a server was."""
    from gloss.engines import RemoteEngine

    engine = nla.engine
    if isinstance(engine, RemoteEngine) and engine.last_speed is not None:
        print(f"{engine}: {engine.last_speed}", file=sys.stderr)
