"""The `asr-export` command."""

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asr.entry import run_command


class Precision(StrEnum):
    """Arithmetic of the graphs in a bundle."""

    int8 = "int8"
    fp32 = "fp32"


app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="Folder of a trained model, or its model.safetensors."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory of the bundle to write.")],
    precision: Annotated[
        list[Precision], typer.Option(help="Graphs to put in; give it twice for both.")
    ] = [Precision.int8],  # noqa: B006 (typer copies it)
    manifest: Annotated[
        Path | None,
        typer.Option(help="JSON lines of recordings on which int8 must do as well as float."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first N usable rows of the manifest.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the model.")] = "en",
    card: Annotated[
        Path | None, typer.Option(help="Model card, a JSON object: data, licences, limits.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the bundle that is at OUT.")
    ] = False,
) -> None:
    """Turn a trained model into a bundle that runs on a device.

    The bundle is written only if its graphs compute what the model computes.
    """
    from export.pipeline import ExportOptions, export_bundle  # torch: seconds, so not for --help

    # torch tells about every optional package that it could have used.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    bundle = export_bundle(
        ExportOptions(checkpoint, out, precision, name, card, manifest, limit, overwrite),
        report=lambda message: typer.echo(message, err=True),
    )
    size = sum(entry.bytes for entry in bundle.files.values()) / 1e6
    typer.echo(f"{bundle.path}: {', '.join(bundle.precisions)}, {size:.1f} MB")


def main() -> None:
    """Run the command; the entry point of the package."""
    run_command(app, "asr-export", extra="export")
