"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    Path | None,
    typer.Option("--model", metavar="DIR", help="A model bundle; default: the built-in English."),
]
Precision = Annotated[
    str, typer.Option("--precision", help="int8, or fp32 where the model has it.")
]
ChunkMs = Annotated[
    int,
    typer.Option(
        "--chunk-ms", help="Audio per encoder call: 160, 320, 640, or another multiple of 40 ms."
    ),
]
Threads = Annotated[int, typer.Option("--threads", help="Threads of the inference engine.")]
