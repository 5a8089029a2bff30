"""How a function becomes a verb, and the options that several verbs share."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from gloss.cli.checks import check_dtype, check_model
from gloss.cli.option_help import HELP, SPELLED
from gloss.cli.output import Answer, next_command, print_json, print_rich
from gloss.engines.engine_names import LOCAL, parse_engine
from gloss.errors import ConfigError
from gloss.foreign import without_surrogates
from gloss.pipeline.last_run import last_quickstart
from gloss.text.document import Document, load_transcript
from gloss.text.text_files import read_text_file, text_of

if TYPE_CHECKING:
    from gloss.nla import NLA
    from gloss.nla.place import NLAPlaces
    from gloss.pipeline.run_config import RunConfig
    from gloss.store.sources import VectorSource

AtLeast0 = Annotated[int, typer.Option(min=0)]
AtLeast1 = Annotated[int, typer.Option(min=1)]
NotNegative = Annotated[float, typer.Option(min=0)]
_SOURCES = {"text": "TEXT"} | {
    name: f"--{name.replace('_', '-')}" for name in ("activations", "chat", "text_file")
}
_PLACES = {"ar", "av", "base", "folder", "inputs", "nla", "overrides", "place", "prompt", "target"}
"""Options of text that may name a file or folder, whose names are bytes."""
ARGUMENT = {"argument": True}
"""Metadata of a dataclass field that is an argument and no option."""


def add_verb(app: typer.Typer, function: Callable[..., Answer | None]) -> None:
    """Adds a function as a command of its name: positional-only parameters are arguments, others
    options, and a dataclass stands for one option for each field of which ``HELP`` says something.
    A verb that returns an answer has ``--json``."""
    name = function.__name__.strip("_")
    signature = inspect.signature(function, eval_str=True)
    parameters, arguments = list[inspect.Parameter](), list[str]()
    groups: dict[str, tuple[type[Any], list[str]]] = {}
    for one in signature.parameters.values():
        kind = one.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            hints = get_type_hints(kind, include_extras=True)
            known = [f for f in fields(kind) if f"{name}.{f.name}" in HELP or f.name in HELP]
            groups[one.name] = kind, [f.name for f in known]
            parameters += [
                _parameter(name, f.name, hints[f.name], f.default, argument=bool(f.metadata))
                for f in known
            ]
        else:
            argument = one.kind is one.POSITIONAL_ONLY
            arguments += [one.name] if argument else []
            parameters.append(_parameter(name, one.name, kind, one.default, argument=argument))
    if signature.return_annotation is not None:
        parameters.append(_parameter(name, "as_json", bool, False))

    def command(**given: Any) -> None:
        given = {option: _sound(option, value) for option, value in given.items()}
        as_json = given.pop("as_json", True)
        for group, (kind, names) in groups.items():
            given[group] = kind(**{name: given.pop(name) for name in names})
        answer = function(*[given.pop(name) for name in arguments], **given)
        if answer is not None:
            _print(answer, as_json=as_json)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__doc__ = function.__doc__
    app.command(name)(command)


def _parameter(
    verb: str, name: str, annotation: Any, default: Any, *, argument: bool = False
) -> inspect.Parameter:
    """A parameter that Typer reads."""
    kind, bounds = annotation, typer.Option()
    for part in (annotation, *get_args(annotation)):  # Annotated, or optional
        if hasattr(part, "__metadata__"):
            (bounds,) = part.__metadata__
            kind = part.__origin__ if part is annotation else part.__origin__ | None
    text = HELP.get(f"{verb}.{name}") or HELP[name]
    info: Any
    if argument:
        info = typer.Argument(help=text, metavar=name.upper(), show_default=False)
    else:
        spelled = SPELLED.get(name, f"--{name.replace('_', '-')}")
        info = typer.Option(spelled, help=text, min=bounds.min, max=bounds.max)
    required = default in (MISSING, inspect.Parameter.empty)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else default,
        annotation=Annotated[kind, info],
    )


def _sound(name: str, value: Any) -> Any:
    """An option's value without half characters, unless it names a place.

    Raises: ConfigError for a number that is not finite, or that no machine counts with."""
    if isinstance(value, list):
        return [_sound(name, one) for one in value]
    if isinstance(value, str):
        return value if name in _PLACES else without_surrogates(value)
    if isinstance(value, int | float) and not -(2**63) <= value < 2**63:
        option = SPELLED.get(name, f"--{name.replace('_', '-')}")
        expected = "a finite number" if isinstance(value, float) else "at most 18 digits"
        raise ConfigError(option, expected=expected, found=value)
    return value


def _print(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        print_json(answer.as_json() if callable(answer.as_json) else answer.as_json)
    else:
        for one in answer.shown:
            print(one, flush=True) if isinstance(one, str) else print_rich(one)
    if answer.exit_code:
        raise typer.Exit(answer.exit_code)
    if answer.then is not None:
        next_command(answer.then)


@dataclass(frozen=True, kw_only=True)
class NLAOptions:
    """Which NLA reads, and what runs it."""

    nla: str | None = None
    av: str | None = None
    ar: str | None = None
    target: str | None = None
    revision: str | None = None
    engine: str = "local"
    dtype: str = "float32"
    device: str = "auto"
    force: bool = False

    def places(self) -> NLAPlaces:
        """Where its parts are; refuses all that can be refused before anything is loaded.

        Raises: ConfigError, CheckpointError, SidecarError.
        """
        from gloss.nla.place import find_nla

        if self.engine != LOCAL:
            parse_engine(self.engine)
        check_dtype(self.dtype)
        if self.target is not None:
            check_model(self.target)
        parts: Any = {part: getattr(self, part) for part in ("av", "ar", "target", "revision")}
        return find_nla(self._name, **parts)

    def open(self) -> NLA:
        """The NLA that is named, by one name or by its halves; else the last quickstart's."""
        self.places()
        import gloss

        options: Any = {key: value for key, value in asdict(self).items() if key != "nla"}
        return gloss.load(self._name, **options)

    @property
    def _name(self) -> str | None:
        unnamed = self.nla is None and self.av is None and self.ar is None
        return str(last_quickstart()) if unnamed else self.nla


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """A text or a chat: one of the argument, a file of text, and a file of messages."""

    text: str | None = field(default=None, metadata=ARGUMENT)
    text_file: Path | None = None
    chat: Path | None = None

    def __post_init__(self) -> None:
        given = [name for name in _SOURCES if getattr(self, name, None) not in (None, "-")]
        if len(given) > 1:
            known = [_SOURCES[name] for name in _SOURCES if hasattr(self, name)]
            expected = f"one of {', '.join(known[:-1])} and {known[-1]}"
            raise ConfigError("several things to explain", expected=expected)

    def document(self) -> Document:
        """The text or chat. Raises: ConfigError, CorpusError."""
        if self.chat is not None:
            return load_transcript(self.chat)
        name = "text" if self.text_file is None else without_surrogates(self.text_file.stem)
        return Document(name, without_surrogates(read_text(self.text, self.text_file)))


