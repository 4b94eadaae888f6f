"""Makes a report of results: what comes first, the sections, and where all of it is from."""

from collections.abc import Sequence

from asr.evaluation.report.anchors import anchors_section, read_anchors
from asr.evaluation.report.beside import peers_section, tuning_section
from asr.evaluation.report.document import Figure, Report, Section, Table, Tile, Tiles
from asr.evaluation.report.formats import number, row
from asr.evaluation.report.quality import cost_section, headline_wer, quality_section
from asr.evaluation.report.results import EVAL, Result
from asr.evaluation.report.speed import benchmark_section, over_time_section, variants_section


def build_report(results: Sequence[Result]) -> Report:
    """Return the report of these results; a section without any is left out."""
    anchors = read_anchors()
    sections = [
        _summary(results),
        quality_section(results),
        cost_section(results, anchors),
        benchmark_section(results),
        variants_section(results),
        over_time_section(results),
        peers_section(results),
        tuning_section(results),
        anchors_section(anchors),
        _sources(results),
    ]
    models = list(dict.fromkeys(result.model for result in results if result.model))
    dates = sorted(str(result.get("date") or "")[:10] for result in results if result.get("date"))
    when = dates[0] if dates and dates[0] == dates[-1] else " to ".join([*dates[:1], *dates[-1:]])
    return Report(
        "How good is it?",
        " · ".join(part for part in (f"Earshot {', '.join(models)}".strip(), when) if part),
        [section for section in sections if section is not None],
    )


def _summary(results: Sequence[Result]) -> Section | None:
    tiles: list[Tile] = []
    if (wer := headline_wer(results)) is not None:
        tiles.append(Tile("word error rate", wer[1], wer[0].number))
    for name, unit, rows, direct in (
        ("real-time factor", "", "rtf", "rtf"),
        ("peak memory", "MB", "rss_peak_mb", "peak_rss_mb"),
        ("model", "MB", "size_mb", None),
        ("response latency, p50", "ms", "response_latency_ms_p50", None),
        ("energy per second of audio", "mJ", "energy_mj_per_audio_s", None),
    ):
        found = _find(results, rows, direct, unit)
        if found is not None:
            tiles.append(Tile(name, found[1], found[0].number))
    return Section("In short", [Tiles(tiles)]) if tiles else None


def _find(
    results: Sequence[Result], name: str, direct: str | None, unit: str
) -> tuple[Result, Figure] | None:
    """Return a figure from a bench, else from an evaluation. One without a value is told too."""
    for result in results:
        if result.kind == "bench" and name in result["rows"]:
            return result, row(name, result["rows"][name])
    for result in results:
        if direct is not None and result.kind == EVAL and result.get(direct) is not None:
            return result, number(result[direct], unit)
    return None


def _sources(results: Sequence[Result]) -> Section:
    rows = [
        (
            Figure(f"{result.number}", "", result.path.name),
            str(result.get("command") or "not stated"),
            f"{str(result.get('commit') or 'an installed package')[:12]}{_dirty(result)}, version "
            f"{result.get('version')}",
            str(result.get("date") or "not stated"),
            result.machine,
            ", ".join(str(part) for part in (result.model, result.get("engine")) if part),
        )
        for result in results
    ]
    columns = ("file", "command", "commit", "date", "machine", "model and engine")
    table = Table(columns, rows, "The numbers beside the figures lead here", is_sources=True)
    return Section("Sources", [table])


def _dirty(result: Result) -> str:
    return " with changes" if str(result.get("commit")).endswith("-dirty") else ""
