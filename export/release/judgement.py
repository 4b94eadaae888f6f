"""Whether the figures of a model suffice for it to become the built-in one."""

from collections.abc import Mapping
from typing import Any

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
    for name, report in quantized.items():
        if costs_too_many_words(exact[name].errors, report.errors, MAX_WER_DELTA):
            found.append(f"{name}: int8 costs more than {MAX_WER_DELTA:g} points of WER")
    shared = [name for name in before if name in quantized]
    if shared:
        new = _mean([quantized[name].errors.rate for name in shared])
        old = _mean([before[name]["wer"] for name in shared])
        if not new < old:
            found.append(f"it is no better: mean WER {new:.2%}, the card has {old:.2%}")
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
