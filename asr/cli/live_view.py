"""What `asr mic` shows in a terminal: the text as it grows, and what it costs beside its budgets.

Finished segments are printed and scroll away like any output. Below them is a panel of fixed size
that is drawn again a few times a second, and disappears in the end.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from asr.budget import OperatingPoint
from asr.results import Endpoint, Event, Moved, Overrun, Partial
from asr.supervisor import BudgetReport, describe

FRAME_S = 0.2
"""From one drawing to the next. One takes about 1 ms: five a second are 0.5 % of a core, and look
alive."""

_TEXT_LINES = 3
_FULL_HEIGHT = 16  # of a terminal; a lower one gets the text and one line
_BAR = 32  # columns
_QUIETEST_DB = -60.0
_FALL_DB_PER_S, _FALL_S = 30.0, 2.0  # of the level meter: slow enough for an eye, to its end
_LOUD_DB, _CLIPPING_DB = -12.0, -1.0
_NOTE_S = 10.0
_NEAR = 0.9  # of a budget
_QUEUE_SHOWN_S = 1.0

_FULL, _EMPTY = "━", "─"  # two characters, for a terminal may have no colours
_CALM, _WARN, _ALARM, _FAINT = "green", "yellow", "red", "bright_black"


@dataclass(frozen=True, slots=True)
class Status:
    """Where a session stands when the panel is drawn."""

    state: Literal["listening", "paused", "finishing"]
    heard_s: float  # seconds of audio so far
    peak: float  # highest absolute value since the last drawing, in [0, 1]
    queued_s: float  # audio that waits
    point: OperatingPoint
    resident_mb: float
    report: BudgetReport


class LiveView:
    """The panel and the segments above it."""

    def __init__(
        self,
        console: Console,
        source: str,
        *,
        has_keys: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`source` names the device and its rate; `has_keys`: keys are read; `clock` is in s."""
        self._console = console
        self._source = source
        self._has_keys = has_keys
        self._clock = clock
        self._drawn_s = -math.inf
        self._level_db = _QUIETEST_DB
        self._stable = self._unstable = self._note = ""
        self._noted_s = -math.inf
        # Drawn by the thread that recognises, so that the panel never shows half an event.
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def show(self, event: Event) -> None:
        """Take an event of the stream."""
        if isinstance(event, Partial):
            self._stable = event.stable_text
            self._unstable = event.text[len(event.stable_text) :]
        elif isinstance(event, Endpoint):
            self._stable = self._unstable = ""
            if event.text:
                self._print(event.start_s, Text(event.text), event.rule)
        elif isinstance(event, Moved):
            text = Text(f"chunks of {event.from_point} -> {event.to_point}", style="dim")
            self._print(event.time_s, text, event.reason)
        elif isinstance(event, Overrun):
            self.note(describe(event))

    def note(self, text: str) -> None:
        """Show something that the user should know, for a while."""
        self._note, self._noted_s = text, self._clock()

    def draw(self, status: Callable[[], Status], *, now: bool = False) -> None:
        """Draw the panel, if it is time again, or `now`."""
        now_s = self._clock()
        if now_s - self._drawn_s < FRAME_S and not now:
            return
        panel = self.panel(status())
        self._drawn_s = now_s
        self._live.start()
        self._live.update(panel, refresh=True)

    def close(self) -> None:
        """Remove the panel; `draw` brings it back."""
        self._live.stop()

    def panel(self, status: Status) -> Text:
        """Return the panel, as high as the terminal has room for."""
        since_s = min(self._clock() - self._drawn_s, _FALL_S)
        self._level_db = max(decibels(status.peak), self._level_db - _FALL_DB_PER_S * since_s)
        width, height = self._console.size
        rule, empty = Text("─" * width, style="dim"), Text()
        head = self._head(status, width)
        text = self._last_lines(width - 2, min(_TEXT_LINES, max(1, height - 4)))
        if height < _FULL_HEIGHT:
            lines = [rule, *text, head]
        else:
            level = _row("level", _level_bar(self._level_db), f"{self._level_db:.0f} dB")
            foot = self._foot(status, width)
            lines = [rule, head, empty, *text, empty, level, *_gauges(status), empty, foot]
        # As one text, which is never wrapped: tables would take three times as long.
        return Text("\n", no_wrap=True, overflow="crop", end="").join(lines)

    def _print(self, time_s: float, text: Text, reason: str) -> None:
        """Leave a line above the panel: a segment, or a move to another operating point."""
        row = Table.grid(padding=(0, 2, 0, 0), pad_edge=False, expand=True)
        row.add_column(style="dim", justify="right", min_width=6)
        row.add_column(ratio=1, overflow="fold")
        row.add_column(style="dim", justify="right")
        row.add_row(clock_time(time_s), text, Text(reason))
        self._console.print(row, width=self._console.width - 1)

    def _head(self, status: Status, width: int) -> Text:
        mark, style = {
            "listening": ("●", f"bold {_CALM}"),
            "paused": ("‖", f"bold {_WARN}"),
            "finishing": ("●", "dim"),
        }[status.state]
        left = Text.assemble(" ", (f"{mark} {status.state}", style), ("   " + self._source, "dim"))
        right = Text(clock_time(status.heard_s))
        if status.queued_s >= _QUEUE_SHOWN_S:
            right = Text.assemble((f"{status.queued_s:.1f} s behind   ", _WARN), right)
        return _two_ends(left, right, width)

    def _foot(self, status: Status, width: int) -> Text:
        space = "space goes on" if status.state == "paused" else "space pauses"
        keys = f" {space} · q ends" if self._has_keys else " Ctrl-C ends"
        shown = self._clock() - self._noted_s < _NOTE_S
        note = Text(self._note if shown else "", style=_WARN)
        return _two_ends(Text(keys, style="dim"), note, width)

    def _last_lines(self, width: int, count: int) -> list[Text]:
        """The end of the text in lines that fit, always `count`."""
        text = Text.assemble(self._stable, (self._unstable, "dim"))
        lines = [Text.assemble(" ", line) for line in text.wrap(self._console, max(1, width))]
        return lines[-count:] + [Text()] * (count - len(lines))


