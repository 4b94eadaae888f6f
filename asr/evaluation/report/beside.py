"""The parts of a report on other recognisers, and on the choice of an operating point."""

from collections.abc import Sequence
from typing import Any

from asr.evaluation.report import charts
from asr.evaluation.report.document import Block, Cell, Figure, Paragraph, Picture, Section, Table
from asr.evaluation.report.formats import number, percent, rate
from asr.evaluation.report.results import Result


def peers_section(results: Sequence[Result]) -> Section | None:
    """Return the tables of all comparisons with other recognisers; None without any."""
    blocks: list[Block] = []
    for result in results:
        if result.kind == "peers":
            blocks += _peers(result)
    return Section("Beside other recognisers", blocks) if blocks else None


def tuning_section(results: Sequence[Result]) -> Section | None:
    """Return fronts and tables of all tunings; None without any."""
    blocks: list[Block] = []
    for result in results:
        if result.kind == "tune":
            blocks += [
                Picture(
                    "Operating points: error rate against real-time factor",
                    tuning_chart(result.content),
                    "Dotted: the points that no other point beats or equals in error rate, RTF, "
                    "memory and latency.",
                    [result.number],
                ),
                _trials(result),
            ]
    return Section("Operating points", blocks) if blocks else None


def tuning_chart(content: Any) -> str | None:
    """Draw the trials of `asr tune`: RTF against WER, the front joined; None if there are none."""
    measured = [trial for trial in content["trials"] if trial["wer"] is not None]
    if not measured:
        return None
    points = {
        number: charts.Point(
            trial["rtf"],
            100 * trial["wer"],
            trial_name(trial),
            charts.OWN if trial["on_front"] else charts.PEER,
            f"{trial_name(trial)}: {percent(trial['wer'])}, RTF {trial['rtf']:.3g}, "
            f"{trial['memory_mb']:.0f} MB, {trial['latency_ms']:.0f} ms",
        )
        for number, trial in enumerate(measured)
    }
    front = sorted(
        (points[number] for number, trial in enumerate(measured) if trial["on_front"]),
        key=lambda point: point.x,
    )
    return charts.scatter(
        "Word error rate against real-time factor of the operating points",
        charts.Axis("real-time factor", log=True),
        charts.Axis("word error rate, %"),
        list(points.values()),
        front,
        {charts.OWN: "on the front", charts.PEER: "not on the front"},
    )


def trial_name(trial: Any) -> str:
    """An operating point in words."""
    threads = "" if trial["threads"] == 1 else f", {trial['threads']} threads"
    engine = "" if trial["engine"] == "onnx" else f" for {trial['engine']}"
    return f"{trial['precision']}{engine}, {trial['chunk_ms']} ms{threads}"


def _peers(result: Result) -> list[Block]:
    ratios = result.get("time_ratios") or {}
    rows: list[Sequence[Cell]] = []
    for peer in result["peers"]:
        if peer["reason"] is not None:
            rows.append((peer["name"], Figure(None, note=peer["reason"]), *[""] * 6))
            continue
        rows.append(
            (
                Figure(peer["name"], "", f"{peer['model']}; {peer['runs_on']}"),
                rate(peer["wer"], peer["ci95"]),
                f"{peer['ins']} / {peer['del']} / {peer['sub']}",
                number(peer["rtf"], "", peer["rtf_spread"]),
                number(peer["block_ms_p50"], "ms", note=f"p95 {peer['block_ms_p95']:.3g} ms"),
                _ratio(ratios.get(peer["name"])),
                number(peer["load_s"], "s", peer["load_s_spread"]),
                number(peer["peak_rss_mb"], "MB", note=f"{peer['base_rss_mb']:.0f} before loading"),
            )
        )
    columns = (
        "",
        "WER",
        "ins / del / sub",
        "RTF",
        f"{result['block_ms']} ms block",
        "time ratio",
        "load",
        "peak memory",
    )
    about = (
        f"{result['utterances']} recordings, {result['audio_s'] / 60:.1f} minutes, "
        f"{result['words']} words ({result.data}). Each in a process of its own with one thread, "
        "taking turns at each recording. The time of a block is that of a chunk from its samples "
        "to its text, features included, p50. The time ratio is that of "
        f"{result['peers'][0]['name']} over the other, the median over the recordings with its "
        "95 % interval: below 1, the other takes longer."
    )
    title = "The same recordings in one run"
    marked = frozenset({0})
    return [Paragraph(about), Table(columns, rows, title, [result.number], marked)]


def _ratio(ratios: Any) -> Cell:
    if ratios is None:
        return ""
    low, high = ratios["wall"]["ci95"]
    note = f"by CPU time {ratios['cpu']['median']:.2f}"
    return Figure(f"{ratios['wall']['median']:.2f}", f"{low:.2f} to {high:.2f}", note)


def _trials(result: Result) -> Table:
    rows: list[Sequence[Cell]] = []
    marked = set()
    chosen = result.get("chosen")
    for position, trial in enumerate(result["trials"]):
        if chosen and all(trial[key] == value for key, value in chosen.items()):
            marked.add(position)
        reason = trial["given_up"] or ""
        rows.append(
            (
                trial_name(trial),
                rate(trial["wer"], trial["ci95"], reason),
                number(trial["rtf"], reason=reason),
                number(trial["latency_ms"], "ms", reason=reason),
                number(trial["memory_mb"], "MB", reason=reason),
                "yes" if trial["on_front"] else "",
            )
            if trial["wer"] is not None
            else (trial_name(trial), Figure(None, note=reason), "", "", "", "")
        )
    limits = {"rtf": "RTF", "memory_mb": "MB", "latency_ms": "ms"}
    budget = ", ".join(
        f"{value:g} {limits[key]}" for key, value in result["budget"].items() if value is not None
    )
    return Table(
        ("operating point", "WER", "RTF", "latency", "peak memory", "on the front"),
        rows,
        f"All operating points; chosen: the marked one, within {budget or 'no budget'}",
        [result.number],
        frozenset(marked),
    )
