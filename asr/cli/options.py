"""Options that several commands share."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from asr.budget import Budget
from asr.errors import AsrError

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""

Model = Annotated[
    Path | None,
    typer.Option(
        "--model", metavar="PATH", help="A model bundle, a directory or a zip; default: English."
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="int8, int4 or fp32, of those the model has; default: its first.",
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="onnx, ort or executorch, of those the model has; default: what loads fastest.",
    ),
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
Search = Annotated[
    str | None,
    typer.Option(
        "--search",
        metavar="NAME",
        help="two-pass: at once, and again in chunks of 2.56 s, which settle the words; beam: "
        "the first pass alone; greedy: cheaper still, without the language model, with many more "
        "errors; default: two-pass where there is a language model.",
    ),
]
Split = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Only the rows of this split, such as dev."),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, metavar="N", help="Only the first N usable rows of each manifest."
    ),
]
Jobs = Annotated[
    int,
    typer.Option("--jobs", min=1, metavar="N", help="Processes, each with a model and a thread."),
]
Noise = Annotated[
    Path | None,
    typer.Option(
        "--noise",
        metavar="FOLDER",
        help="Add noises of this folder: the fifth that training leaves out.",
    ),
]
BudgetRtf = Annotated[
    float | None,
    typer.Option(
        "--budget-rtf",
        metavar="RTF",
        help="Most compute time per audio time; larger chunks are used where it needs them.",
    ),
]
BudgetMemoryMb = Annotated[
    float | None,
    typer.Option("--budget-memory-mb", metavar="MB", help="Most resident memory."),
]
BudgetLatencyMs = Annotated[
    float | None,
    typer.Option(
        "--budget-latency-ms",
        metavar="MS",
        help="Most time from a sound to its text; memory and RTF go before it.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", help="Threads of the inference engine; default: 1."),
]


def make_budget(
    rtf: float | None, memory_mb: float | None, latency_ms: float | None
) -> Budget | None:
    """Return the budget of these options, None without any. Raises AsrError for impossible ones."""
    budget = Budget(rtf, memory_mb, latency_ms)
    return None if budget == Budget() else budget


def check_destination(option: str, path: Path, inputs: Iterable[Path] = ()) -> None:
    """Raise AsrError where no file can be written, or one of the `inputs` would be lost: better now
    than behind an hour of audio.

    `option` is the one that names `path`.
    """
    if not os.path.isdir(path.parent):
        raise AsrError(f"{option} {path}: there is no directory {path.parent}; make it first")
    if os.path.exists(path) and not os.path.isfile(path):  # a device would be replaced
        raise AsrError(f"{option} {path}: no plain file; expected a file name")
    if os.path.exists(path) and any(_is_same(path, each) for each in inputs):
        raise AsrError(f"{option} {path}: it is read here, and would be lost; name another file")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name):
            pass
    except OSError as error:
        raise AsrError(
            f"{option} {path}: can't be written: {error.strerror}; name another file"
        ) from error


def _is_same(path: Path, other: Path) -> bool:
    return os.path.exists(other) and os.path.samefile(path, other)
