"""The questions to an NLA: explain, steer, and under ``gloss nla`` tokens, reconstruct, score,
trust, compare, continue. Options are those of the methods of ``NLA``."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict, dataclass, field, replace
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
from gloss.cli.output import Answer, next_command, note, print_json, table
from gloss.durable import output_file, replaced_file
from gloss.errors import ConfigError
from gloss.foreign import json_text
from gloss.nla.request import Sampling, Selection
from gloss.text.text_files import read_text_file

if TYPE_CHECKING:
    from gloss.nla import NLA
    from gloss.nla.presentation import Result
    from gloss.nla.results import Score, TokenExplanation

_WHOLE = re.compile(r"\s*-?[0-9]{1,18}\s*")

SCORED_TOGETHER = 1024
"""Rows of a file that are scored at a time."""


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
        if self.pool not in (None, "mean"):
            raise ConfigError("unknown --pool", expected="mean", found=repr(self.pool))
        asked: dict[str, Any] = {**asdict(self), "minus": self.minus_text}
        del asked["minus_text"]
        return vars(Selection(**asked))


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
            expected = "a name that ends in .parquet"
            raise ConfigError("--out names no table", expected=expected, found=self.out)
        if self.out is not None:
            output_file(self.out)
        if self.out is not None and self.jsonl:
            output_file(self.out.with_suffix(".jsonl"))

    def check(self, source: SourceOptions) -> None:
        """Refuses files that cannot be read, and an output that is an input."""
        source.vectors()
        for read in (source.activations, self.minus):
            if self.out is not None and read is not None and read.is_file():
                output_file(self.out, unlike=read)
        if self.minus is not None:
            SourceOptions(activations=self.minus).vectors()


@dataclass(frozen=True, kw_only=True)
class ComparedOptions(SourceOptions):
    """Two activations: tokens of one text or of two, or rows of a file."""

    other: str | None = field(default=None, metadata=ARGUMENT)
    positions: str | None = None

    def sides(self) -> tuple[Any, Any]:
        """As ``NLA.compare`` takes them. Raises: ConfigError, CorpusError, DatasetError."""
        default = "0,1" if self.activations is not None else "-1,-1"
        words = (self.positions or default).split(",")
        if len(words) != 2 or not all(_WHOLE.fullmatch(word) for word in words):
            found = repr(self.positions)
            raise ConfigError("cannot read --positions", expected="two, like 3,-1", found=found)
        one, two = map(int, words)
        if self.activations is not None:
            rows = self.vectors()
            if self.other is not None or not 0 <= min(one, two) <= max(one, two) < rows.num_rows:
                expected = f"two rows, 0 to {rows.num_rows - 1}, and no text"
                raise ConfigError("no such rows", where=self.activations, expected=expected)
            return _row(rows, one), _row(rows, two)
        if self.other is None and one == two:
            raise ConfigError("nothing to compare with", expected="OTHER, or two --positions")
        document = self.document()
        return (document, one), (self.other or document, two)


def _row(source: Any, row: int) -> Any:
    """One activation of a source; [d_model]."""
    chunk = next(c for c in source.chunks(1024) if row < c.first + len(c.vectors))
    return chunk.vectors[row - chunk.first]


def explain(
    source: SourceOptions,
    selection: SelectionOptions,
    sampling: Sampling,
    files: FileOptions,
    parts: NLAOptions,
) -> Answer:
    """Explain what a model holds in mind at tokens of a text or a transcript, or in a file of
    activations."""
    _check_fit(source, selection, files)
    chosen, drawn = selection.asked(), asdict(_with_prompt_read(sampling))
    path = source.activations
    if path is None:
        document = source.document()
    else:
        files.check(source)
    nla = parts.open()
    if path is None and files.out is None:
        found = nla.explain(document, **chosen, **drawn)
        _report_speed(nla)
        return Answer(found.to_dicts(), map(_json_line, found) if files.jsonl else [found.table()])
    from gloss.nla.results import Explanations
    from gloss.reading import ExplainConfig, explain_activations, explain_rows, explain_text

    config = ExplainConfig(**drawn, batch_size=files.batch_size, limit=files.limit)
    if path is None:
        explain_text(nla, document, files.out, selection=Selection(**chosen), config=config)
    elif files.out is None:
        rows = explain_rows(nla, path, config, minus=files.minus)
        shown = (_json_line(one) if files.jsonl else one.line for one in rows)
        return Answer(lambda: Explanations(tuple(rows), nla.layer, nla.name).to_dicts(), shown)
    else:
        explain_activations(nla, path, files.out, config, minus=files.minus)
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
    wanted: str | None = None,
    samples: AtLeast0 = 8,
    max_new_tokens: AtLeast1 = 24,
    top_tokens: AtLeast0 = 10,
    seed: int = 0,
) -> Answer:
    """Edit an explanation and see how the target goes on, and whether the edit did it: h +
    α‖h‖Δ/‖Δ‖, Δ = AR(edited) − AR(original)."""
    Selection(positions=positions)
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
        wanted=wanted,
        samples=samples,
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
    if out is not None:
        output_file(out)
    rows = parts.open().reconstruct([read])
    if out is None:
        values = [round(value, 6) for value in rows[0].tolist()]
        print_json({"d_model": len(values), "activation": values})
        return
    from safetensors.torch import save_file

    with replaced_file(out) as temporary:
        save_file({"activation": rows.contiguous()}, temporary)
    print(out)
    next_command(f"gloss explain --activations {out}")


def score(
    source: SourceOptions,
    parts: NLAOptions,
    *,
    explanation: str,
    position: int = -1,
    limit: AtLeast1 | None = None,
) -> Answer:
    """Score how well one explanation rebuilds the activation of a token, or each of a file."""
    from gloss.formatting import decimal

    if source.activations is not None and not source.activations.exists():
        source.vectors()  # says in its own words what is not there

    read, names = read_text(explanation), list[str | None]()
    found: list[Score]
    if source.activations is None:
        document = source.document()
        names, found = [document.doc_id], parts.open().score([read], document, position=position)
    else:
        from gloss.reading.explain import open_for

        nla = parts.open()
        given, found = open_for(nla, source.activations), []
        rest = given.num_rows if limit is None else min(limit, given.num_rows)
        if rest < given.num_rows:
            note(f"the first {rest} of {given.num_rows} rows are scored")
        for chunk in given.chunks(min(rest, SCORED_TOGETHER)):
            some = chunk.vectors[: rest - len(found)]
            names += list(chunk.columns.get("doc_id", [None] * len(some)))[: len(some)]
            found += nla.score([read] * len(some), some)
            if len(found) == rest:
                break
    rows = [(i, name, one) for i, (name, one) in enumerate(zip(names, found, strict=True))]
    cells = ((i, name, decimal(one.cosine, 3), decimal(one.fve, 3)) for i, name, one in rows)
    as_json = [{"row": i, "doc_id": name, **asdict(one)} for i, name, one in rows]
    return Answer(as_json, [table(("row>", "document", "cosine>", "FVE>"), cells)])


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
    asked: Any = {"position": position, "explanation": explanation, "samples": samples}
    return _answer(parts.open().trust(document, **asked, neighbours=neighbours, seed=seed))


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
    asked: Any = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    return _answer(parts.open().continue_text(document, **asked))


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


def _with_prompt_read(sampling: Sampling) -> Sampling:
    """With the prompt's text: that of a file of this name, or the words themselves."""
    if sampling.prompt is None or "<INJECT>" in sampling.prompt:
        return sampling
    try:
        text = read_text_file(Path(sampling.prompt), ConfigError)
    except (ConfigError, ValueError) as error:
        what, expected = "neither a prompt nor a readable file of one", "a text with <INJECT> once"
        raise ConfigError(what, expected=expected, found=repr(sampling.prompt)) from error
    return replace(sampling, prompt=text.strip("\n"))


