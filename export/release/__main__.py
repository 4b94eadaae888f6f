"""The command behind `make release-model`."""

import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from asr.entry import run_command
from asr.errors import ExportError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
def release_model(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a finished run, such as work/en-small.")
    ],
    data: Annotated[
        Path, typer.Option(help="The folder that the recipe's manifests are relative to.")
    ],
    recipe: Annotated[
        Path, typer.Option(help="Whose development sets are measured, all of them, whole.")
    ] = Path("training/recipes/en-small.yaml"),
    heard_hours: Annotated[
        float | None,
        typer.Option(min=0, help="Hours of audio heard in training, where RUN/final can't say."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Rehearse with N utterances of each manifest; write nothing."),
    ] = None,
) -> None:
    """Make the model of a run the built-in one of this checkout, if it is better.

    Exports it, verifies the export, measures it, and replaces the bundle, the weights for
    fine-tuning, the learning curve and the figures in the documents, all at once at the end. A
    model that is no better, or that int8 costs too many words, is refused: exit code 2.
    """
    from rich.console import Console

    from export.release.pipeline import ReleaseOptions, release  # torch: seconds

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    # An exception, so that a stopped release takes its temporary folder along.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    options = ReleaseOptions(run, data, recipe, _commit(), heard_hours=heard_hours, limit=limit)
    release(options, Console(stderr=True, highlight=False))


def _commit() -> str:
    """Name the code that measures; `-dirty` if it has changes that are in no commit."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ExportError(
            "a released figure names its commit, and `git describe` failed; "
            "release from a git checkout"
        ) from error


def main() -> None:
    """Run the command."""
    run_command(app, "release-model", extra="export")


if __name__ == "__main__":
    main()
