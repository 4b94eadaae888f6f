"""The charts of a report, as SVG whose colours come from the page's style sheet.

Kinds of points are told apart by their shape and series by their label, not by colour alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asr.evaluation.report import svg
from asr.evaluation.report.scales import Scale, tick_text

WIDTH = 720.0
_LEFT, _TOP, _BOTTOM = 52.0, 56.0, 46.0
_LINE = 15.0  # px, the height of a line of text

OWN, PEER, PUBLISHED = "own", "peer", "published"
"""Kinds of points: measured with this recogniser, measured beside it, taken from publications."""

_KIND_NAMES = {
    OWN: "measured here",
    PEER: "other recognisers, measured here",
    PUBLISHED: "published: other data, other machines",
}


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows."""

    name: str  # with its unit
    log: bool = False
    zero: bool = False  # it begins there


@dataclass(frozen=True, slots=True)
class Point:
    """One system in a scatter plot."""

    x: float
    y: float
    label: str
    kind: str = OWN
    detail: str = ""  # shown where the pointer rests
    interval: tuple[float, float] | None = None  # of y


@dataclass(frozen=True, slots=True)
class Curve:
    """One series over time."""

    label: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Limit:
    """A value that is drawn across a chart."""

    label: str
    value: float
    quiet: bool = False  # for comparison only


@dataclass(frozen=True, slots=True)
class StackedBar:
    """Shares of a whole, in the order that they are drawn."""

    label: str
    parts: Sequence[tuple[str, float]]


def scatter(
    label: str,
    x: Axis,
    y: Axis,
    points: Sequence[Point],
    path: Sequence[Point] = (),
    kinds: Mapping[str, str] = _KIND_NAMES,
) -> str:
    """Draw points, and a line through those of `path` in their order. `kinds` names the kinds."""
    height = 400.0
    frame = _Frame.around(height, x, y, points)
    present = {point.kind for point in points}
    drawn = [_legend({kind: name for kind, name in kinds.items() if kind in present})]
    drawn += frame.grid()
    if len(path) > 1:
        drawn.append(svg.polyline([frame.place(point.x, point.y) for point in path], "front"))
    for point in points:
        if point.interval is not None:
            low, high = (frame.y(value) for value in point.interval)
            at = frame.x(point.x)
            drawn.append(svg.line(at, low, at, high, f"interval {point.kind}"))
    # Ours last, on top of the others.
    order = [PUBLISHED, PEER, OWN]
    for point in sorted(points, key=lambda point: order.index(point.kind)):
        drawn.append(_marker(point, *frame.place(point.x, point.y)))
    drawn += _labels(frame, sorted(points, key=lambda point: -order.index(point.kind)))
    return svg.picture(WIDTH, height, label, *drawn)


def over_time(
    label: str, x: Axis, y: Axis, curves: Sequence[Curve], limits: Sequence[Limit] = ()
) -> str:
    """Draw curves from time 0, with their names and those of the limits right of them."""
    height = 280.0
    names = [curve.label for curve in curves] + [limit.label for limit in limits]
    right = WIDTH - 18 - max(map(svg.text_width, names), default=0)
    values = [value for curve in curves for _, value in curve.points]
    frame = _Frame(
        Scale(0.0, max((t for c in curves for t, _ in c.points), default=1.0), _LEFT, right),
        Scale.around(
            [*values, *(limit.value for limit in limits)], height - _BOTTOM, 30, zero=True
        ),
        x,
        y,
    )
    drawn, labels = frame.grid(), []
    for limit in limits:
        at, quiet = frame.y(limit.value), " quiet" if limit.quiet else ""
        drawn.append(svg.line(_LEFT, at, right, at, f"limit{quiet}"))
        labels.append((at, limit.label, f"limit-label{quiet}"))
    for number, curve in enumerate(curves):
        if curve.points:
            places = [frame.place(t, value) for t, value in curve.points]
            drawn.append(svg.polyline(places, f"curve series{number}"))
            labels.append((places[-1][1], curve.label, f"label series{number}"))
    bottom = float("-inf")
    for at, name, style in sorted(labels):
        bottom = max(at + 4, bottom + _LINE)
        drawn.append(svg.text(name, right + 8, bottom, style))
    return svg.picture(WIDTH, height, label, *drawn)


def histogram(
    label: str, x: Axis, edges: Sequence[float], counts: Sequence[int], limits: Sequence[Limit]
) -> str:
    """Draw how often values fell between `edges` (one more than `counts`), and `limits` across."""
    height = 240.0
    full = [(edges[i], edges[i + 1], count) for i, count in enumerate(counts) if count]
    ends = [end for low, high, _ in full for end in (low, high)] + [item.value for item in limits]
    frame = _Frame(
        Scale.around(ends, _LEFT, WIDTH - 24, log=x.log, zero=x.zero),
        Scale.around(counts, height - _BOTTOM, 44, zero=True),
        x,
        Axis("how many"),
    )
    drawn = frame.grid()
    for low, high, count in full:
        left, top = frame.place(low, count)
        drawn.append(
            svg.element(
                "rect",
                svg.title(f"{low:.3g} to {high:.3g}: {count}"),
                x=left,
                y=top,
                width=max(1.0, frame.x(high) - left - 1),
                height=frame.y(0) - top,
                class_="bar series0",
            )
        )
    end = float("-inf")
    for limit in sorted(limits, key=lambda limit: limit.value):
        at = frame.x(limit.value)
        drawn.append(svg.line(at, 24, at, frame.y(0), "mark"))
        start = max(at - svg.text_width(limit.label) / 2, end)
        end = start + svg.text_width(limit.label) + 12
        drawn.append(svg.text(limit.label, start, 18, "label"))
    return svg.picture(WIDTH, height, label, *drawn)


