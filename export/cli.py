"""The `asr-export` command."""

import logging
import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asr.entry import run_command
from asr.errors import ExportError


class Engine(StrEnum):
    """Formats of the graphs in a bundle."""

    onnx = "onnx"
    ort = "ort"
    executorch = "executorch"


class Precision(StrEnum):
    """Arithmetic of the graphs in a bundle."""

    int8 = "int8"
    int4 = "int4"
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
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The bundle to write: a directory, or NAME.zip.")
    ],
    precision: Annotated[
        list[Precision], typer.Option(help="Graphs to put in; can be given several times.")
    ] = [Precision.int8],  # noqa: B006 (typer copies it)
    engine: Annotated[
        list[Engine],
        typer.Option(help="What runs them: any ONNX runtime, onnxruntime alone, or ExecuTorch."),
    ] = [Engine.onnx],  # noqa: B006
    manifest: Annotated[
        Path | None,
        typer.Option(help="JSON lines of recordings on which int8 must do as well as float."),
    ] = None,
    max_wer_delta: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="POINTS",
            help="How much WER that may cost; else no bundle is written. Default: 0.3.",
        ),
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
    plain: Annotated[
        bool,
        typer.Option("--plain", help="The baseline: torch's exporter and dynamic int8, untouched."),
    ] = False,
) -> None:
    """Turn a trained model into a bundle that runs on a device.

    The bundle is written only if its graphs compute what the model computes.
    """
    compares = {"--max-wer-delta": max_wer_delta, "--limit": limit}
    given = [option for option, value in compares.items() if value is not None]
    if given and manifest is None:
        raise ExportError(f"{given[0]} is about words, and there are none to compare: --manifest")
    if max_wer_delta is not None and math.isnan(max_wer_delta):
        raise ExportError("--max-wer-delta nan; expected points of WER, such as 0.3")
    # torch: seconds, so not for --help
    from export.pipeline import ExportOptions, export_bundle
    from export.verify import MAX_WER_DELTA

    # torch tells about every optional package that it could have used.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    bundle = export_bundle(
        ExportOptions(
            checkpoint,
            out,
            precisions=[each.value for each in precision],
            name=name,
            card=card,
            manifest=manifest,
            limit=limit,
            max_wer_delta=MAX_WER_DELTA if max_wer_delta is None else max_wer_delta,
            overwrite=overwrite,
            engines=[each.value for each in engine],
            plain=plain,
        ),
        report=lambda message: typer.echo(message, err=True),
    )
    size = sum(entry.bytes for entry in bundle.files.values()) / 1e6
    variants = ", ".join(f"{graphs.precision} for {graphs.engine}" for graphs in bundle.variants)
    typer.echo(f"{bundle.path}: {variants}; {size:.1f} MB")


def main() -> None:
    """Run the command; the entry point of the package."""
    run_command(app, "asr-export", extra="export")
