"""The `asr` command."""

import errno
import io
import os
import sys
import warnings
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from asr import __version__
from asr.errors import AsrError

_COMMANDS = {
    "transcribe": "transcribe_command",
    "mic": "mic_command",
    "serve": "serve_command",
    "eval": "evaluate_command",
    "conditions": "conditions_command",
    "bench": "bench_command",
    "tune": "tune_command",
    "peers": "peers_command",
    "report": "report_command",
    "info": "info_command",
}
"""The function of each command; it is in the module `asr.cli.COMMAND`."""

# Plain text for help and errors: rich would cost each run its memory and start-up time.
_PLAIN = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}


class _Group(TyperGroup):
    """Imports a command when it is used: all of them would cost each run 6 MB and 0.1 s.

    And turns an error that the user can mend into one line and exit code 2.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            self.commands = dict.fromkeys(_COMMANDS)  # type: ignore[assignment]  # to suggest
            return None
        function = getattr(import_module(f"asr.cli.{cmd_name}"), _COMMANDS[cmd_name])
        command = typer.Typer(**_PLAIN)  # type: ignore[arg-type]
        command.command(cmd_name)(function)
        return typer.main.get_command(command)

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


app = typer.Typer(cls=_Group, no_args_is_help=True, **_PLAIN)  # type: ignore[arg-type]


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