def shares(label: str, bars: Sequence[StackedBar]) -> str:
    """Draw bars of the same length, cut into shares, with the names of the parts above."""
    names = list(dict.fromkeys(name for bar in bars for name, _ in bar.parts))
    left = 12 + max((svg.text_width(bar.label, 13) for bar in bars), default=0)
    drawn, at = [], left
    for number, name in enumerate(names):
        drawn.append(
            svg.element("rect", x=at, y=6, width=11, height=11, rx=2, class_=f"bar series{number}")
        )
        drawn.append(svg.text(name, at + 17, 16, "label"))
        at += 35 + svg.text_width(name)
    top = 32.0
    for bar in bars:
        drawn.append(svg.text(bar.label, left - 10, top + 20, "label", text_anchor="end"))
        total, start = sum(part for _, part in bar.parts) or 1.0, left
        for name, part in bar.parts:
            share = part / total
            width = share * (WIDTH - 12 - left)
            rectangle = {"x": start, "y": top, "width": max(0.5, width - 1.5), "height": 30.0}
            style = f"bar series{names.index(name)}"
            drawn.append(
                svg.element("rect", svg.title(f"{name}: {share:.1%}"), class_=style, **rectangle)
            )
            if width > 40:
                drawn.append(svg.text(f"{share:.0%}", start + width / 2, top + 20, "on-bar"))
            start += width
        top += 40
    return svg.picture(WIDTH, top, label, *drawn)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Two axes and what they show."""

    x: Scale
    y: Scale
    x_axis: Axis
    y_axis: Axis

    @classmethod
    def around(cls, height: float, x: Axis, y: Axis, points: Sequence[Point]) -> "_Frame":
        heights = [value for point in points for value in (point.y, *(point.interval or ()))]
        return cls(
            Scale.around([p.x for p in points], _LEFT, WIDTH - 24, log=x.log, zero=x.zero),
            Scale.around(heights, height - _BOTTOM, _TOP, log=y.log, zero=y.zero),
            x,
            y,
        )

    def place(self, x: float, y: float) -> tuple[float, float]:
        return self.x(x), self.y(y)

    def grid(self) -> list[str]:
        drawn = []
        for value in self.y.ticks():
            at = self.y(value)
            drawn.append(svg.line(self.x.start, at, self.x.end, at, "grid"))
            written = tick_text(value)
            drawn.append(svg.text(written, self.x.start - 8, at + 4, "tick", text_anchor="end"))
        bottom = self.y.start
        drawn.append(svg.line(self.x.start, bottom, self.x.end, bottom, "axis"))
        for value in self.x.ticks(7):
            at = self.x(value)
            drawn.append(svg.line(at, bottom, at, bottom + 4, "axis"))
            drawn.append(svg.text(tick_text(value), at, bottom + 18, "tick", text_anchor="middle"))
        drawn.append(svg.text(self.y_axis.name, 0, self.y.end - 14, "name"))
        drawn.append(svg.text(self.x_axis.name, self.x.end, bottom + 37, "name", text_anchor="end"))
        return drawn


def _legend(kinds: Mapping[str, str]) -> str:
    drawn, at = [], 7.0
    for kind, name in kinds.items():
        drawn.append(_marker(Point(0, 0, name, kind), at, 10))
        drawn.append(svg.text(name, at + 12, 14, "label"))
        at += 34 + svg.text_width(name)
    return "".join(drawn)


def _marker(point: Point, x: float, y: float) -> str:
    hint = svg.title(point.detail or point.label)
    if point.kind == PUBLISHED:
        corners = f"M{x:.2f} {y - 5.5:.2f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z"
        return svg.element("path", hint, d=corners, class_="marker published")
    if point.kind == PEER:
        return svg.element(
            "rect", hint, x=x - 5, y=y - 5, width=10, height=10, rx=1.5, class_="marker peer"
        )
    return svg.element("circle", hint, cx=x, cy=y, r=6.5, class_="marker own")


def _labels(frame: _Frame, points: Sequence[Point]) -> list[str]:
    """Name the points, the first ones first, where there is room; the others have their hints."""
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in (frame.place(p.x, p.y) for p in points)]
    drawn = []
    for point in points:
        x, y = frame.place(point.x, point.y)
        width = svg.text_width(point.label)
        for anchor, at, base in (
            ("start", x + 11, y + 4),
            ("end", x - 11, y + 4),
            ("middle", x, y - 11),
            ("middle", x, y + 20),
            ("start", x + 9, y - 9),
            ("start", x + 9, y + 17),
        ):
            left = at - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
            box = (left, base - 10, left + width, base + 3)
            inside = frame.x.start <= left and box[2] <= WIDTH and frame.y.end - 8 <= box[1]
            if inside and base < frame.y.start and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                style = f"label {point.kind}"
                drawn.append(svg.text(point.label, at, base, style, text_anchor=anchor))
                break
    return drawn


_Box = tuple[float, float, float, float]  # left, top, right, bottom


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
