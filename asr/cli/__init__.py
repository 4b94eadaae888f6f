"""The `asr` command."""

import errno
import io
import os
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from asr import __version__
from asr.cli.bench import bench_command
from asr.cli.eval import evaluate_command
from asr.cli.info import info_command
from asr.cli.mic import mic_command
from asr.cli.serve import serve_command
from asr.cli.transcribe import transcribe_command
from asr.errors import AsrError


class _Group(TyperGroup):
    """Turns an error that the user can mend into one line and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AsrError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error
        except OSError as error:  # such as a full disk under stdout
            if error.errno == errno.EPIPE:  # nobody reads on: typer ends without a word
                raise
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error


# Plain text for help and errors: rich would cost each run its memory and start-up time.
app = typer.Typer(
    cls=_Group,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("transcribe")(transcribe_command)
app.command("mic")(mic_command)
app.command("serve")(serve_command)
app.command("eval")(evaluate_command)
app.command("bench")(bench_command)
app.command("info")(info_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"earshot-asr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """On-device streaming English speech recognition."""


def _open_closed_streams() -> None:
    """Give a program that was started without stdin, stdout or stderr (`>&-`) nothing in its place:
    else a file that it opens might become one of them. `sys.stdin` stays None: who reads it is told
    that there is none."""
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def main() -> None:
    """Run the command; the entry point of the package."""
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name or a model card may have what the terminal's encoding has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    app()
