"""What a terminal shows while somebody speaks: in every size, and without colours too."""

import io
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from asr.budget import Budget, OperatingPoint
from asr.cli.live_view import LiveView, Status, clock_time, decibels
from asr.results import Endpoint, Moved, Overrun, Partial
from asr.supervisor import BudgetReport

ROOT = Path(__file__).parents[2]
LADDER = tuple(OperatingPoint(ms) for ms in (160, 320, 640))


def report(budget: Budget, ladder: tuple[OperatingPoint, ...] = LADDER) -> BudgetReport:
    return BudgetReport(
        budget=budget,
        ladder=ladder,
        points=(),
        moves=(),
        overruns=(),
        audio_s=62.0,
        lost_audio_s=0.0,
        rtf=0.02,
        rtf_last_min=0.025,
        cpu_rtf=0.02,
        latency_p95_ms=330.0,
        max_queue_s=0.0,
        peak_memory_mb=101.0,
    )


def status(budget: Budget | None = None, **changes: object) -> Status:
    values = {
        "state": "listening",
        "heard_s": 62.0,
        "peak": 0.1,
        "queued_s": 0.0,
        "point": LADDER[1],
        "resident_mb": 99.0,
        "report": report(budget or Budget(), LADDER if budget else LADDER[1:2]),
    }
    return Status(**{**values, **changes})


class Shown:
    """A view, and what it printed."""

    def __init__(self, width: int = 80, height: int = 24) -> None:
        self.now = 0.0
        self.output = io.StringIO()
        self.console = Console(file=self.output, width=width, height=height, highlight=False)
        self.view = LiveView(self.console, "USB Mic, 48 kHz", has_keys=True, clock=lambda: self.now)

    def panel(self, current: Status) -> list[str]:
        return self.view.panel(current).plain.split("\n")

    def line(self, current: Status, start: str) -> str:
        (line,) = (line for line in self.panel(current) if line.startswith(f" {start} "))
        return " ".join(line.split())


def said(text: str, stable: str = "") -> Partial:
    return Partial(1.0, text, stable, ())


def test_the_panel() -> None:
    shown = Shown()
    shown.view.show(said("she looked out of the win", "she looked out"))
    panel = shown.panel(status(Budget(0.1, 150, 600)))
    assert panel[1].split() == ["●", "listening", "USB", "Mic,", "48", "kHz", "1:02"]
    assert panel[3] == " she looked out of the win"
    assert shown.line(status(), "level").endswith("-20 dB")
    assert panel[-1].strip() == "space pauses · q ends"


def test_what_may_still_change_is_dim() -> None:
    shown = Shown()
    shown.view.show(said("she looked out of", "she looked"))
    panel = shown.view.panel(status())
    start = panel.plain.index("she looked")
    dim = [span for span in panel.spans if span.style == "dim" and span.start >= start]
    assert panel.plain[dim[0].start : dim[0].end] == " out of"


def test_a_bar_for_each_budget() -> None:
    shown = Shown()
    held = status(Budget(rtf=0.1, memory_mb=150, latency_ms=600))
    for name, share, figure in [
        ("rtf", 0.25, "0.025 of 0.1"),
        ("memory", 0.66, "99 of 150 MB"),
        ("latency", 0.55, "330 of 600 ms"),
    ]:
        _, bar, found = shown.line(held, name).split(" ", 2)
        assert found == figure
        assert bar.count("━") == math.ceil(share * len(bar))
    assert shown.line(held, "chunk") == "chunk 160 [320] 640 ms"


@pytest.mark.parametrize(
    ("rtf", "style", "full"), [(0.1, "green", 8), (0.026, "yellow", 31), (0.02, "red", 32)]
)
def test_a_budget_that_is_near_or_broken(rtf: float, style: str, full: int) -> None:
    panel = Shown().view.panel(status(Budget(rtf=rtf)))
    styles = [
        span.style
        for span in panel.spans
        if set(panel.plain[span.start : span.end]) == {"━"} and span.end - span.start == full
    ]
    assert style in styles


def test_plain_figures_without_a_budget() -> None:
    panel = "\n".join(Shown().panel(status()))
    assert "rtf 0.025   latency 330 ms   memory 99 MB   chunk 320 ms" in panel
    assert " of " not in panel


