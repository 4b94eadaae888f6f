"""How figures are written: numbers with their unit, spreads, and reasons in place of numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from asr.evaluation.bench.rows import format_number
from asr.evaluation.report.document import Figure

_FRACTIONS = ("wer", "cer", "ser", "ci95", "share_", "unstable_partial_wer", "rtf_cv")
_BYTES = ("dram_bytes", "state_bytes")

ROW_GROUPS: Mapping[str, Mapping[str, str]] = {
    "Words": {
        "wer": "word error rate",
        "ins": "insertions",
        "del": "deletions",
        "sub": "substitutions",
        "cer": "character error rate",
        "words": "words",
    },
    "Size": {
        "size_mb": "networks",
        "size_fp32_mb": "networks, fp32",
        "size_int8_mb": "networks, int8",
        "bundle_mb": "bundle",
        "params": "parameters",
        "params_encoder": "in the encoder",
        "params_predictor": "in the predictor",
        "params_joiner": "in the joiner",
        "installed_mb": "installed, with what it needs",
        "dependencies": "packages it needs",
    },
    "Speed": {
        "rtf": "real-time factor",
        "rtfx": "times faster than real time",
        "rtf_p95_chunk": "real-time factor of a chunk, p95",
        "chunk_ms_p50": "time per chunk, p50",
        "chunk_ms_p95": "time per chunk, p95",
        "chunk_ms_p99": "time per chunk, p99",
        "chunks_per_s": "chunks",
        "tokens_per_s": "tokens",
        "deadline_miss_percent": "chunks later than the next one",
        "share_features": "time in features",
        "share_encoder": "time in the encoder",
        "share_predictor": "time in the predictor",
        "share_joiner": "time in the joiner",
        "share_search": "time in the search",
    },
    "Latency": {
        "algorithmic_latency_ms": "algorithmic",
        "first_partial_ms": "first partial",
        "response_latency_ms_p50": "end of speech to final text, p50",
        "response_latency_ms_p90": "end of speech to final text, p90",
        "emission_latency_ms_p50": "end of a word to its last token, p50",
        "emission_latency_ms_p90": "end of a word to its last token, p90",
        "display_latency_ms_p50": "end of a word to its display, p50",
        "display_latency_ms_p90": "end of a word to its display, p90",
        "endpoint_latency_ms_p50": "end of speech to endpoint, p50",
        "endpoint_latency_ms_p90": "end of speech to endpoint, p90",
        "partial_revisions_per_word": "words that a partial took back, per word",
        "unstable_partial_wer": "unstable partials",
    },
    "Memory and loading": {
        "load_ms": "load",
        "import_load_ms": "import and load",
        "rss_load_mb": "resident after loading",
        "rss_peak_mb": "resident, peak",
        "state_bytes": "state of a stream",
        "growth_mb_per_h": "growth",
    },
    "Energy": {
        "energy_mj_per_audio_s": "above idle, per second of audio",
        "energy_raw_mj_per_audio_s": "raw, per second of audio",
        "energy_modelled_mj_per_audio_s": "modelled, per second of audio",
        "energy_modelled_encoder_mj_per_audio_s": "modelled, encoder",
        "energy_modelled_predictor_mj_per_audio_s": "modelled, predictor",
        "energy_modelled_joiner_mj_per_audio_s": "modelled, joiner",
        "dram_bytes_per_audio_s": "memory read per second of audio",
        "mwh_per_audio_h": "per hour of audio",
        "mah_per_audio_h": "of a battery, per hour of audio",
    },
    "Endurance and budgets": {
        "rtf_first_min": "real-time factor, first minute",
        "rtf_last_min": "real-time factor, last minute",
        "rtf_cv": "variation of the real-time factor",
        "throttled_at_s": "throttled after",
        "temp_start_c": "temperature at the start",
        "temp_end_c": "temperature at the end",
        "temp_max_c": "temperature, highest",
        "rss_growth_mb_per_h": "growth of memory",
        "rtf_budget": "budget of real-time factor",
        "mem_budget_mb": "budget of memory",
        "actions": "moves between operating points",
        "violations": "times a budget was broken",
    },
}
"""The rows of a bench in words, in groups. One that isn't here has its own name."""

OTHER_ROWS = "Others"

_ROW_NAMES = {name: words for group in ROW_GROUPS.values() for name, words in group.items()}


def percent(value: float, digits: int = 1) -> str:
    """Write a fraction as percent."""
    return f"{100 * value:.{digits}f} %"


def rate(
    value: float | None, ci95: Sequence[float] | None = None, reason: str = "", note: str = ""
) -> Figure:
    """A rate, with its 95 % interval where there is one."""
    if value is None:
        return Figure(None, note=reason or "not in the file")
    spread = f"95 %: {100 * ci95[0]:.1f} to {percent(ci95[1])}" if ci95 else ""
    return Figure(percent(value), spread, note)


def number(
    value: float | None,
    unit: str = "",
    spread: Sequence[float] | None = None,
    reason: str = "",
    note: str = "",
) -> Figure:
    """A number with its unit; `spread` are two ends of it."""
    if value is None:
        return Figure(None, note=reason or "not in the file")
    ends = f"{short(spread[0])} to {short(spread[1])}" if spread else ""
    return Figure(f"{short(value)} {unit}".rstrip(), ends, note)


def short(value: float) -> str:
    """Write a number with about three digits."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def row(name: str, content: Mapping[str, Any]) -> Figure:
    """A row of `asr.evaluation.bench.rows`."""
    value, unit, note = content.get("value"), content.get("unit") or "", content.get("source") or ""
    unit = {"percent": "%", "c": "°C"}.get(unit, unit)
    if value is None:
        return Figure(None, note=content.get("reason") or "no reason given")
    spread = content.get("spread")
    if name.startswith(_FRACTIONS):
        ends = f"{percent(spread[0])} to {percent(spread[1])}" if spread else ""
        return Figure(percent(value), ends, note)
    if name.startswith(_BYTES) and value >= 1000:
        value, unit = value / 1e6, unit.replace("bytes", "MB") or "MB"
        spread = [end / 1e6 for end in spread] if spread else None
    if value == int(value) and unit in ("", "bytes", "words", "tokens"):
        return Figure(f"{format_number(value)} {unit}".rstrip(), "", note)
    return number(value, unit, spread, note=note)


def row_name(name: str) -> str:
    """The name of a row, in words."""
    return _ROW_NAMES.get(name) or name.replace("_", " ")
