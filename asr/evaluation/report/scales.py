"""Axes of charts: from values to pixels, and the round numbers to write beside them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_TINY = 1e-100
"""Numbers below it have no logarithms and quotients to rely on."""

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """One axis: `low` lies at pixel `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def around(
        cls,
        values: Iterable[float],
        start: float,
        end: float,
        *,
        log: bool = False,
        zero: bool = False,
    ) -> "Scale":
        """A scale with room for the values: from zero if `zero`, and up to a round number if it is
        not logarithmic. Values that a logarithm hasn't are left out. It is there without values
        too."""
        known = [value for value in values if math.isfinite(value) and (value > _TINY or not log)]
        if not known:
            return cls(1.0, 10.0, start, end, log) if log else cls(0.0, 1.0, start, end)
        low, high = min(known), max(known)
        if log:
            room = (high / low) ** 0.08 * 1.12
            return cls(low / room, high * room, start, end, log=True)
        if zero:
            low, high = min(low, 0.0), max(high, 0.0)
        largest = max(-low, high)
        if high - low <= 1e-9 * largest or high - low < _TINY:
            room = largest / 2 if largest > _TINY else 0.5
            low, high = low - room, high + room
        step = _step(low, high, 5)
        return cls(math.floor(low / step) * step, math.ceil(high / step) * step, start, end)

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; one outside lies at the edge."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> tuple[float, ...]:
        """Return about so many round values within the scale."""
        if not self.log:
            step = _step(self.low, self.high, count)
            first = math.ceil(self.low / step - 1e-9)
            last = math.floor(self.high / step + 1e-9)
            return tuple(number * step for number in range(first, last + 1))
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for mantissas in ((1, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,)):
            values = [m * 10.0**decade for decade in decades for m in mantissas]
            inside = tuple(value for value in values if self.low <= value <= self.high)
            if len(inside) <= count + 2:
                return inside
        return inside


def tick_text(value: float) -> str:
    """Write a round value: as many digits as it needs."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"


def _step(low: float, high: float, count: int) -> float:
    rough = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(rough))
    return next(step * unit for step in _STEPS if step * unit >= rough * 0.999)
