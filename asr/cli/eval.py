"""`asr eval`: the word error rate of a model on transcribed recordings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.budget import Budget
from asr.cli.options import (
    EXIT_INTERRUPTED,
    BudgetLatencyMs,
    BudgetMemoryMb,
    BudgetRtf,
    ChunkMs,
    Model,
    Precision,
    check_destination,
    make_budget,
)
from asr.evaluation.manifest import Manifest, read_manifests

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from asr.evaluation.evaluate import BudgetUse, EvaluationReport
    from asr.recognizer import Recognizer

_SKIPPED_SHOWN = 5

_EXIT_SKIPPED = 2


def evaluate_command(
    manifests: Annotated[
        list[Path],
        typer.Argument(
            metavar="MANIFEST...",
            help="JSON lines: id, audio, duration, text. Several are one set.",
        ),
    ],
    model: Model = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only the rows of this split, such as dev.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only the first N usable rows of each manifest."),
    ] = None,
    precision: Precision = "int8",
    chunk_ms: ChunkMs = None,
    budget_rtf: BudgetRtf = None,
    budget_memory_mb: BudgetMemoryMb = None,
    budget_latency_ms: BudgetLatencyMs = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.json", help="Write all figures and hypotheses to this JSON file."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 2 if a recording was skipped.")
    ] = False,
) -> None:
    """Measure word error rate, real-time factor and memory on transcribed recordings.

    The recordings are streamed block by block, one thread, as a program would. Errors are counted
    with sclite's alignment after one normalisation of both texts; RTF leaves out reading the files.
    A row or recording that can't be used is skipped, and that is said. With a budget, the table has
    what it led to. Ctrl-C ends it early: what was measured so far is reported, marked as
    incomplete.
    """
    # Imported here, as everything heavy below, so that the other commands start fast.
    from rich.console import Console

    from asr import load
    from asr.evaluation.envelope import describe_evaluation

    if report is not None:
        check_destination("--report", report)
    budget = make_budget(budget_rtf, budget_memory_mb, budget_latency_ms)
    manifest = read_manifests(manifests, split, limit)
    recognizer = load(model, precision=precision, chunk_ms=chunk_ms)
    envelope = describe_evaluation(recognizer, manifests, split, limit)
    console = Console(stderr=True)
    result = _evaluate_with_progress(recognizer, manifest, budget, console)
    _print_skipped(result, console)
    Console().print(_table(result))
    if report is not None:
        result.write(report, envelope)
    if not result.complete:
        console.print("interrupted: the figures are of a part only", style="yellow")
        raise typer.Exit(EXIT_INTERRUPTED)
    if strict and result.skipped:
        raise typer.Exit(_EXIT_SKIPPED)


def _evaluate_with_progress(
    recognizer: "Recognizer", manifest: Manifest, budget: Budget | None, console: "Console"
) -> "EvaluationReport":
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from asr.evaluation.evaluate import Evaluation

    evaluation = Evaluation(recognizer, skipped=manifest.skipped, budget=budget)
    complete = True
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        try:
            for utterance in progress.track(manifest.utterances, description="utterances"):
                evaluation.add(utterance)
        except KeyboardInterrupt:
            if evaluation.recognized == 0:
                raise
            complete = False
    return evaluation.report(complete)


def _print_skipped(report: "EvaluationReport", console: "Console") -> None:
    lines = [f"skipped {item.id}: {item.reason}" for item in report.skipped[:_SKIPPED_SHOWN]]
    if len(report.skipped) > _SKIPPED_SHOWN:
        lines.append(f"... and {len(report.skipped) - _SKIPPED_SHOWN} more skipped")
    if lines:
        total = len(report.scores) + len(report.skipped)
        lines.append(f"{len(report.skipped)} of {total} recordings are not in the figures")
    for line in lines:
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _table(report: "EvaluationReport") -> "Table":
    from rich.table import Table

    errors = report.errors
    low, high = report.interval()
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in [
        ("WER", f"{errors.rate:.2%}"),
        ("95 % interval", f"{low:.2%} to {high:.2%}"),
        ("insertions", f"{errors.insertions}"),
        ("deletions", f"{errors.deletions}"),
        ("substitutions", f"{errors.substitutions}"),
        ("words", f"{errors.words}"),
        ("utterances", f"{len(report.scores)}{'' if report.complete else ' (interrupted)'}"),
        ("skipped", f"{len(report.skipped)}"),
        ("audio", f"{report.audio_s / 60:.1f} min"),
        ("RTF", f"{report.rtf:.4f}"),
        ("peak memory", f"{report.peak_rss_mb:.0f} MB"),
        *(_budget_rows(report.budget) if report.budget else []),
    ]:
        table.add_row(name, value)
    return table


def _budget_rows(use: "BudgetUse") -> list[tuple[str, str]]:
    audio_s = sum(item.audio_s for item in use.points) or 1.0
    shares = [f"{item.point} {item.audio_s / audio_s:.0%}" for item in use.points]
    rows = [("moves", f"{use.moves}"), ("overruns", f"{use.overruns}")]
    if use.ended:
        rows.append(("ended by memory", f"{use.ended}"))
    return [*rows, ("chunks", ", ".join(shares))]
