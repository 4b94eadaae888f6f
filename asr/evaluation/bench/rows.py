"""The figures of a benchmark: each has a value, or the reason why there is none.

A result of `asr bench` is one JSON object: `schema_version`, `kind`, the envelope
(`asr.evaluation.envelope`), `threads`, and `rows`, an object from the name of a figure to

    {"value": 1.5, "unit": "ms", "reason": null, "spread": [1.4, 1.7], "n": 3, "source": null}

- `value`: the median over `n` repetitions. null: it could not be measured, and `reason` says why.
- `spread`: first and third quartile of the repetitions; null where there was only one.
- `source`: where a figure comes from, unless it is the run itself: "modelled", the name of an
  energy counter, "fresh process", the speech whose word times are known.

The order is that of the table. Rates and shares are fractions, MB are 10^6 bytes. Kind "bench" is
described in `benchmark.py`, "sustained" in `sustained.py`, and "matrix", which has `variants` in
place of `rows`, in `matrix.py`.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from asr.evaluation.envelope import Envelope

BENCH_SCHEMA_VERSION = 1

INTERRUPTED = "interrupted"
"""The reason of what an interrupt left no time for."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure."""

    value: float | None
    unit: str
    reason: str | None = None  # why there is no value
    spread: tuple[float, float] | None = None  # quartiles over the repetitions
    n: int = 1  # repetitions
    source: str | None = None  # where it comes from, if that isn't evident

    def __post_init__(self) -> None:
        """Raises ValueError for a figure without a value and a reason, or with both."""
        if (self.value is None) == (self.reason is None):
            raise ValueError(
                f"a value of {self.value!r} and the reason {self.reason!r}; expected one"
            )
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a value of {self.value}; expected a finite number, or a reason")

    def __str__(self) -> str:
        if self.value is None:
            return f"n/a: {self.reason}"
        text = f"{format_number(self.value)} {self.unit}".rstrip()
        if self.spread is not None:
            text += f" ({format_number(self.spread[0])} to {format_number(self.spread[1])})"
        return text

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data."""
        return asdict(self)


def not_available(unit: str, reason: str) -> Row:
    """Return a row without a value."""
    return Row(None, unit, reason)


def figure(values: float | Sequence[float], unit: str, source: str | None = None) -> Row:
    """Return the row of a figure that was measured once, or of the median of several times.

    Raises ValueError for no value at all: say with `not_available` why that is so.
    """
    repeated = [values] if isinstance(values, int | float) else list(values)
    if not repeated:
        raise ValueError("no value; expected one or more, or not_available()")
    spread = None
    if len(repeated) > 1:
        low, _, high = statistics.quantiles(repeated, n=4, method="inclusive")
        spread = (low, high)
    return Row(float(statistics.median(repeated)), unit, None, spread, len(repeated), source)


def result_head(
    kind: str, envelope: Envelope, sources: Sequence[str], threads: int
) -> dict[str, Any]:
    """Return how the JSON of every kind begins."""
    return {
        "schema_version": BENCH_SCHEMA_VERSION,
        "kind": kind,
        **asdict(envelope),
        "threads": threads,
        "sources": list(sources),
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which `percent` of the values lie, the nearest rank (no
    interpolation, so it is one of them). Raises ValueError for no values."""
    if not values:
        raise ValueError("no percentile of nothing")
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(0, rank - 1)]


def rows_to_dict(rows: Mapping[str, Row]) -> dict[str, Any]:
    """Return `rows` as a result holds them."""
    return {name: row.to_dict() for name, row in rows.items()}


def all_not_available(names: Iterable[tuple[str, str]], reason: str) -> dict[str, Row]:
    """Return rows without values, for (name, unit) pairs that one reason explains."""
    return {name: not_available(unit, reason) for name, unit in names}


def format_number(value: float) -> str:
    """Return a number to read: about four digits, whole ones whole."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value)}"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
