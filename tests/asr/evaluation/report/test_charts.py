"""Charts place what they show where it belongs, name it, and are never broken by odd values."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.evaluation.report import charts
from asr.evaluation.report.charts import Axis, Curve, Limit, Point, StackedBar
from asr.evaluation.report.scales import Scale, tick_text
from asr.evaluation.report.standalone import standalone

SVG = "{http://www.w3.org/2000/svg}"


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def words(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def markers(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    """Where each point is, by its hint; only ours, which are circles."""
    return {
        circle.findtext(f"{SVG}title") or "": (
            float(circle.get("cx", 0)),
            float(circle.get("cy", 0)),
        )
        for circle in root.iter(f"{SVG}circle")
    }


def test_points_are_where_their_values_are() -> None:
    points = [Point(1, 10, "small"), Point(10, 20, "middle"), Point(100, 40, "large & slow")]
    root = parse(charts.scatter("all", Axis("M", log=True), Axis("%", log=True), points))
    at = markers(root)
    (x1, y1), (x2, y2), (x3, y3) = at["small"], at["middle"], at["large & slow"]
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.02), "decades are equally wide"
    assert y1 - y2 == pytest.approx(y2 - y3, abs=0.02), "doublings are equally high"
    assert x1 < x2 and y2 < y1
    assert {"small", "middle", "large & slow", "measured here", "M", "%"} <= set(words(root))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1e-6, 1e6), st.floats(0, 1e3), st.text(max_size=20)), max_size=25),
    st.booleans(),
)
def test_labels_never_overlap_and_any_values_can_be_drawn(
    values: list[tuple[float, float, str]], log: bool
) -> None:
    points = [
        Point(x, y, re.sub(r"[^\w &<>]", "", label)) for x, y, label in values if not log or y > 0
    ]
    root = parse(charts.scatter("<any>", Axis("x", log=log), Axis("y", log=log), points))
    boxes = []
    for text in root.iter(f"{SVG}text"):
        if text.get("class", "").startswith("label own") and text.text:
            width = 6.6 * len(text.text)
            shift = {"start": 0.0, "middle": width / 2, "end": width}[text.get("text-anchor", "")]
            left, base = float(text.get("x", 0)) - shift, float(text.get("y", 0))
            boxes.append((left, base - 10, left + width, base + 3))
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            apart = one[2] <= other[0] + 0.02 or other[2] <= one[0] + 0.02
            assert apart or one[3] <= other[1] + 0.02 or other[3] <= one[1] + 0.02


def test_a_curve_and_its_limits() -> None:
    curve = Curve("this stream", [(0, 0.04), (5, 0.02), (10, 0.01)])
    limits = [Limit("budget", 0.02), Limit("free", 0.021, quiet=True)]
    root = parse(charts.over_time("t", Axis("s"), Axis("RTF", zero=True), [curve], limits))
    [line] = root.iter(f"{SVG}polyline")
    places = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
    assert places[1][0] - places[0][0] == pytest.approx(places[2][0] - places[1][0], abs=0.02)
    rules = [r for r in root.iter(f"{SVG}line") if (r.get("class") or "").startswith("limit")]
    assert float(rules[0].get("y1", 0)) == pytest.approx(places[1][1], abs=0.02)
    heights = sorted(
        float(text.get("y", 0))
        for text in root.iter(f"{SVG}text")
        if text.text in ("this stream", "budget", "free")
    )
    assert all(b - a >= 14.9 for a, b in pairwise(heights)), "names keep clear of each other"


def test_a_histogram_has_a_bar_for_each_full_bin() -> None:
    limits = [Limit("p50 2 ms", 2.0)]
    root = parse(charts.histogram("h", Axis("ms"), [0, 1, 2, 3, 9], [0, 4, 2, 0], limits))
    bars = [rect for rect in root.iter(f"{SVG}rect") if rect.findtext(f"{SVG}title")]
    assert [bar.findtext(f"{SVG}title") for bar in bars] == ["1 to 2: 4", "2 to 3: 2"]
    tall, short = (float(bar.get("height", 0)) for bar in bars)
    assert tall == pytest.approx(2 * short, abs=0.02)
    assert "p50 2 ms" in words(root)


def test_shares_fill_the_bar() -> None:
    bars = [StackedBar("int8", [("encoder", 3.0), ("joiner", 1.0)])]
    root = parse(charts.shares("s", bars))
    hints = [rect.findtext(f"{SVG}title") for rect in root.iter(f"{SVG}rect")]
    assert [hint for hint in hints if hint] == ["encoder: 75.0%", "joiner: 25.0%"]
    assert {"int8", "encoder", "joiner", "75%", "25%"} <= set(words(root))


def test_nothing_can_be_drawn_too() -> None:
    empty = [
        charts.scatter("none", Axis("x", log=True), Axis("y"), []),
        charts.over_time("none", Axis("x"), Axis("y"), [Curve("", [])]),
        charts.histogram("none", Axis("x"), [0, 1], [0], []),
        charts.shares("none", []),
    ]
    for svg in empty:
        assert "nan" not in svg and parse(svg).tag == f"{SVG}svg"


def test_a_chart_of_its_own_has_its_style() -> None:
    root = parse(standalone(charts.scatter("one", Axis("x"), Axis("y"), [Point(1, 2, "p")])))
    assert "prefers-color-scheme: dark" in (root.findtext(f"{SVG}style") or "")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=5), st.booleans())
def test_a_scale_holds_its_values_between_round_ends(values: list[float], zero: bool) -> None:
    scale = Scale.around(values, 0, 100, zero=zero)
    assert all(
        scale.low <= value <= scale.high
        or math.isclose(value, scale.low, abs_tol=1e-6)
        or math.isclose(value, scale.high, rel_tol=1e-6)
        for value in values
    )
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 13
    assert list(ticks) == sorted(set(ticks))
    places = [scale(tick) for tick in ticks]
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in places)


def test_ticks_are_round() -> None:
    assert [tick_text(t) for t in Scale(0, 0.06, 0, 1).ticks()] == [
        "0",
        "0.01",
        "0.02",
        "0.03",
        "0.04",
        "0.05",
        "0.06",
    ] or [tick_text(t) for t in Scale(0, 0.06, 0, 1).ticks()] == ["0", "0.02", "0.04", "0.06"]
    assert [tick_text(t) for t in Scale(1, 120, 0, 1, log=True).ticks(7)] == [
        "1",
        "2",
        "5",
        "10",
        "20",
        "50",
        "100",
    ]