def decibels(peak: float) -> float:
    """Return an amplitude in [0, 1] in dB of full scale, at least -60."""
    return max(_QUIETEST_DB, 20 * math.log10(peak)) if peak > 0 else _QUIETEST_DB


def clock_time(seconds: float) -> str:
    """Return `1:02`, or `1:00:02` from an hour on."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _gauges(status: Status) -> list[Text]:
    """A bar for each budget, and the figures without one in a line."""
    report, budget = status.report, status.report.budget
    figures = [
        ("rtf", report.rtf_last_min, budget.rtf, ".3f", ""),
        ("latency", report.latency_p95_ms, budget.latency_ms, ".0f", " ms"),
        ("memory", status.resident_mb, budget.memory_mb, ".0f", " MB"),
    ]
    rows: list[Text] = []
    rest: list[str] = []
    for name, found, limit, form, unit in figures:
        if limit is None:
            rest.append(f"{name} {found:{form}}{unit}")
        else:
            value = f"{found:{form}} of {limit:g}{unit}"
            rows.append(_row(name, _budget_bar(found / limit), value))
    if len(report.ladder) > 1:
        rows.append(_row("chunk", _ladder(report.ladder, status.point), ""))
    else:
        rest.append(f"chunk {status.point}")
    if rest:
        rows.append(_row("", Text("   ".join(rest), style="dim"), ""))
    return rows


def _level_bar(level_db: float) -> Text:
    """Green, and yellow and red where it gets too loud."""
    filled = _columns(level_db)
    bar, done = Text(), 0
    for end_db, style in ((_LOUD_DB, _CALM), (_CLIPPING_DB, _WARN), (0.0, _ALARM)):
        end = min(filled, _columns(end_db))
        bar.append(_FULL * max(0, end - done), style)
        done = max(done, end)
    return bar.append(_EMPTY * (_BAR - filled), _FAINT)


def _columns(level_db: float) -> int:
    return round((1 - level_db / _QUIETEST_DB) * _BAR)


def _budget_bar(share: float) -> Text:
    style = _CALM if share < _NEAR else _WARN if share <= 1 else _ALARM
    filled = min(_BAR, math.ceil(share * _BAR))
    return Text.assemble((_FULL * filled, style), (_EMPTY * (_BAR - filled), _FAINT))


def _ladder(ladder: tuple[OperatingPoint, ...], point: OperatingPoint) -> Text:
    """The operating points, the present one marked."""
    text = Text()
    for rung in ladder:
        if rung == point:
            text.append(f"[{rung.chunk_ms}]", style="bold")
        else:
            text.append(f" {rung.chunk_ms} ", style=_FAINT)
        text.append(" ")
    return text.append(" ms", style=_FAINT)


def _row(name: str, content: Text, value: str) -> Text:
    return Text.assemble((f" {name:<9}", "dim"), content, f"   {value}")


def _two_ends(left: Text, right: Text, width: int) -> Text:
    """Put one to the left edge and the other to the right one, shortened if it must be."""
    room = width - left.cell_len - 1
    right.truncate(max(0, room - 2), overflow="ellipsis")
    return Text.assemble(left, " " * max(0, room - right.cell_len), right)
