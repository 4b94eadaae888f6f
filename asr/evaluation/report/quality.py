"""The part of a report on words: error rates, where they come from, what they cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asr.evaluation.accuracy.alignment import align
from asr.evaluation.report import charts
from asr.evaluation.report.anchors import Anchors, wer_points
from asr.evaluation.report.document import (
    AlignedUtterance,
    AlignedUtterances,
    Block,
    Figure,
    Picture,
    Section,
    Table,
)
from asr.evaluation.report.formats import number, percent, rate
from asr.evaluation.report.results import EVAL, Result

_WORST = 10
_GROUPS = 30


def quality_section(results: Sequence[Result]) -> Section | None:
    """Return the tables of all evaluations; None without any."""
    found = [result for result in results if result.kind == EVAL]
    if not found:
        return None
    blocks: list[Block] = [_overview(found)]
    for result in found:
        blocks += [
            _groups(result, name, groups) for name, groups in (result.get("by") or {}).items()
        ]
        blocks += _worst(result)
        blocks += _skipped(result)
    return Section("Words", blocks)


def cost_section(results: Sequence[Result], anchors: Anchors) -> Section:
    """Return the charts of error rates against what they cost."""
    systems = [system for result in results for system in _systems(result)]
    by_size = [p for p in (_point(system, "params_m") for system in systems) if p]
    svg = charts.scatter(
        "Word error rate against the number of parameters",
        charts.Axis("million parameters", log=True),
        charts.Axis("word error rate, %", log=True),
        [*by_size, *wer_points(anchors)],
    )
    note = (
        "Filled: measured here, with the 95 % interval, each on the recordings that it is named "
        "after. Open: published for streaming systems, on LibriSpeech test-other."
    )
    numbers = sorted({system.number for system in systems if system.values.get("params_m")})
    pictures = [Picture("Word error rate against size", svg, note, numbers)]
    for cost in _COSTS:
        pictures += _cost_pictures(systems, cost)
    return Section("What it costs", pictures)


@dataclass(frozen=True, slots=True)
class _Cost:
    """Something that a better error rate may cost."""

    key: str
    name: str
    unit: str
    made_by: str  # the commands whose results have it
    note: str = ""


_COSTS = (
    _Cost("file_mb", "size on disk", "MB", "asr bench --matrix, or asr peers"),
    _Cost("chunk_ms", "time per chunk", "ms to compute a chunk, median", "asr bench, or asr peers"),
    _Cost(
        "energy_mj",
        "energy",
        "mJ per second of audio",
        "asr bench, or asr bench --matrix",
        "Modelled where the machine has no meter: the tables say which.",
    ),
)


@dataclass(frozen=True, slots=True)
class _System:
    """A way to recognise, its error rate and what it costs."""

    number: int  # of the file
    data: str  # the recordings that the error rate is of
    label: str
    wer: float
    ci95: Sequence[float] | None
    values: Mapping[str, float | None]
    kind: str = charts.OWN


def _systems(result: Result) -> Iterable[_System]:
    """Return what in a result has an error rate."""
    number, data = result.number, result.data
    if result.get("limit") is not None:
        data += f", the first {result.get('limit')}"
    if result.kind == EVAL and result.parameters:
        values: dict[str, float | None] = {"params_m": result.parameters / 1e6}
        yield _System(number, data, _set_name(result), result["wer"], result["ci95"], values)
    elif result.kind == "bench" and (wer := _value(result["rows"], "wer")) is not None:
        rows = result["rows"]
        low, high = _value(rows, "ci95_low"), _value(rows, "ci95_high")
        values = {
            "file_mb": _value(rows, "size_mb"),
            "chunk_ms": _value(rows, "chunk_ms_p50"),
            "energy_mj": _value(rows, "energy_mj_per_audio_s"),
        }
        if values["energy_mj"] is None:
            values["energy_mj"] = _value(rows, "energy_modelled_mj_per_audio_s")
        ends = (low, high) if low is not None and high is not None else None
        yield _System(number, data, result.model, wer, ends, values)
    elif result.kind == "matrix":
        for variant in result["variants"]:
            if variant.get("wer") is not None:
                values = {
                    "file_mb": variant.get("file_mb"),
                    "chunk_ms": variant.get("step_ms_p50"),
                    "energy_mj": variant.get("energy_modelled_mj_per_audio_s"),
                }
                yield _System(number, data, variant["name"], variant["wer"], None, values)
    elif result.kind == "peers":
        for position, peer in enumerate(result["peers"]):
            if peer.get("reason") is None:
                kind = charts.PEER if position else charts.OWN
                values = {"file_mb": peer["model_mb"], "chunk_ms": peer["block_ms_p50"]}
                yield _System(number, data, peer["name"], peer["wer"], peer["ci95"], values, kind)


def _point(system: _System, cost: str) -> charts.Point | None:
    value = system.values.get(cost)
    if value is None or system.wer <= 0:
        return None
    interval = None
    if system.ci95 is not None:
        interval = (max(100 * system.ci95[0], 0.01), 100 * system.ci95[1])
    detail = f"{system.label}: {percent(system.wer)}, {value:.3g}"
    return charts.Point(value, 100 * system.wer, system.label, system.kind, detail, interval)


def _cost_pictures(systems: Sequence[_System], cost: _Cost) -> Iterable[Picture]:
    """One picture for each set of recordings: error rates on others can't be compared. Sets with a
    single system are left out, unless there are no others."""
    title = f"Word error rate against {cost.name}"
    groups: dict[str, list[tuple[_System, charts.Point]]] = {}
    for system in systems:
        if (point := _point(system, cost.key)) is not None:
            groups.setdefault(system.data, []).append((system, point))
    if not groups:
        reason = f"n/a: no file here has both; {cost.made_by} on transcribed recordings gives them."
        yield Picture(title, None, reason)
    largest = max(map(len, groups.values()), default=0)
    for data, group in groups.items():
        if len(group) == 1 < largest:
            continue
        points = [point for _, point in group]
        wide = max(p.x for p in points) > 8 * min(p.x for p in points)
        svg = charts.scatter(
            f"{title}, {data}",
            charts.Axis(cost.unit, log=wide, zero=not wide),
            charts.Axis("word error rate, %"),
            points,
        )
        numbers = sorted({system.number for system, _ in group})
        yield Picture(
            title, svg, f"On {data or 'the recordings of the file'}. {cost.note}", numbers
        )


def _overview(found: Sequence[Result]) -> Table:
    rows = [
        (
            f"{_set_name(result)}{'' if result.get('complete') is not False else ' (interrupted)'}",
            rate(result["wer"], result["ci95"]),
            rate(result.get("wer_open_asr"), reason=_why(result, "wer_open_asr")),
            rate(result.get("cer"), reason=_why(result, "cer")),
            rate(result.get("ser"), reason=_why(result, "ser")),
            f"{result['ins']} / {result['del']} / {result['sub']}",
            f"{result['words']} / {result['utterances']}",
            number(result.get("rtf")),
            number(result.get("peak_rss_mb"), "MB"),
        )
        for result in found
    ]
    columns = (
        "set",
        "WER",
        "WER, Open ASR",
        "CER",
        "SER",
        "ins / del / sub",
        "words / utterances",
        "RTF",
        "memory",
    )
    return Table(columns, rows, "Word error rates", [result.number for result in found])


def _groups(result: Result, name: str, groups: Sequence[dict[str, Any]]) -> Table:
    rows = [
        (
            "none" if group["value"] is None else str(group["value"]),
            percent(group["wer"]),
            f"{group['ins']} / {group['del']} / {group['sub']}",
            f"{group['words']}",
            f"{group['utterances']}",
        )
        for group in groups[:_GROUPS]
    ]
    more = f", {_GROUPS} of {len(groups)}" if len(groups) > _GROUPS else ""
    return Table(
        (name, "WER", "ins / del / sub", "words", "utterances"),
        rows,
        f"{_set_name(result)}: by {name}{more}",
        [result.number],
        folded=True,
    )


def _worst(result: Result) -> Iterable[AlignedUtterances]:
    rows = [row for row in result["rows"] if row["ins"] + row["del"] + row["sub"]]
    rows.sort(key=lambda row: -(row["ins"] + row["del"] + row["sub"]))
    if rows:
        yield AlignedUtterances(
            f"{_set_name(result)}: the most errors",
            [
                AlignedUtterance(
                    row["id"],
                    align(row["reference"].split(), row["hypothesis"].split()),
                    f"{row['ins'] + row['del'] + row['sub']} errors",
                )
                for row in rows[:_WORST]
            ],
            [result.number],
        )


def _skipped(result: Result) -> Iterable[Table]:
    skipped = result.get("skipped") or []
    if skipped:
        yield Table(
            ("recording", "reason"),
            [(item["id"], item["reason"]) for item in skipped],
            f"{_set_name(result)}: left out ({len(skipped)})",
            [result.number],
            folded=True,
        )


def _set_name(result: Result) -> str:
    return f"{result.data}, {result.get('precision')}" if result.data else result.path.name


def _why(result: Result, key: str) -> str:
    return str((result.get("unavailable") or {}).get(key, ""))


def _value(rows: dict[str, Any], name: str) -> float | None:
    return (rows.get(name) or {}).get("value")


def headline_wer(results: Sequence[Result]) -> tuple[Result, Figure] | None:
    """Return the error rate that comes first: that of the most words."""
    found = [result for result in results if result.kind == EVAL]
    if not found:
        return None
    largest = max(found, key=lambda result: result["words"])
    return largest, rate(largest["wer"], largest["ci95"])
