"""The learning curve of the built-in model: a row for each validation of its training."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr.errors import ExportError

SAME_POINT_HOURS = 0.1
"""Two rows that are nearer are one: hours are rounded, and a run ends between two journal lines."""


@dataclass(frozen=True)
class Point:
    """One validation."""

    hours: float  # audio that the model had heard, the runs before included
    sets: Mapping[str, float]  # word error rate of each development set, as a fraction


def read_curve(path: Path) -> list[Point]:
    """Raise ExportError if the file can't be read or has another form."""
    try:
        return [Point(row["hours"], row["sets"]) for row in _read_rows(path)]
    except (KeyError, TypeError) as error:
        raise ExportError(f"{path}: a row is no point of a learning curve: {error!r}") from error


def write_curve(path: Path, curve: Sequence[Point]) -> None:
    text = "".join(json.dumps(asdict(point)) + "\n" for point in curve)
    path.write_text(text, encoding="utf-8")


def extended(curve: Sequence[Point], journal: Path, heard_hours: float) -> list[Point]:
    """Return the curve that leads to the model at the end of a run.

    journal: of the run; heard_hours: by the model at its end. What the run heard itself is taken
    off, and so its points are counted from where it began. Points of `curve` behind that are of
    another run, or of this one released before: they are dropped.

    Raises ExportError if the journal can't be read, or can't be of a run that ended so.
    """
    rows = _read_rows(journal)
    try:
        own_hours = max((row["hours"] for row in rows), default=0.0)
        validations = [row for row in rows if "sets" in row]
    except (KeyError, TypeError) as error:
        raise ExportError(f"{journal}: a row without its hours: {error!r}") from error
    if not validations:
        raise ExportError(f"{journal}: no validation in it; expected the journal of a whole run")
    before = heard_hours - own_hours
    if before < -SAME_POINT_HOURS:
        raise ExportError(
            f"{journal} is of a run that heard {own_hours:.1f} h, and its model is said to have "
            f"heard {heard_hours:.1f} h in all; expected no less"
        )
    before = max(0.0, before)
    kept = [point for point in curve if point.hours <= before + SAME_POINT_HOURS]
    return kept + [Point(round(before + row["hours"], 2), row["sets"]) for row in validations]


def thinned(curve: Sequence[Point], most: int) -> list[Point]:
    """Return at most so many points, evenly taken, with the first and the last."""
    if len(curve) <= most:
        return list(curve)
    return [curve[round(index * (len(curve) - 1) / (most - 1))] for index in range(most)]


def picture(curve: Sequence[Point], names: Sequence[str]) -> str:
    """Return the curve as SVG: a line for each set, readable on light and on dark ground."""
    hours = max(20.0, *(point.hours for point in curve))
    step = next(step for step in (10, 20, 50, 100, 200, 500, 1000, 10_000) if hours / step <= 8)
    right, top = step * math.ceil(hours / step), max(1.0, *_rates(curve))
    parts = []
    for percent in range(0, int(100 * top) + 1, 20):
        y = _y(percent / 100, top)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{LEFT + WIDTH}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{percent} %", "end"))
    for hour in range(0, right + 1, step):
        parts.append(_text(_x(hour, right), TOP + HEIGHT + 20, f"{hour}", "middle"))
    parts.append(_text(LEFT + WIDTH / 2, TOP + HEIGHT + 42, "hours of audio heard", "middle"))
    parts.append(_text(LEFT - 44, TOP - 14, "word error rate", "start"))
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(
            f"{_x(point.hours, right):.1f},{_y(point.sets[name], top):.1f}"
            for point in curve
            if name in point.sets
        )
        parts.append(f'<polyline points="{line}" stroke="{colour}"/>')
        x = LEFT + 110 + 160 * number
        parts.append(f'<path d="M{x} {TOP - 18}h18" stroke="{colour}"/>')
        parts.append(_text(x + 24, TOP - 14, name, "start"))
    return "\n".join([_HEAD, *parts, "</svg>", ""])


LEFT, TOP, WIDTH, HEIGHT = 60, 40, 560, 260
COLOURS = ("#3b82f6", "#e8710a", "#16a34a", "#a855f7", "#db2777")

_HEAD = f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {TOP + HEIGHT + 56}">
<title>Word error rate by hours of audio heard</title>
<style>
text {{ font: 13px sans-serif; fill: #7d8590 }}
polyline, path {{ fill: none; stroke-width: 2; stroke-linejoin: round }}
.grid {{ stroke: #7d8590; stroke-opacity: .35; stroke-width: 1 }}
</style>"""


def _x(hours: float, right: float) -> float:
    return LEFT + WIDTH * hours / right


def _y(rate: float, top: float) -> float:
    return TOP + HEIGHT * (1 - rate / top)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _rates(curve: Sequence[Point]) -> list[float]:
    return [rate for point in curve for rate in point.sets.values()]


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: can't be read: {error}; expected JSON lines") from error
