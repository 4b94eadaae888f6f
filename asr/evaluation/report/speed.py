"""The part of a report on time, memory and energy: benches, matrices, and runs over time."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asr.evaluation.report import charts
from asr.evaluation.report.document import (
    Block,
    Cell,
    Figure,
    Paragraph,
    Picture,
    Section,
    SideBySide,
    Table,
)
from asr.evaluation.report.formats import (
    OTHER_ROWS,
    ROW_GROUPS,
    number,
    percent,
    rate,
    row,
    row_name,
)
from asr.evaluation.report.results import STRESS, Result

_SHARE = "share_"


def benchmark_section(results: Sequence[Result]) -> Section | None:
    """Return the rows of all benches side by side, and their pictures; None without any."""
    found = [result for result in results if result.kind == "bench"]
    if not found:
        return None
    blocks: list[Block] = [
        *_stages(found),
        *_chunk_times(found),
        SideBySide(list(_rows(found))),
        *_operators(found),
    ]
    return Section("Time, memory, energy", blocks)


def variants_section(results: Sequence[Result]) -> Section | None:
    """Return the tables of all matrices and of training losses; None without any."""
    blocks: list[Block] = []
    for result in results:
        if result.kind == "matrix":
            blocks += [_matrix(result), *_roofline(result)]
        elif result.kind == "loss":
            blocks.append(_losses(result))
    return Section("Variants side by side", blocks) if blocks else None


def over_time_section(results: Sequence[Result]) -> Section | None:
    """Return the curves of all sustained runs and of runs under load; None without any."""
    blocks: list[Block] = []
    for result in results:
        if result.kind == "sustained":
            blocks += _sustained(result)
        elif result.kind == STRESS:
            blocks += _stress(result)
    return Section("Over time", blocks) if blocks else None


def _rows(found: Sequence[Result]) -> Iterable[Table]:
    """The rows of all, in groups of what they are about."""
    grouped = {name for group in ROW_GROUPS.values() for name in group} | {"ci95_low", "ci95_high"}
    present = list(dict.fromkeys(name for result in found for name in result["rows"]))
    groups = {title: list(group) for title, group in ROW_GROUPS.items()}
    groups[OTHER_ROWS] = [name for name in present if name not in grouped]
    for title, names in groups.items():
        rows: list[list[Cell]] = [
            [row_name(name), *(_row(result, name) for result in found)]
            for name in names
            if name in present
        ]
        if rows:
            columns = ["", *(_label(result, found) if len(found) > 1 else "" for result in found)]
            yield Table(columns, rows, title, [result.number for result in found])


def _row(result: Result, name: str) -> Figure:
    rows = result["rows"]
    if name not in rows:
        return Figure(None, note="not in this file")
    low, high = ((rows.get(f"ci95_{end}") or {}).get("value") for end in ("low", "high"))
    if name == "wer" and low is not None and high is not None:
        return rate(rows[name].get("value"), (low, high), rows[name].get("reason") or "")
    return row(name, rows[name])


def _stages(found: Sequence[Result]) -> Iterable[Picture]:
    bars = []
    for result in found:
        parts = [
            (name.removeprefix(_SHARE), content["value"])
            for name, content in result["rows"].items()
            if name.startswith(_SHARE) and content.get("value") is not None
        ]
        if parts:
            bars.append(charts.StackedBar(_label(result, found), parts))
    if bars:
        svg = charts.shares("Shares of the computing time by stage", bars)
        yield Picture("Where the time goes", svg, sources=[result.number for result in found])


def _chunk_times(found: Sequence[Result]) -> Iterable[Picture]:
    for result in found:
        bins = result.get("chunk_ms_histogram")
        if not bins or not sum(bins["counts"]):
            continue
        limits = [
            charts.Limit(f"p{percent} {value:.3g} ms", value)
            for percent in (50, 95, 99)
            if (value := (result["rows"].get(f"chunk_ms_p{percent}") or {}).get("value"))
        ]
        edges = bins["edges_ms"]
        full = [i for i, count in enumerate(bins["counts"]) if count]
        wide = edges[full[0]] > 0 and edges[full[-1] + 1] > 20 * edges[full[0]]
        axis = charts.Axis("ms to compute one chunk", log=wide)
        title = f"Time per chunk{_of(result, found)}"
        svg = charts.histogram(title, axis, edges, bins["counts"], limits)
        yield Picture(title, svg, f"{sum(bins['counts'])} chunks", [result.number])


def _operators(found: Sequence[Result]) -> Iterable[Table]:
    for result in found:
        for key, name in (("by_type", "operator"), ("by_module", "module")):
            listed = (result.get("operators") or {}).get(key)
            if listed:
                yield Table(
                    (name, "calls", "time", "share"),
                    [
                        (
                            item["name"],
                            f"{item['calls']}",
                            number(item["ms"], "ms"),
                            percent(item["share"]),
                        )
                        for item in listed
                    ],
                    f"Time by {name}{_of(result, found)}",
                    [result.number],
                    folded=True,
                )


def _matrix(result: Result) -> Table:
    columns = (
        "variant",
        "files",
        "nodes",
        "step, p50",
        "step ratio",
        "RTF",
        "load",
        "peak memory",
        "WER",
        "energy, modelled",
    )
    rows = [_variant(variant) for variant in result["variants"]]
    return Table(columns, rows, "Interleaved in one run", [result.number])


def _variant(variant: Mapping[str, Any]) -> Sequence[Cell]:
    reasons = variant.get("reasons") or {}

    def cell(key: str, unit: str = "", note: str = "") -> Figure:
        return number(variant.get(key), unit, reason=reasons.get(key, ""), note=note)

    threads = f"{variant['threads']} thread{'s' if variant['threads'] != 1 else ''}"
    setting = f"{variant['precision']}, {threads}, {variant['chunk_ms']} ms"
    p95, difference = variant.get("step_ms_p95"), variant.get("wer_delta")
    return (
        Figure(variant["name"], note=setting),
        cell("file_mb", "MB"),
        cell("nodes"),
        cell("step_ms_p50", "ms", f"p95 {p95:.3g} ms" if p95 is not None else ""),
        cell("step_ratio"),
        cell("rtf"),
        cell("load_ms", "ms"),
        cell("peak_rss_mb", "MB"),
        rate(
            variant.get("wer"),
            reason=reasons.get("wer", ""),
            note=f"{100 * difference:+.2f} points" if difference is not None else "",
        ),
        cell("energy_modelled_mj_per_audio_s", "mJ/s"),
    )


def _roofline(result: Result) -> Iterable[Block]:
    roofline = result.get("roofline")
    if not roofline:
        return
    if "variants" not in roofline:
        yield Paragraph(f"Roofline: n/a: {roofline.get('reason', 'no reason given')}")
        return
    yield Table(
        ("variant", "read per step", "multiply-adds per step", "bound", "bound by", "achieved"),
        [
            (
                item["name"],
                number(item.get("mb_per_step"), "MB"),
                number(item.get("mmac_per_step"), "M"),
                number(item.get("bound_ms"), "ms"),
                str(item.get("bound_by")),
                rate(item.get("achieved")),
            )
            for item in roofline["variants"]
        ],
        "Against what this machine can do: "
        f"{number(roofline.get('bandwidth_gb_s'), 'GB/s')} of memory, "
        f"{number(roofline.get('int8_gmac_s'), 'G')} int8 and "
        f"{number(roofline.get('fp32_gmac_s'), 'G')} fp32 multiply-adds a second",
        [result.number],
        folded=True,
    )


def _losses(result: Result) -> Table:
    return Table(
        ("loss", "batch x frames x tokens x vocabulary", "forward and backward", "peak memory"),
        [
            (
                item["name"],
                f"{item['batch']} x {item['frames']} x {item['tokens']} x {item['vocab']}",
                number(item["seconds"], "s", item.get("spread")),
                number(item["peak_mb"], "MB"),
            )
            for item in result["variants"]
        ],
        "Training losses",
        [result.number],
    )


def _sustained(result: Result) -> Iterable[Block]:
    samples = result["samples"]
    curve = charts.Curve("RTF", _curve(samples, "rtf"))
    yield Picture(
        "Sustained: real-time factor over time",
        charts.over_time(
            "Real-time factor over time",
            charts.Axis("seconds"),
            charts.Axis("real-time factor", zero=True),
            [curve],
        ),
        sources=[result.number],
    )
    for key, name, unit in (
        ("temp_c", "Temperature", "°C"),
        ("freq_mhz", "CPU frequency", "MHz"),
        ("power_w", "Power", "W"),
    ):
        if points := _curve(samples, key):
            title = f"Sustained: {name.lower()} over time"
            svg = charts.over_time(
                title, charts.Axis("seconds"), charts.Axis(unit), [charts.Curve(name, points)]
            )
            yield Picture(title, svg, sources=[result.number])
    yield Table(
        ("", ""),
        [(row_name(name), row(name, content)) for name, content in result["rows"].items()],
        "Sustained run",
        [result.number],
    )


def _stress(result: Result) -> Iterable[Block]:
    hogs, budget = result.get("hogs"), result["budget_rtf"]
    title = f"Under load: real-time factor beside {hogs} CPU hogs"
    points = _curve(result["series"], "rtf")
    limits = [charts.Limit(f"budget {budget:.3g}", budget)] if budget else []
    if (free := result.get("ungoverned_rtf")) is not None:
        limits.append(charts.Limit(f"no budget: {free:.3g}", free, quiet=True))
    if points:
        svg = charts.over_time(
            title,
            charts.Axis("seconds"),
            charts.Axis("real-time factor, last 10 s", zero=True),
            [charts.Curve("this stream", points)],
            limits,
        )
        yield Picture(title, svg, "", [result.number])
    facts: list[tuple[str, Cell]] = [
        ("budget", number(budget, "RTF", reason=result.get("refused") or "")),
        ("last minute", number(result.get("rtf_last_min"), "RTF")),
        ("audio lost", number(result.get("lost_audio_s"), "s")),
        ("moves", number(result.get("moves"))),
        ("longest queue", number(result.get("max_queue_s"), "s")),
        ("peak memory", number(result.get("peak_memory_mb"), "MB")),
        ("not as promised", "; ".join(result.get("broken") or []) or "nothing"),
    ]
    yield Table(("", ""), facts, "Run with a budget under load", [result.number])


def _curve(samples: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(s["t"], s[key]) for s in samples if s.get(key) is not None]


def _label(result: Result, among: Sequence[Result]) -> str:
    """A short name of a result, told apart from those that would have the same one."""
    name = result.model or result.path.stem
    same = [other for other in among if (other.model or other.path.stem) == name]
    return name if len(same) == 1 else f"{name} [{result.number}]"


def _of(result: Result, among: Sequence[Result]) -> str:
    return f": {_label(result, among)}" if len(among) > 1 else ""