def test_states_and_a_queue() -> None:
    shown = Shown()
    assert "‖ paused" in shown.panel(status(state="paused"))[1]
    assert "space goes on · q ends" in shown.panel(status(state="paused"))[-1]
    assert "● finishing" in shown.panel(status(state="finishing"))[1]
    assert "2.5 s behind   1:02" in shown.panel(status(queued_s=2.5))[1]


def test_segments_and_moves_stay_above() -> None:
    shown = Shown()
    shown.view.show(said("one two"))
    shown.view.show(Endpoint(5.0, "pause", "1.2 s of silence", "one two", (), 1.0, 3.0))
    shown.view.show(Endpoint(8.0, "silence", "2.4 s without a word", "", (), 8.0, 8.0))
    shown.view.show(Moved(65.0, LADDER[0], LADDER[2], "rtf 0.2 of 0.1"))
    lines = [" ".join(line.split()) for line in shown.output.getvalue().splitlines()]
    assert lines == ["0:01 one two pause", "1:05 chunks of 160 ms -> 640 ms rtf 0.2 of 0.1"]
    assert "one two" not in "\n".join(shown.panel(status()))


def test_a_note_is_shown_for_a_while() -> None:
    shown = Shown()
    shown.view.show(Overrun(3.0, "rtf", 0.2, 0.1, 0.0, "stays at the lowest point, 640 ms"))
    assert "3.0 s: over budget: rtf 0.2 of 0.1" in shown.panel(status())[-1]
    shown.now += 60
    assert shown.panel(status())[-1].strip() == "space pauses · q ends"


def test_the_level_falls_slowly_and_rises_at_once() -> None:
    shown = Shown()
    for peak, seconds, level in [(0.0, 0, -60), (1.0, 0.2, 0), (0.0, 0.2, -6), (0.5, 0.2, -6)]:
        shown.now += seconds
        shown.view.draw(lambda peak=peak: status(peak=peak), now=True)
        assert f"{level} dB" in shown.line(status(peak=0.0), "level")
    shown.view.close()


def test_it_draws_a_few_times_a_second() -> None:
    shown = Shown()
    asked = []

    def current() -> Status:
        asked.append(shown.now)
        return status()

    for _ in range(100):
        shown.view.draw(current)
        shown.now += 0.05
    shown.view.close()
    assert 4 * 5 <= len(asked) <= 10 * 5


@given(
    width=st.integers(10, 200),
    height=st.integers(3, 50),
    words=st.integers(0, 80),
    stable=st.integers(0, 400),
    has_budget=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_it_fits_every_terminal(
    width: int, height: int, words: int, stable: int, has_budget: bool
) -> None:
    """As high all the time, never as high as the terminal, and the last word is always there."""
    shown = Shown(width, height)
    text = " ".join(f"word{number}" for number in range(words))
    budget = Budget(0.1, 150, 600) if has_budget else None
    empty = shown.panel(status(budget))
    shown.view.show(said(text, text[:stable]))
    shown.view.note("something that is longer than a narrow terminal has room for in a line")
    panel = shown.panel(status(budget))
    assert len(panel) == len(empty) < max(height, 4)
    if words:
        assert f"word{words - 1}" in "\n".join(panel)
    shown.console.print(shown.view.panel(status(budget)))
    assert all(len(line) <= width for line in shown.output.getvalue().splitlines())


@pytest.mark.parametrize(("peak", "expected"), [(0, -60), (1e-9, -60), (0.1, -20), (1, 0)])
def test_decibels(peak: float, expected: float) -> None:
    assert decibels(peak) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0:00"), (59.99, "0:59"), (3599, "59:59"), (3602, "1:00:02")]
)
def test_clock_time(seconds: float, expected: str) -> None:
    assert clock_time(seconds) == expected


def test_the_picture_for_the_readme(tmp_path: Path) -> None:
    """`make picture` draws it, and it needs nothing from elsewhere."""
    command = [sys.executable, "-m", "tests.asr.mic_picture", str(tmp_path / "mic.svg")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=60)
    svg = (tmp_path / "mic.svg").read_text(encoding="utf-8")
    for part in ("listening", "latency", "of&#160;150&#160;MB", "pause"):
        assert part in svg
    assert not re.search(r"<script|url\(.?http|@import|href", svg)
