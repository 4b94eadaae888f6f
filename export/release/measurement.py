"""Word error rates of a bundle on the development sets.

Nothing here imports torch: each process that measures would load it.
"""

import multiprocessing
import signal
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from asr.errors import AsrError, ExportError
from asr.evaluation.corpora.manifest import Manifest
from asr.evaluation.evaluate import Evaluation, EvaluationReport
from asr.recognizer import load

Reports = Mapping[str, EvaluationReport]
"""By development set."""

MEASURED: Mapping[str, tuple[str, str | None]] = {
    "int8": ("int8", None),
    "fp32": ("fp32", None),
    "one pass": ("int8", "beam"),
    "greedy": ("int8", "greedy"),
}
"""Precision and search, None for the bundle's own, of all that is measured."""


def measure(bundle: Path, sets: Mapping[str, Manifest], console: Console) -> Mapping[str, Reports]:
    """Evaluate all of MEASURED on all sets, as `asr eval` does; return the reports by its names.

    Each has a process, and each process one thread. Raises AsrError if one fails.
    """
    total = sum(len(manifest.utterances) for manifest in sets.values())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    reports: dict[str, dict[str, EvaluationReport]] = {name: {} for name in MEASURED}
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        bars = {name: progress.add_task(name, total=total) for name in MEASURED}
        running = {_start(bundle, name, sets): name for name in MEASURED}
        while running:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                measured = running[connection]
                message = _receive(connection, measured)
                if message is None:
                    progress.advance(bars[measured])
                    continue
                name, report = message
                reports[measured][name] = report
                console.print(f"{measured}, {name}: {_summary(report)}", soft_wrap=True)
                if len(reports[measured]) == len(sets):
                    del running[connection]
    return reports


def _start(bundle: Path, measured: str, sets: Mapping[str, Manifest]) -> Connection:
    # A fresh process: torch's threads would not survive a fork.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, bundle, *MEASURED[measured], dict(sets))
    context.Process(target=_evaluate, args=arguments, daemon=True).start()
    sender.close()  # the process has its own; when that one closes, the process has ended
    return receiver


def _evaluate(
    sender: Connection,
    bundle: Path,
    precision: str,
    search: str | None,
    sets: Mapping[str, Manifest],
) -> None:
    """Send None for each utterance, a name and a report for each set, or the error that ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    try:
        recognizer = load(bundle, precision=precision, search=search)
        for name, manifest in sets.items():
            evaluation = Evaluation(recognizer, skipped=manifest.skipped)
            for utterance in manifest.utterances:
                evaluation.add(utterance)
                sender.send(None)
            sender.send((name, evaluation.report()))
    except BrokenPipeError:
        return  # nobody waits any more
    except AsrError as error:
        sender.send(error)


def _receive(connection: Connection, measured: str) -> tuple[str, EvaluationReport] | None:
    try:
        message: Any = connection.recv()
    except EOFError as error:
        raise ExportError(f"the process that measured {measured} died before its end") from error
    if isinstance(message, AsrError):
        raise message
    return message


def _summary(report: EvaluationReport) -> str:
    errors = report.errors
    return f"WER {errors.rate:.2%} of {errors.words} words in {len(report.scores)} utterances"
