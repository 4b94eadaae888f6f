"""The picture of a stress run says what it shows, and draws what the report holds."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from asr.budget import Budget, OperatingPoint
from asr.evaluation.under_load.live_run import LiveRun, Sample
from asr.evaluation.under_load.stress import StressPlan, StressReport
from asr.evaluation.under_load.stress_plot import draw, write_plot
from asr.results import Moved
from asr.supervisor import BudgetReport, PointTime

HIGH, MIDDLE, LOW = LADDER = tuple(OperatingPoint(ms) for ms in (320, 640, 1280))


def report_of(
    samples: Sequence[Sample],
    hogs: int = 4,
    complete: bool = True,
    moves: int = 2,
    ungoverned_rtf: float = 0.03,
) -> StressReport:
    facts = BudgetReport(
        budget=Budget(rtf=0.02),
        ladder=LADDER,
        points=(PointTime(HIGH, 3.0),),
        moves=(Moved(1.0, HIGH, LOW, "why"),) * moves,
        overruns=(),
        audio_s=9.0,
        lost_audio_s=0.25,
        rtf=0.017,
        rtf_last_min=0.0156,
        cpu_rtf=0.01,
        latency_p95_ms=700.0,
        max_queue_s=1.5,
        peak_memory_mb=100.0,
    )
    run = LiveRun(facts, tuple(samples), (), (), 0.0, complete)
    calibrated = dict.fromkeys(LADDER, 0.01)
    measured = {LOW: 0.016, MIDDLE: 0.02, HIGH: ungoverned_rtf}
    return StressReport(StressPlan(9, 3, hogs, 0.02), calibrated, measured, 0.02, run, hogs)


RTFS = [None, 0.028, 0.024, 0.018, 0.015]
POINTS = [None, HIGH, HIGH, LOW, LOW]
SAMPLES = [
    Sample(float(second), rtf, point, 0.1 * second, 90.0)
    for second, (rtf, point) in enumerate(zip(RTFS, POINTS, strict=True), start=1)
]


def words(figure: Figure) -> str:
    """All that is written in a figure."""
    found = [text.get_text() for text in figure.findobj(Annotation)]
    for axes in figure.axes:
        found += [axes.get_xlabel(), *(tick.get_text() for tick in axes.get_yticklabels())]
    return "\n".join(found)


def test_it_says_what_it_shows() -> None:
    text = words(draw(report_of(SAMPLES)))
    assert "One stream beside 4 CPU hogs\n" in text
    assert "0.2 s of audio lost, 2 moves, last minute at an RTF of 0.0156" in text
    assert "real-time factor" in text
    assert "budget 0.02" in text
    assert "320 ms without\na budget: 0.03" in text
    assert "this stream,\nlast 10 s" in text
    assert "operating point" in text
    assert "320 ms\n640 ms\n1280 ms" in text
    assert "audio that waits" in text
    assert "at most\n1.5 s" in text
    assert "seconds" in text


def test_one_is_singular_and_none_is_said() -> None:
    assert "beside 1 CPU hog\n" in words(draw(report_of(SAMPLES, hogs=1)))
    assert "without CPU hogs" in words(draw(report_of(SAMPLES, hogs=0)))
    assert " 1 move, " in words(draw(report_of(SAMPLES, moves=1)))
    assert "(interrupted)" not in words(draw(report_of(SAMPLES)))
    assert "CPU hogs (interrupted)" in words(draw(report_of(SAMPLES, complete=False)))


def test_the_curves_are_those_of_the_report() -> None:
    rtf, point, queue = draw(report_of(SAMPLES)).axes
    (curve,) = [line for line in rtf.lines if len(line.get_xdata()) == 4]
    assert list(curve.get_xdata()) == [2, 3, 4, 5]
    assert list(curve.get_ydata()) == RTFS[1:]
    heights = [line.get_ydata()[0] for line in rtf.lines if line.get_linestyle() in ("--", "-.")]
    assert heights == [0.02, 0.03]
    (steps,) = [line for line in point.lines if len(line.get_xdata()) > 2]
    assert list(steps.get_ydata()) == [0, 0, 0, 2, 2]
    assert point.get_ylim()[0] > point.get_ylim()[1], "the best point is on top"
    for axes in (rtf, point, queue):
        assert axes.get_xlim() == (0, 5)
        dotted = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
        assert dotted == [4], "where it moved"
    assert queue.get_ylim()[1] == 1.0


def test_labels_keep_clear_of_each_other() -> None:
    """Also where all three values are the same."""
    same = [replace(sample, rtf=0.02) for sample in SAMPLES]
    figure = draw(report_of(same, ungoverned_rtf=0.02))
    figure.canvas.draw()
    beside = [text for text in figure.axes[0].findobj(Annotation) if text.xy[0] == 1]
    boxes = sorted((text.get_window_extent() for text in beside), key=lambda box: box.y0)
    assert len(boxes) == 3
    for below, above in pairwise(boxes):
        assert below.y1 <= above.y0


@pytest.mark.parametrize("samples", [[], SAMPLES[:1]])
def test_a_run_that_was_interrupted_early_can_be_drawn(
    samples: list[Sample], tmp_path: Path
) -> None:
    report = report_of(samples, complete=False)
    write_plot(replace(report, measured={}), tmp_path / "out.svg")
    assert (tmp_path / "out.svg").stat().st_size > 0


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_formats(suffix: str, magic: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    write_plot(report_of(SAMPLES), path)
    assert path.read_bytes().startswith(magic)


def test_there_is_no_picture_without_a_run() -> None:
    with pytest.raises(ValueError, match="needs the run with the budget"):
        draw(replace(report_of(SAMPLES), governed=None))
