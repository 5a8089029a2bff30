"""The ``gloss`` command: parse, call, print. Results go to standard output, progress and logs to standard error."""

from __future__ import annotations

import sys

import typer

from gloss import __version__
from gloss.cli import data, lab, read, run, train
from gloss.errors import GlossError

app = typer.Typer(
    name="gloss",
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
app.add_typer(data.app, name="data")
app.add_typer(train.app, name="train")
app.add_typer(lab.app, name="lab")


def main() -> None:
    """Runs the command line; a user's mistake ends with one line and exit code 2, Ctrl-C with 130."""
    from gloss.cli.console import quiet_libraries

    quiet_libraries()
    try:
        app()
    except GlossError as error:
        print(f"gloss: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\ngloss: stopped; the same command goes on from the last saved state", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"gloss: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
