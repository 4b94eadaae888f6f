"""The picture of a stress run: what it cost, where it ran and how much audio waited, over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asr.evaluation.under_load.live_run import RTF_WINDOW_S, LiveRun
from asr.evaluation.under_load.stress import StressReport

# Told apart by their strokes and labels too: it must survive a printer and any eyes.
_STREAM, _LIMIT, _OTHER = "#1d5fa3", "#c0392b", "#6b7280"
_INK, _PALE = "#1f2937", "#e5e7eb"

_LINE = 0.095  # the height of a line of a label, of that of the panel


def write_plot(report: StressReport, path: Path) -> None:
    """Draw the run with the budget, which must be there, into a PNG, SVG or PDF."""
    draw(report).savefig(path, dpi=160)


def draw(report: StressReport) -> Figure:
    """Return the figure: three panels over one axis of time, moves as dotted lines across them."""
    run = report.governed
    if run is None or report.budget_rtf is None:
        raise ValueError("a picture needs the run with the budget")
    figure = Figure(figsize=(8.4, 5.4), layout="constrained")
    rtf, point, queue = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [3.2, 2, 1]}
    )
    end_s = max((sample.t for sample in run.samples), default=1.0)
    queue.set_xlim(0, end_s)
    for axes in (rtf, point, queue):
        axes.grid(axis="y", color=_PALE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(_OTHER)
        axes.tick_params(length=0, labelsize=9, labelcolor=_INK)
        for before, after in pairwise(run.samples):
            if None not in (before.point, after.point) and before.point != after.point:
                axes.axvline(after.t, color=_OTHER, linestyle=":", linewidth=0.9)
    _draw_rtf(rtf, report, run, report.budget_rtf)
    _draw_point(point, run)
    _draw_queue(queue, run)
    queue.set_xlabel("seconds", fontsize=9, color=_INK)
    queue.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 3, 5, 6, 10]))
    _write_above(rtf, _title(report), 43, fontsize=12.5, fontweight="bold", color=_INK)
    _write_above(rtf, _subtitle(report, run, report.budget_rtf), 27, fontsize=9.5, color=_INK)
    return figure


def _title(report: StressReport) -> str:
    hogs = report.plan.hogs
    beside = f"beside {_count(hogs, 'CPU hog', 'CPU hogs')}" if hogs else "without CPU hogs"
    return f"One stream {beside}{'' if report.complete else ' (interrupted)'}"


def _subtitle(report: StressReport, run: LiveRun, budget_rtf: float) -> str:
    facts = run.report
    return (
        f"{facts.lost_audio_s:.1f} s of audio lost, {_count(len(facts.moves), 'move', 'moves')}, "
        f"last minute at an RTF of {facts.rtf_last_min:.3g} with a budget of {budget_rtf:.3g}"
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


@dataclass(frozen=True, slots=True)
class _Label:
    """What stands right of a panel, at the height of a value."""

    text: str
    value: float
    color: str


def _draw_rtf(axes: Axes, report: StressReport, run: LiveRun, budget_rtf: float) -> None:
    known = [(sample.t, sample.rtf) for sample in run.samples if sample.rtf is not None]
    values = [rtf for _, rtf in known]
    labels = [_Label(f"budget {budget_rtf:.3g}", budget_rtf, _LIMIT)]
    axes.axhline(budget_rtf, color=_LIMIT, linestyle="--", linewidth=1.4)
    if report.ungoverned_rtf is not None:
        axes.axhline(report.ungoverned_rtf, color=_OTHER, linestyle="-.", linewidth=1.2)
        text = f"{report.best} without\na budget: {report.ungoverned_rtf:.3g}"
        labels.append(_Label(text, report.ungoverned_rtf, _OTHER))
    axes.plot([t for t, _ in known], values, color=_STREAM, linewidth=2)
    if values:
        labels.append(_Label(f"this stream,\nlast {RTF_WINDOW_S:.0f} s", values[-1], _STREAM))
    top = 1.12 * max(label.value for label in labels)
    axes.set_ylim(0, max(top, 1.05 * max(values, default=0.0)))
    _put_labels(axes, labels)
    _name(axes, "real-time factor")


def _draw_point(axes: Axes, run: LiveRun) -> None:
    ladder = run.report.ladder
    known = [(sample.t, ladder.index(sample.point)) for sample in run.samples if sample.point]
    if known:
        times, rungs = zip((0.0, known[0][1]), *known, strict=True)
        axes.step(times, rungs, where="post", color=_STREAM, linewidth=2)
    axes.set_yticks(range(len(ladder)), [str(point) for point in ladder])
    axes.set_ylim(len(ladder) - 0.6, -0.4)  # the best on top
    _name(axes, "operating point: audio per encoder call")


def _draw_queue(axes: Axes, run: LiveRun) -> None:
    times, queued = [sample.t for sample in run.samples], [sample.queue_s for sample in run.samples]
    axes.fill_between(times, queued, color=_STREAM, step="post", linewidth=0)
    axes.set_ylim(0, max(1.0, 1.1 * max(queued, default=0.0)))
    axes.set_yticks([0, axes.get_ylim()[1]], ["0 s", f"{axes.get_ylim()[1]:.3g} s"])
    most = _Label(f"at most\n{run.report.max_queue_s:.1f} s", 0.5 * axes.get_ylim()[1], _STREAM)
    _put_labels(axes, [most])
    _name(axes, "audio that waits")


def _name(axes: Axes, text: str) -> None:
    """Say what a panel shows, above it."""
    _write_above(axes, text, 6, fontsize=9, color=_OTHER, style="italic")


def _write_above(axes: Axes, text: str, points: float, **style: Any) -> None:
    """Write flush with the left end of a panel, so many points above it."""
    axes.annotate(
        text, (0, 1), (0, points), xycoords="axes fraction", textcoords="offset points", **style
    )


def _put_labels(axes: Axes, labels: Sequence[_Label]) -> None:
    """Write labels right of a panel at their heights, moved up where two would overlap."""
    top = axes.get_ylim()[1]
    free_from = -1.0
    for label in sorted(labels, key=lambda label: label.value):
        half = _LINE * (label.text.count("\n") + 1) / 2
        height = max(label.value / top, free_from + half)
        free_from = height + half
        axes.annotate(
            label.text,
            (1, height),
            (8, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=label.color,
        )
