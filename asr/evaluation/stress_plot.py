"""The picture of a stress run: what it cost, where it ran and how much audio waited, over time."""

from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asr.evaluation.live_run import LiveRun
from asr.evaluation.stress import StressReport

_INK, _GREY, _PALE = "black", "0.45", "0.85"  # no colour: it must survive a printer


def write_plot(report: StressReport, path: Path) -> None:
    """Draw the run with the budget, which must be there, into a PNG, SVG or PDF."""
    draw(report).savefig(path, dpi=150)


def draw(report: StressReport) -> Figure:
    """Return the figure: three panels over one axis of time, moves as dotted lines across them."""
    run = report.governed
    if run is None or report.budget_rtf is None:
        raise ValueError("a picture needs the run with the budget")
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    rtf, point, queue = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [3, 2, 1.5]}
    )
    _draw_rtf(rtf, report, run, report.budget_rtf)
    _draw_point(point, report, run)
    _draw_queue(queue, run)
    for axes in (rtf, point, queue):
        axes.grid(axis="y", color=_PALE, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        for before, after in pairwise(run.samples):
            if None not in (before.point, after.point) and before.point != after.point:
                axes.axvline(after.t, color=_GREY, linestyle=":", linewidth=1)
    queue.set_xlabel("seconds")
    queue.set_xlim(0, run.samples[-1].t if run.samples else 1)
    figure.suptitle(_title(report, run), fontsize=11)
    return figure


def _title(report: StressReport, run: LiveRun) -> str:
    facts = run.report
    hogs = f"{report.plan.hogs} CPU hog{'' if report.plan.hogs == 1 else 's'}"
    moves = f"{len(facts.moves)} move{'' if len(facts.moves) == 1 else 's'}"
    return (
        f"One stream beside {hogs}, budget RTF {report.budget_rtf:.3g}\n"
        f"{facts.lost_audio_s:.1f} s of audio lost, {moves}, last minute at RTF "
        f"{facts.rtf_last_min:.3g}{'' if report.complete else ' (interrupted)'}"
    )


def _draw_rtf(axes: Axes, report: StressReport, run: LiveRun, budget_rtf: float) -> None:
    known = [(sample.t, sample.rtf) for sample in run.samples if sample.rtf is not None]
    axes.plot([t for t, _ in known], [rtf for _, rtf in known], color=_INK, label="last 10 s")
    axes.axhline(budget_rtf, color=_INK, linestyle="--", label=f"budget {budget_rtf:.3g}")
    if report.ungoverned_rtf is not None:
        best = next(iter(report.calibrated))
        label = f"{best} without a budget: {report.ungoverned_rtf:.3g}"
        axes.axhline(report.ungoverned_rtf, color=_GREY, linestyle="-.", label=label)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("real-time factor")
    axes.legend(loc="upper right", framealpha=1, fontsize=8)


def _draw_point(axes: Axes, report: StressReport, run: LiveRun) -> None:
    ladder = list(report.calibrated)
    known = [sample for sample in run.samples if sample.point is not None]
    axes.step(
        [sample.t for sample in known],
        [ladder.index(sample.point) for sample in known if sample.point],
        where="post",
        color=_INK,
    )
    axes.set_yticks(range(len(ladder)), [str(point) for point in ladder])
    axes.set_ylim(len(ladder) - 0.5, -0.5)  # the best on top
    axes.set_ylabel("operating point")


def _draw_queue(axes: Axes, run: LiveRun) -> None:
    times, queued = [sample.t for sample in run.samples], [sample.queue_s for sample in run.samples]
    axes.fill_between(times, queued, color=_GREY, step="post")
    axes.set_ylim(0, max(1.0, 1.1 * max(queued, default=0.0)))
    axes.set_ylabel("queue (s)")