@dataclass(frozen=True, kw_only=True)
class SourceOptions(TextOptions):
    """A text, a chat, or activations."""

    activations: Path | None = None

    def vectors(self) -> VectorSource:
        """The activations. Raises: DatasetError, ActivationError."""
        from gloss.store.sources import open_source

        assert self.activations is not None
        return open_source(self.activations)


def read_text(text: str | None, file: Path | None = None) -> str:
    """A text from the command line, a file or standard input, each without a byte-order mark.

    Raises: ConfigError if it is empty or cannot be read.
    """
    if file is not None:
        text = read_text_file(file, ConfigError)
    if text is None or text == "-":
        read = _standard_input()
    else:
        read = without_surrogates(text).removeprefix("\ufeff")
    if not read.strip():
        expected = "some text, as an argument or on standard input"
        raise ConfigError("the text is empty", expected=expected)
    return read


def _standard_input() -> str:
    behind = getattr(sys.stdin, "buffer", None)  # bytes: a console's encoding is no file's
    if behind is None:
        return sys.stdin.read()
    return text_of(behind, where="standard input", error=ConfigError)


@dataclass(frozen=True, kw_only=True)
class ConfigOptions:
    """A run's settings."""

    config: Path
    overrides: list[str] | None = None

    def read(self) -> RunConfig:
        """The settings. Raises: ConfigError."""
        from gloss.pipeline.run_config import read_config

        return read_config(self.config, self.overrides or [])
