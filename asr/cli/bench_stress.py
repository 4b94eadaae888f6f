"""`asr bench --stress`: a run as it goes, its tables, and its exit code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from asr.cli.options import EXIT_INTERRUPTED, check_destination
from asr.cli.signals import stop_on_signals
from asr.errors import AsrError, BudgetError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from asr.evaluation.playback import Recording
    from asr.evaluation.under_load.live_run import LiveRun
    from asr.evaluation.under_load.stress import Progress, StressPlan, StressReport
    from asr.recognizer import Recognizer

_PLOT_FORMATS = (".png", ".svg", ".pdf")

_EXIT_BROKEN = 1


def stress_bench(
    recognizer: "Recognizer",
    recordings: "tuple[Recording, ...]",
    plan: "StressPlan",
    sources: list[Path],
    report: Path | None,
    plot: Path | None,
) -> None:
    """Run, show, write the report and the picture, and exit as `asr bench --help` says."""
    from rich.console import Console

    from asr.evaluation.envelope import describe_run, write_result
    from asr.evaluation.under_load.stress import run_stress

    envelope = describe_run(recognizer)
    console = Console(stderr=True)
    with stop_on_signals() as stopped, _progress(console) as watch:
        result = run_stress(recognizer, recordings, plan, watch=watch, stopped=stopped)
    for lines in [_ladder(result), *_run_facts(result)]:
        Console().print(lines, highlight=False, soft_wrap=isinstance(lines, str))
    if report is not None:
        write_result(report, result.to_dict(envelope, [str(source) for source in sources]))
    if plot is not None and result.governed is not None:
        from asr.evaluation.under_load.stress_plot import write_plot

        write_plot(result, plot)
    elif plot is not None:
        console.print(f"no {plot}: the run with the budget did not begin", soft_wrap=True)
    _conclude(result, console)


def check_plot(plot: Path) -> None:
    """Raise AsrError if it can't be drawn: better now than at the end."""
    check_destination("--plot", plot)
    if plot.suffix not in _PLOT_FORMATS:
        raise AsrError(f"--plot {plot}: expected a name that ends in {', '.join(_PLOT_FORMATS)}")
    if find_spec("matplotlib") is None:
        raise AsrError("--plot needs matplotlib: pip install 'earshot-asr[eval]'")


@contextmanager
def _progress(console: "Console") -> Iterator[Callable[["Progress"], None]]:
    """Show where a measurement stands, in a line that changes."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as ProgressBar

    # Drawn once a second by who measures: a thread that draws ten times a second would cost more
    # than the stream, and be in its figures.
    bar = ProgressBar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[figures]}"),
        console=console,
        auto_refresh=False,
        transient=True,
    )
    with bar:
        task = bar.add_task("calibrating", total=None, figures="")
        bar.refresh()

        def watch(progress: "Progress") -> None:
            bar.update(
                task,
                description=progress.section,
                total=progress.seconds,
                completed=progress.sample.t,
                figures=_figures(progress),
            )
            bar.refresh()

        yield watch


def _figures(progress: "Progress") -> str:
    sample = progress.sample
    rtf = "" if sample.rtf is None else f"rtf {sample.rtf:.4f}"
    if progress.budget_rtf is not None:
        rtf += f" of {progress.budget_rtf:.4f}"
    return f"{rtf}  {sample.point or ''}  queue {sample.queue_s:.1f} s  {sample.resident_mb:.0f} MB"


def _ladder(report: "StressReport") -> "Table":
    """The operating points, best first."""
    from rich.table import Table

    table = Table()
    table.add_column("operating point")
    for column in ("RTF idle", "RTF under load", "used for"):
        table.add_column(column, justify="right")
    run = report.governed
    used_s = {item.point: item.audio_s for item in run.report.points} if run else {}
    for point, idle_rtf in report.calibrated.items():
        loaded = f"{report.measured[point]:.4f}" if point in report.measured else ""
        used = f"{used_s[point]:.1f} s" if point in used_s else ""
        table.add_row(str(point), f"{idle_rtf:.4f}", loaded, used)
    return table


def _run_facts(report: "StressReport") -> list["str | Table"]:
    """What the run with the budget came to: its decisions in the order of time, and its figures.
    Nothing if it did not begin."""
    from rich.table import Table

    from asr.supervisor import describe

    run = report.governed
    if run is None or report.budget_rtf is None:
        return []
    facts = run.report
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    errors = run.word_errors()
    for name, value in [
        ("budget RTF", f"{report.budget_rtf:.4g}{_where_from(report)}"),
        ("RTF of the last minute", f"{facts.rtf_last_min:.4f}"),
        ("RTF of all", f"{facts.rtf:.4f}"),
        ("audio", f"{facts.audio_s:.1f} s{'' if report.complete else ' (interrupted)'}"),
        ("audio lost", f"{facts.lost_audio_s:.1f} s"),
        ("longest queue", f"{facts.max_queue_s:.1f} s"),
        ("latency, p95 at the end", f"{facts.latency_p95_ms:.0f} ms"),
        ("ended at", _ended_at(report, run)),
        ("moves", f"{len(facts.moves)}"),
        ("overruns", f"{len(facts.overruns)}"),
        ("peak memory", f"{facts.peak_memory_mb:.0f} MB"),
        (
            "WER",
            f"{errors.rate:.1%} of {errors.words} words"
            if errors
            else "no known text was finished",
        ),
    ]:
        table.add_row(name, value)
    return [*map(describe, facts.events), table]


def _ended_at(report: "StressReport", run: "LiveRun") -> str:
    if run.ended_at is None:
        return "nothing recognised yet"
    return f"{run.ended_at}{', the best point' if run.ended_at == report.best else ''}"


def _where_from(report: "StressReport") -> str:
    if report.plan.budget_rtf is not None:
        return ""
    return f" ({report.plan.budget_factor:g} x {report.lowest_rtf:.4f} of {report.lowest})"


def _conclude(report: "StressReport", console: "Console") -> None:
    """Say whether the promises were kept, and exit accordingly.

    Raises BudgetError if the budget was refused.
    """
    for line in report.broken:
        console.print(f"broken: {line}", style="red", highlight=False, soft_wrap=True)
    if report.refused is not None:
        raise BudgetError(report.refused)
    if not report.complete:
        console.print("interrupted: the figures are of a part only", style="yellow")
        raise typer.Exit(EXIT_INTERRUPTED)
    if report.broken:
        raise typer.Exit(_EXIT_BROKEN)
    console.print("kept: no audio lost, the last minute within the budget", style="green")
    best_rtf, budget_rtf = report.ungoverned_rtf, report.budget_rtf
    if best_rtf is not None and budget_rtf is not None and best_rtf <= budget_rtf:
        console.print(
            f"{report.best}, the best point, is within it without a governor too ({best_rtf:.4f}): "
            "a smaller budget or more --hogs would put it to the test.",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
