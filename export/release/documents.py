"""The parts of the documents that a release writes, between markers; the rest is written by hand.

A part begins with the line `<!-- NAME: made by make release-model -->` and ends with the line
`<!-- /NAME -->`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.errors import ExportError
from export.release.curve import Point, thinned

PARTS_OF_DOCUMENTS = {
    "README.md": ("demo", "summary", "wer"),
    "data/MODEL_CARD.md": ("summary", "wer", "curve"),
    "data/RESULTS.md": ("results",),
}

CURVE_ROWS = 12


def read_documents(root: Path) -> dict[str, str]:
    """Return the text of each document. Raises ExportError if one, or a part of it, is missing."""
    documents = {}
    for name, parts in PARTS_OF_DOCUMENTS.items():
        try:
            documents[name] = (root / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ExportError(f"{root / name}: can't be read: {error}") from error
        for part in parts:
            try:
                read_part(documents[name], part)
            except ValueError as error:
                raise ExportError(f"{root / name}: {error}") from error
    return documents


def with_parts(documents: Mapping[str, str], contents: Mapping[str, str]) -> dict[str, str]:
    """Return the documents with new contents, by part; each part must be given."""
    updated = dict(documents)
    for name, parts in PARTS_OF_DOCUMENTS.items():
        for part in parts:
            start, end = _span(updated[name], part)
            text = updated[name]
            updated[name] = text[:start] + contents[part] + text[end:]
    return updated


def read_part(text: str, part: str) -> str:
    """Return the content of a part. Raises ValueError if it is not there, or not just once."""
    start, end = _span(text, part)
    return text[start:end]


def _span(text: str, part: str) -> tuple[int, int]:
    first, last = f"<!-- {part}: made by make release-model -->\n", f"<!-- /{part} -->\n"
    if text.count(first) != 1 or text.count(last) != 1 or text.index(first) > text.index(last):
        raise ValueError(f"expected one part {first.strip()} ... {last.strip()}")
    return text.index(first) + len(first), text.index(last)


def card_parts(card: Mapping[str, Any], curve: Sequence[Point]) -> dict[str, str]:
    """Return the parts that follow from the model card and the learning curve."""
    return {
        "summary": _summary(card),
        "wer": _wer_table(card),
        "curve": _curve_table(curve, list(card["wer"])),
    }


def demo_part(texts: Mapping[str, str]) -> str:
    """Return what `asr transcribe` prints for recordings: the text of each, by file."""
    return "```\n" + "".join(f"{file}: {text}\n" for file, text in texts.items()) + "```\n"


def results_part(before: str, card: Mapping[str, Any]) -> str:
    """Return the rows of the table of results with those of the model that has `card`."""
    rows = [
        f"| WER, {name} | {percent(row['wer'])} ({_interval(row)}); fp32 {percent(row['fp32_wer'])}"
        f", one pass {percent(row['one_pass_wer'])}, greedy {percent(row['greedy_wer'])}"
        f" | `make release-model` | split dev, {row['utterances']} utterances, {row['words']} words"
        f" | {card['date']} | {card['commit']} |\n"
        for name, row in card["wer"].items()
    ]
    alone = card["speechless"]
    minutes = alone["audio_s"] / 60
    rows.append(
        f"| words heard where nobody speaks | {alone['words']} in {minutes:.1f} minutes"
        f" | `make release-model` | {alone['noises']} noises left out of training, silence and hiss"
        f" | {card['date']} | {card['commit']} |\n"
    )
    return before + "".join(row for row in rows if row not in before)


def percent(rate: float) -> str:
    """Write a rate as the documents do."""
    return f"{100 * rate:.1f} %"


def _summary(card: Mapping[str, Any]) -> str:
    rates = [100 * row["wer"] for row in card["wer"].values()]
    return (
        f"The built-in model has heard {card['training_hours_seen']:.0f} hours of audio in "
        f"training, repetitions counted.\nOf 100 words that are said to it, about {min(rates):.0f} "
        f"to {max(rates):.0f} come out wrong, by development set:\n"
    )


def _wer_table(card: Mapping[str, Any]) -> str:
    lines = [
        "| development set | WER | 95 % interval | ins / del / sub | words | fp32 | one pass "
        "| greedy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in card["wer"].items():
        label = f"{name} ({row['description']})" if row.get("description") else name
        errors = f"{row['insertions']} / {row['deletions']} / {row['substitutions']}"
        figures = [percent(row["wer"]), _interval(row), errors, str(row["words"])]
        others = [percent(row[f"{other}_wer"]) for other in ("fp32", "one_pass", "greedy")]
        lines.append("| " + " | ".join([label, *figures, *others]) + " |")
    conditions = f"{card['wer_conditions']}; {card['date']}, commit {card['commit']}."
    return "\n".join([*lines, "", conditions, _speechless(card["speechless"]), ""])


def _speechless(figures: Mapping[str, Any]) -> str:
    words = "one word" if figures["words"] == 1 else f"{figures['words'] or 'no'} words"
    return (
        f"In {figures['audio_s'] / 60:.1f} minutes in which nobody speaks it hears {words}: "
        f"{figures['noises']} noises that training left out, silence and hiss."
    )


def _interval(row: Mapping[str, Any]) -> str:
    low, high = row["ci95"]
    return f"{percent(low)} to {percent(high)}"


def _curve_table(curve: Sequence[Point], names: Sequence[str]) -> str:
    lines = [
        "| hours of audio heard | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for point in thinned(curve, CURVE_ROWS):
        rates = [percent(point.sets[name]) if name in point.sets else "" for name in names]
        lines.append(f"| {point.hours:.0f} | " + " | ".join(rates) + " |")
    return "\n".join([*lines, ""])
