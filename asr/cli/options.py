"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""

Model = Annotated[
    Path | None,
    typer.Option("--model", metavar="DIR", help="A model bundle; default: the built-in English."),
]
Precision = Annotated[
    str, typer.Option("--precision", help="int8, or fp32 where the model has it.")
]
ChunkMs = Annotated[
    int | None,
    typer.Option(
        "--chunk-ms",
        metavar="MS",
        help="Audio per encoder call: 160, 320, 640, or another multiple of 40; "
        "default: the model's own.",
    ),
]
Threads = Annotated[int, typer.Option("--threads", help="Threads of the inference engine.")]
