"""The table of a matrix, in a Markdown file.

It stands between the lines `<!-- matrix: made by asr bench --matrix -->` and `<!-- /matrix -->`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.errors import AsrError
from asr.evaluation.bench.rows import format_number
from asr.whole_files import write_whole

FIRST, LAST = "<!-- matrix: made by asr bench --matrix -->\n", "<!-- /matrix -->\n"

COLUMNS: tuple[tuple[str, str], ...] = (
    ("name", "variant"),
    ("file_mb", "MB"),
    ("step_ms_p50", "step ms p50"),
    ("step_ms_p95", "p95"),
    ("step_ratio", "ratio"),
    ("rtf", "RTF"),
    ("load_ms", "load ms"),
    ("peak_rss_mb", "peak MB"),
    ("wer", "WER %"),
    ("wer_delta", "change"),
    ("nodes", "nodes"),
)

_PERCENT = ("wer", "wer_delta")


def check_markers(path: Path) -> None:
    """Raise AsrError unless the file can be read and has one table: better now than at the end."""
    _parts(path)


def write_table(path: Path, content: Mapping[str, Any]) -> None:
    """Put the table of a matrix result between its markers in `path`. Raises AsrError."""
    before, after = _parts(path)
    text = before + FIRST + markdown(content) + LAST + after
    write_whole(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def markdown(content: Mapping[str, Any]) -> str:
    """Return the tables of a matrix result, variants and roofline, and the line below them."""
    titles = [title for _, title in COLUMNS]
    rows = [[cell(variant, key) for key, _ in COLUMNS] for variant in content["variants"]]
    text = _table(titles, rows)
    roofline = content["roofline"]
    if "reason" in roofline:
        text += f"\nNo roofline: {roofline['reason']}.\n"
    else:
        titles = ["variant", "MB a step", "MMAC a step", "bound ms", "bound by", "achieved"]
        keys = "name", "mb_per_step", "mmac_per_step", "bound_ms", "bound_by", "achieved"
        bounds = [[cell(item, key) for key in keys] for item in roofline["variants"]]
        text += "\n" + _table(titles, bounds)
        text += (
            f"\nOne thread here copies {format_number(roofline['bandwidth_gb_s'])} GB/s and "
            f"multiplies {format_number(roofline['int8_gmac_s'])} (int8) or "
            f"{format_number(roofline['fp32_gmac_s'])} (fp32) GMAC/s.\n"
        )
    machine, commit = content["machine"], content["commit"] or f"version {content['version']}"
    return text + (
        f"\n{content['engine']}, {machine['processor']}, {content['date'][:10]}, "
        f"commit {commit[:12]}: `{content['command']}`\n"
    )


def cell(item: Mapping[str, Any], key: str) -> str:
    """Return a value of a variant to read, n/a where there is none."""
    value = item.get(key)
    if value is None:
        return "n/a"
    if isinstance(value, str):
        return value.replace("|", "\\|")
    if key in _PERCENT:
        return f"{100 * value:+.2f}" if key == "wer_delta" else f"{100 * value:.2f}"
    return format_number(value)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _parts(path: Path) -> tuple[str, str]:
    """Return what stands before and behind the table."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AsrError(f"--table {path}: can't be read: {error}") from error
    if text.count(FIRST) != 1 or text.count(LAST) != 1 or text.index(FIRST) > text.index(LAST):
        raise AsrError(
            f"--table {path}: expected one line {FIRST.strip()} and behind it one line "
            f"{LAST.strip()}, for the table to stand between"
        )
    return text[: text.index(FIRST)], text[text.index(LAST) + len(LAST) :]
