"""`asr tune`: how a model runs best on this machine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.budget import CHUNKS_MS, Budget
from asr.bundle import builtin_bundle_path, open_bundle
from asr.cli.options import (
    EXIT_INTERRUPTED,
    BudgetMemoryMb,
    BudgetRtf,
    Limit,
    Model,
    Split,
    check_destination,
)
from asr.cli.signals import stop_on_signals
from asr.errors import AsrError, BudgetError
from asr.profile import usable_cpus
from asr.tuned import read_tuned, write_tuned

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from asr.evaluation.tuning import Candidate, Trial, Tuning

_LATENCY_MS = 1000.0
"""Without a latency budget the longest chunks would win: they are the cheapest and the most
accurate, and their words come seconds late."""


def tune_command(
    manifests: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="MANIFEST...",
            help="Transcribed recordings: JSON lines with id, audio, duration, text. Some minutes "
            "of what will be heard.",
        ),
    ] = None,
    split: Split = None,
    limit: Limit = None,
    model: Model = None,
    budget_rtf: BudgetRtf = None,
    budget_memory_mb: BudgetMemoryMb = None,
    budget_latency_ms: Annotated[
        float,
        typer.Option(
            "--budget-latency-ms",
            metavar="MS",
            help="Most time from a sound to its text. There is always one: without it the longest "
            "chunks would win.",
        ),
    ] = _LATENCY_MS,
    chunk_ms: Annotated[
        list[int] | None,
        typer.Option(
            metavar="MS", help="Chunks to try, repeated; default: 160, 320, 640, 1280 and 2560."
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(
            min=1, metavar="N", help="Thread counts to try, repeated; default: 1, 2, 4 ... all."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="OUT.json", help="Write all figures to this JSON file."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="OUT.svg", help="Draw the operating points.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure and tell; keep nothing.")
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Instead: forget what was chosen for this model.")
    ] = False,
) -> None:
    """Find out how a model runs best on this machine, and run it so from now on.

    Each precision, engine, thread count and chunk is measured on the recordings, in a process of
    its own: WER, RTF, peak memory, latency. Of those within the budgets the most accurate is
    chosen; of those whose WER can't be told from its, the fastest. That is kept in this machine's
    profile, and used where no option says otherwise; `asr info` tells. Ctrl-C ends it early: what
    was measured is reported, and nothing is kept.
    """
    # Imported here, as everything heavy below, so that the other commands start fast.
    from rich.console import Console

    bundle = open_bundle(model or builtin_bundle_path())
    if forget:
        known = read_tuned(bundle)
        if known is not None:
            write_tuned(bundle, None)
        typer.echo(f"forgotten: {known}" if known else "nothing was chosen here")
        return
    if not manifests:
        raise AsrError("no recordings; name manifests of transcribed ones: asr tune MANIFEST...")
    for option, path in (("--report", report), ("--plot", plot)):
        if path is not None:
            check_destination(option, path, manifests)
    if plot is not None and plot.suffix != ".svg":
        raise AsrError(f"--plot {plot}: expected a name that ends in .svg")

    from asr import load
    from asr.evaluation.corpora import read_corpora
    from asr.evaluation.envelope import describe_evaluation, write_result
    from asr.evaluation.tuning import candidates, search, start, thread_counts, tuned_point

    budget = Budget(budget_rtf, budget_memory_mb, budget_latency_ms)
    manifest = read_corpora(manifests, split, limit)
    if not manifest.utterances:
        raise AsrError("no usable recording in the manifests")
    envelope = describe_evaluation(load(model, threads=1), manifests, split, limit)
    counts = threads or thread_counts(usable_cpus())
    space = candidates(bundle, counts, chunk_ms or CHUNKS_MS)
    console = Console(stderr=True)
    with (
        stop_on_signals() as stopped,
        _progress(console, len(space) * len(manifest.utterances)) as watch,
    ):
        result = search(
            space,
            manifest.utterances,
            budget,
            partial(start, model),
            watch=watch,
            stopped=stopped,
        )
    for item in (*manifest.skipped, *result.skipped):
        console.print(f"skipped {item.id}: {item.reason}", highlight=False, soft_wrap=True)
    chosen, refused = None, None
    try:
        chosen = result.choose()
    except BudgetError as error:
        refused = error
    Console().print(_table(result, chosen))
    for why, names in _given_up(result).items():
        console.print(f"not measured: {'; '.join(names)}: {why}", highlight=False, soft_wrap=True)
    content = result.to_dict(envelope, chosen)
    if report is not None:
        write_result(report, content)
    if plot is not None:
        _plot(content, plot, console)
    if not result.complete:
        console.print("interrupted: of the figures so far nothing is kept", style="yellow")
        raise typer.Exit(EXIT_INTERRUPTED)
    if chosen is None:
        assert refused is not None
        raise refused
    if dry_run:
        console.print(f"chosen, and not kept: {chosen.candidate}", highlight=False)
        return
    write_tuned(bundle, tuned_point(chosen))
    console.print(
        f"chosen, and used from now on: {chosen.candidate} (asr tune --forget undoes it)",
        style="green",
        highlight=False,
        soft_wrap=True,
    )


@contextmanager
def _progress(console: "Console", turns: int) -> "Iterator[Callable[[Candidate], None]]":
    """Show whose turn it is. Drawn by who measures and between recordings only: a thread that draws
    would be in the figures."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(bar_width=20), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=turns)

        def watch(candidate: "Candidate") -> None:
            bar.update(task, description=str(candidate), advance=1, refresh=True)

        yield watch


def _table(result: "Tuning", chosen: "Trial | None") -> "Table":
    from rich.table import Table

    table = Table()
    table.add_column("operating point")
    for column in ("WER", "RTF", "latency", "peak memory", ""):
        table.add_column(column, justify="right")
    front = result.front
    for trial in result.trials:
        measured = trial.measured
        if measured is None:
            continue
        mark = "chosen" if trial is chosen else "front" if trial in front else ""
        table.add_row(
            str(trial.candidate),
            f"{measured.wer:.2%}",
            f"{measured.rtf:.4f}",
            f"{measured.latency_ms:.0f} ms",
            f"{measured.memory_mb:.0f} MB",
            mark,
            style="bold" if trial is chosen else None,
        )
    return table


def _given_up(result: "Tuning") -> dict[str, list[str]]:
    """What has no figures, by reason."""
    reasons: dict[str, list[str]] = {}
    for trial in result.trials:
        if trial.given_up is not None:
            reasons.setdefault(trial.given_up, []).append(str(trial.candidate))
    return reasons


def _plot(content: object, plot: Path, console: "Console") -> None:
    from asr.evaluation.report.beside import tuning_chart
    from asr.evaluation.report.standalone import standalone
    from asr.whole_files import write_whole

    chart = tuning_chart(content)
    if chart is None:
        console.print(f"no {plot}: nothing was measured to its end", soft_wrap=True)
        return
    write_whole(plot, lambda path: path.write_text(standalone(chart), encoding="utf-8"))
