"""The ``gloss`` command: parse, call, print. Results go to standard output, progress and logs to
standard error.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from gloss import __version__, plugins
from gloss.cli import checkpoint, data, explore, read, run, scale, serve, train
from gloss.cli.threads import choose_waiting
from gloss.errors import GlossError
from gloss.stopping import Terminated, stop_on_sigterm


class _Commands(TyperGroup):
    """The root command; turns every ending into one line and an exit code, before Typer's own
    handling sees it.
    """

    def invoke(self, ctx: Any) -> Any:
        """Runs the chosen command.

        A user's mistake ends with 2, Ctrl-C with 130, SIGTERM with 143, a reader that has gone with
        141."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except GlossError as error:
            raise _ended(str(error), error.exit_code) from error
        except KeyboardInterrupt as stop:
            command = shlex.join(["gloss", *sys.argv[1:]])
            code = 143 if isinstance(stop, Terminated) else 130
            raise _ended(
                f"stopped; what is finished is saved. Go on with: {command}", code
            ) from stop
        except BrokenPipeError as error:
            _drop_output()
            raise typer.Exit(141) from error
        except OSError as error:
            _drop_output()
            where = f"{error.filename}: " if error.filename else ""
            raise _ended(f"{where}{error.strerror or error}", 2) from error
        return result


def _ended(line: str, exit_code: int) -> typer.Exit:
    print(f"gloss: {line}", file=sys.stderr)
    return typer.Exit(exit_code)


def _drop_output() -> None:
    """Sends what is still to be printed nowhere: the reader has gone, or the disk behind it is
    full.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    name="gloss",
    cls=_Commands,
    help="Turn a language model's activations into words, and check the words.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"gloss {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    """Turn a language model's activations into words, and check the words."""


run.register(app)
read.register(app)
serve.register(app)
explore.register(app)
scale.register(app)
app.add_typer(data.app, name="data")
app.add_typer(train.app, name="train")
app.add_typer(checkpoint.app, name="checkpoint")
for _name in plugins.installed("gloss.commands"):
    app.add_typer(plugins.load("gloss.commands", _name), name=_name)


def main() -> None:
    """Runs the command line."""
    from gloss.cli.console import quiet_libraries

    quiet_libraries()
    choose_waiting()
    stop_on_sigterm()
    app()


if __name__ == "__main__":
    main()