def _check_fit(source: SourceOptions, selection: SelectionOptions, files: FileOptions) -> None:
    """Refuses options that do not fit what is explained."""
    of_file = source.activations is not None
    foreign = asdict(selection) if of_file else {"minus": files.minus, "limit": files.limit}
    given = [name for name, value in foreign.items() if value is not None]
    if given:
        option = "--" + given[0].replace("_", "-")
        wanted = "a text or a chat" if of_file else "--activations"
        raise ConfigError(f"{option} does not fit this input", expected=f"{wanted} with {option}")


def _written(files: FileOptions) -> Answer:
    """A table that was written."""
    from gloss.reading import iter_results, read_results, write_json_lines

    assert files.out is not None
    if files.jsonl:
        write_json_lines(files.out.with_suffix(".jsonl"), iter_results(files.out))
    out = files.out
    return Answer(lambda: read_results(out).to_dicts(), [str(out)], f"gloss results themes {out}")


def _json_line(one: TokenExplanation) -> str:
    return json_text({name: value for name, value in asdict(one).items() if name != "done"})


def _report_speed(nla: NLA) -> None:
    """Says on standard error how fast a server was."""
    from gloss.engines import RemoteEngine

    if isinstance(nla.engine, RemoteEngine) and nla.engine.last_speed is not None:
        print(f"{nla.engine}: {nla.engine.last_speed}", file=sys.stderr)
