"""The ``gloss`` command: parse, call, print. Results go to standard output, progress and logs to
standard error."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from gloss import __version__, plugins
from gloss.cli import checkpoint_verbs as files
from gloss.cli import pipeline_verbs as runs
from gloss.cli import question_verbs as nla
from gloss.cli import results_verbs as results
from gloss.cli import stage_verbs as stages
from gloss.cli.endings import one_line
from gloss.cli.options import add_verb
from gloss.cli.output import note, quiet_libraries, steady_streams
from gloss.cli.serve_verb import serve
from gloss.cli.threads import choose_waiting
from gloss.stopping import stop_on_sigterm

ROOTS = (runs.quickstart, runs.run, runs.evaluate, nla.explain, nla.steer, serve)
SINGLE = (nla.tokens, nla.reconstruct, nla.score, nla.trust, nla.compare, nla.continue_)
FILES = (files.inspect, files.validate, files.convert, files.card, files.push, files.pull)
TABLES = (results.search, results.themes, results.report, results.import_, results.export)
DATA = (stages.extract, stages.split, stages.label, stages.build)
GROUPS: Mapping[str, tuple[str, Sequence[Callable[..., Any]]]] = {
    "data": ("From a corpus to training datasets.", DATA),
    "train": (
        "Train the two halves: SFT of each, then joint RL.",
        (stages.ar, stages.av, stages.joint),
    ),
    "nla": (
        "One NLA: rebuild, score, trust, compare, continue; look at its files and exchange them.",
        (*SINGLE, *FILES),
    ),
    "results": (
        "Tables of explanations and finished runs: search, themes, report, exchange.",
        TABLES,
    ),
}
RENAMED = {
    "checkpoint": ("nla",),
    "explore": ("serve", "--open"),
    "lab": ("data", "lab"),
    "reconstruct": ("nla", "reconstruct"),
    "report": ("results", "report"),
    "score": ("nla", "score"),
    "search": ("results", "search"),
    "themes": ("results", "themes"),
}
"""Verbs of 0.1, by what they are called now; the old names go with the next release."""


class _Data(TyperGroup):
    """``gloss data`` with the commands that plug-ins add to it, which are loaded when they are
    called: entry points of the group ``gloss.commands``."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands."""
        return [*super().list_commands(ctx), *plugins.installed("gloss.commands")]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name, if there is one."""
        if (known := super().get_command(ctx, cmd_name)) is not None:
            return known
        plugin = plugins.find("gloss.commands", cmd_name)
        return None if plugin is None else get_command(plugin)


class _Commands(TyperGroup):
    """The root command; knows the old names, and turns every ending into one line and an exit code,
    before Typer's own handling sees it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts present names in the place of old ones, and says so."""
        if args and args[0] in RENAMED:
            old, new = args[0], list(RENAMED[args[0]])
            if "--no-browser" in args:
                new.remove("--open")
            note(f"`gloss {old}` is called `gloss {shlex.join(new)}` from now on")
            args = [*new, *(one for one in args[1:] if one not in ("--browser", "--no-browser"))]
            if old == "score":
                args = [one.replace("--text", "--explanation", 1) for one in args]
        if args and args[0] == "steer":
            args = ["--positions" if one == "--position" else one for one in args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the chosen command."""
        with one_line(typer.Exit, debug=ctx.params["_debug"]):
            result = super().invoke(ctx)
            sys.stdout.flush()
        return result

    def main(self, *args: Any, **options: Any) -> Any:
        """The same for what fails before a command is chosen."""
        with one_line(SystemExit):
            return super().main(*args, **options)


app = typer.Typer(
    name="gloss",
    cls=_Commands,
    help="Turn a language model's activations into words, and check the words.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
    _debug: bool = typer.Option(False, "--debug", help="Print where in Gloss an error came from."),
) -> None:
    """Turn a language model's activations into words, and check the words."""
    if version:
        typer.echo(f"gloss {__version__}")
        raise typer.Exit


for function in ROOTS:
    add_verb(app, function)
for name, (meaning, verbs) in GROUPS.items():
    group = typer.Typer(help=meaning, no_args_is_help=True, cls=_Data if name == "data" else None)
    for function in verbs:
        add_verb(group, function)
    app.add_typer(group, name=name)


def main() -> None:
    """Runs the command line."""
    steady_streams()
    quiet_libraries()
    choose_waiting()
    stop_on_sigterm()
    app(prog_name="gloss")


if __name__ == "__main__":
    main()
