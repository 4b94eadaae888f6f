"""Whether the figures of a model suffice for it to become the built-in one."""

from collections.abc import Mapping
from typing import Any

from asr.evaluation.accuracy.comparison import OtherReport, compare
from asr.evaluation.accuracy.wer import WordErrors
from export.release.measurement import Reports
from export.verify import MAX_WER_DELTA, costs_too_many_words


def objections(card: Mapping[str, Any], reports: Mapping[str, Reports]) -> list[str]:
    """Return what speaks against a model in place of the one with `card`, a line each."""
    quantized, exact, before = reports["int8"], reports["fp32"], card["wer"]
    found = []
    for name, row in before.items():
        words = quantized[name].errors.words if name in quantized else 0
        if words != row["words"]:
            found.append(
                f"{name}: {words} words were measured, the card has figures of {row['words']}: "
                "not the same recordings"
            )
    found += _costs_of_int8(quantized, exact)
    shared = [name for name in before if name in quantized]
    if shared:
        new = _mean([quantized[name].errors.rate for name in shared])
        old = _mean([before[name]["wer"] for name in shared])
        if not new < old:
            found.append(f"it is no better: mean WER {new:.2%}, the card has {old:.2%}")
    return found


def _costs_of_int8(quantized: Reports, exact: Reports) -> list[str]:
    """Return where int8 loses more words than it may: over all sets together, or on one of them.

    A set of 2,336 words gains and loses 16 by rounding alone, more than 0.3 points: so what one set
    says counts only if the paired bootstrap takes it for real.
    """
    found = []
    for name, report in quantized.items():
        if costs_too_many_words(exact[name].errors, report.errors, MAX_WER_DELTA):
            against = compare(report.scores, OtherReport.of("fp32", exact[name].scores))
            if against.is_real:
                found.append(f"{name}: int8 costs more than {MAX_WER_DELTA:g} points of WER")
    total, total_exact = (
        WordErrors.total(report.errors for report in reports.values())
        for reports in (quantized, exact)
    )
    if costs_too_many_words(total_exact, total, MAX_WER_DELTA):
        found.append(f"all sets: int8 costs more than {MAX_WER_DELTA:g} points of WER")
    return found


def comparison(card: Mapping[str, Any], reports: Mapping[str, Reports]) -> list[str]:
    """Return a line for each set: the rates of the model, and the rate on `card`."""
    lines = []
    for name, report in reports["int8"].items():
        before = f"{card['wer'][name]['wer']:.2%}" if name in card["wer"] else "no figure"
        exact = reports["fp32"][name].errors.rate
        lines.append(
            f"{name}: {report.errors.rate:.2%} in int8, {exact:.2%} in fp32; on the card {before}"
        )
    return lines


def _mean(rates: list[float]) -> float:
    return sum(rates) / len(rates)
