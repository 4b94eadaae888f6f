"""Energy of a computation, where this machine has a counter or a sensor for it.

Sources, the best first; a machine may have several, which overlap, so one is used:

- RAPL: `/sys/class/powercap/*/energy_uj`, counters of CPU packages (Intel, AMD), often root's.
- hwmon rails: `power*_input` (uW) or `in*_input` (mV) times `curr*_input` (mA), such as the INA3221
  and INA226 of development boards.
- a battery that discharges: `/sys/class/power_supply/*/` current (uA) and voltage (uV); its gauge
  is slow, so only a run of minutes says anything. Of a phone over adb:
  `asr.evaluation.bench.devices`.

A run is measured from its first to its last moment; what the idle machine takes, measured before
it, is subtracted, and the raw figure kept. The whole machine is in it, other programs too.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Protocol, Self

from asr.evaluation.bench.rows import Row, figure, not_available

SAMPLE_S = 0.1
MIN_BATTERY_S = 600.0
"""A battery gauge moves in steps of a percent: a shorter run has no figure."""

_MILLI, _MICRO = 1e-3, 1e-6


class EnergySource(Protocol):
    """What tells energy."""

    @property
    def name(self) -> str:
        """What it is, for the reader of the figure."""
        ...

    @property
    def min_s(self) -> float:
        """Shortest run of which it says anything."""
        ...

    def joules(self, now_s: float) -> Mapping[str, float]:
        """Return the energy of each rail since any origin, at `now_s` of the meter's clock."""
        ...

    def volts(self) -> float | None:
        """Return the voltage, where it is a battery's."""
        ...


class Rapl:
    """Counters of CPU packages."""

    min_s = 0.0

    def __init__(self, zones: Mapping[str, Path]) -> None:
        """`zones`: the directory of each counter, by its name."""
        self._zones = zones
        self._last: dict[str, float] = {}
        self._total: dict[str, float] = dict.fromkeys(zones, 0.0)

    @property
    def name(self) -> str:
        """See `EnergySource`."""
        return f"RAPL {', '.join(self._zones)}"

    def joules(self, now_s: float) -> Mapping[str, float]:
        """See `EnergySource`. A counter that wrapped is seen to, if it is read often enough."""
        for rail, zone in self._zones.items():
            now = _read_number(zone / "energy_uj")
            step = now - self._last.get(rail, now)
            if step < 0:
                step += _read_number(zone / "max_energy_range_uj")
            self._last[rail] = now
            self._total[rail] += step * _MICRO
        return dict(self._total)

    def volts(self) -> float | None:
        """See `EnergySource`."""
        return None


class PowerRails:
    """Sensors of power now, added up over time by the trapezoid rule."""

    def __init__(
        self,
        name: str,
        rails: Mapping[str, Callable[[], float]],
        *,
        volts: Callable[[], float] | None = None,
        min_s: float = 0.0,
    ) -> None:
        """`rails`: what reads the power of each in watts; `volts` that of a battery."""
        self.name = name
        self.min_s = min_s
        self._rails = rails
        self._volts = volts
        self._last: tuple[float, dict[str, float]] | None = None
        self._total = dict.fromkeys(rails, 0.0)

    def joules(self, now_s: float) -> Mapping[str, float]:
        """See `EnergySource`."""
        watts = {rail: read() for rail, read in self._rails.items()}
        if self._last is not None:
            last_s, before = self._last
            for rail, power in watts.items():
                self._total[rail] += (now_s - last_s) * (power + before[rail]) / 2
        self._last = now_s, watts
        return dict(self._total)

    def volts(self) -> float | None:
        """See `EnergySource`."""
        return self._volts() if self._volts else None


def find_source(sysfs: Path = Path("/sys")) -> EnergySource:
    """Return the best source of this machine. Raises LookupError that says what was looked for and
    why it can't be used."""
    reasons = []
    for find in (_find_rapl, _find_rails, _find_battery):
        try:
            return find(sysfs)
        except LookupError as reason:
            reasons.append(str(reason))
    raise LookupError("no energy counter: " + "; ".join(reasons))


@dataclass(frozen=True, slots=True)
class EnergyUse:
    """What a run took."""

    seconds: float
    joules: Mapping[str, float]  # by rail, the idle machine included
    volts: float | None

    @property
    def total_j(self) -> float:
        """All rails."""
        return sum(self.joules.values())

    @property
    def watts(self) -> float:
        """On average."""
        return self.total_j / self.seconds if self.seconds else 0.0


class EnergyMeter:
    """Reads a source every 0.1 s while the `with` block runs."""

    def __init__(
        self,
        source: EnergySource,
        clock: Callable[[], float] = time.monotonic,
        every_s: float = SAMPLE_S,
    ) -> None:
        """`clock` tells seconds from any origin."""
        self._source = source
        self._clock = clock
        self._every_s = every_s
        self._ended = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._error: OSError | None = None

    def __enter__(self) -> Self:
        self._started = self._clock()
        self._before = self._source.joules(self._started)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._seconds = self._clock() - self._started
        self._after = self._source.joules(self._clock())

    @property
    def use(self) -> EnergyUse:
        """What the block took. Raises OSError where the source failed in it."""
        if self._error is not None:
            raise self._error
        joules = {rail: self._after[rail] - self._before[rail] for rail in self._after}
        return EnergyUse(self._seconds, joules, self._source.volts())

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self._source.joules(self._clock())
            except OSError as error:
                self._error = error
                return


MEASURED_ROWS = (
    ("energy_mj_per_audio_s", "mJ/s of audio"),
    ("energy_raw_mj_per_audio_s", "mJ/s of audio"),
    ("mwh_per_audio_h", "mWh/h of audio"),
    ("mah_per_audio_h", "mAh/h of audio"),
)


def energy_rows(
    source: EnergySource, idle: EnergyUse, use: EnergyUse, audio_s: float
) -> dict[str, Row]:
    """Return the measured rows of a run over `audio_s` seconds of audio; those of single rails come
    last, raw, where there are several."""
    if use.seconds < source.min_s:
        reason = f"{use.seconds:.0f} s are too short for {source.name}: {source.min_s:.0f} s needed"
        return {name: not_available(unit, reason) for name, unit in MEASURED_ROWS}
    where = f"measured: {source.name}"
    raw_mj = 1000 * use.total_j / audio_s
    net_mj = max(0.0, 1000 * (use.total_j - idle.watts * use.seconds) / audio_s)
    rows = {
        "energy_mj_per_audio_s": figure(net_mj, "mJ/s of audio", where),
        "energy_raw_mj_per_audio_s": figure(raw_mj, "mJ/s of audio", where),
        "mwh_per_audio_h": figure(net_mj, "mWh/h of audio", where),  # J/s = Wh/h
    }
    if use.volts:
        rows["mah_per_audio_h"] = figure(net_mj / use.volts, "mAh/h of audio", where)
    else:
        rows["mah_per_audio_h"] = not_available("mAh/h of audio", f"{source.name} is no battery")
    if len(use.joules) > 1:
        for rail, joules in use.joules.items():
            mj = 1000 * joules / audio_s
            rows[f"energy_raw.{rail}_mj_per_audio_s"] = figure(mj, "mJ/s of audio", where)
    return rows


def _find_rapl(sysfs: Path) -> EnergySource:
    zones, unreadable = {}, []
    for zone in sorted((sysfs / "class/powercap").glob("*")):
        # Packages only: their parts, such as "core", and "psys", the platform, overlap with them.
        if (zone / "energy_uj").exists() and _read_text(zone / "name").startswith("package"):
            try:
                _read_number(zone / "energy_uj")
                zones[_read_text(zone / "name")] = zone
            except OSError as error:
                unreadable.append(f"{zone.name} ({error.strerror})")
    if zones:
        return Rapl(zones)
    raise LookupError(
        f"RAPL can't be read: {', '.join(unreadable)}" if unreadable else "no RAPL in powercap"
    )


def _find_rails(sysfs: Path) -> EnergySource:
    rails: dict[str, Callable[[], float]] = {}
    for chip in sorted((sysfs / "class/hwmon").glob("hwmon*")):
        for power in sorted(chip.glob("power*_input")):
            number = power.name.removeprefix("power").removesuffix("_input")
            rails[_label(chip, f"power{number}")] = _scaled(_MICRO, power)
        if any(chip.glob("power*_input")):
            continue
        for current in sorted(chip.glob("curr*_input")):
            number = current.name.removeprefix("curr").removesuffix("_input")
            volts = chip / f"in{number}_input"
            if volts.exists():
                rails[_label(chip, f"in{number}")] = _scaled(_MILLI * _MILLI, current, volts)
    readable = {rail: read for rail, read in rails.items() if _works(read)}
    if readable:
        return PowerRails(f"hwmon {', '.join(readable)}", readable)
    raise LookupError("no power rails in hwmon")


def _find_battery(sysfs: Path) -> EnergySource:
    for supply in sorted((sysfs / "class/power_supply").glob("*")):
        current, volts = supply / "current_now", supply / "voltage_now"
        if not (current.exists() and volts.exists()):
            continue
        status = _read_text(supply / "status")
        if status != "Discharging":
            raise LookupError(f"the battery {supply.name} is {status.lower()}: unplug the charger")
        read = _scaled(_MICRO * _MICRO, current, volts)
        rails = {supply.name: lambda read=read: abs(read())}
        name = f"battery {supply.name}"
        return PowerRails(name, rails, volts=_scaled(_MICRO, volts), min_s=MIN_BATTERY_S)
    raise LookupError("no battery")


def _scaled(unit: float, *paths: Path) -> Callable[[], float]:
    """Return what reads the product of these files, in `unit`."""

    def read() -> float:
        product = unit
        for path in paths:
            product *= _read_number(path)
        return product

    return read


def _label(chip: Path, sensor: str) -> str:
    label = chip / f"{sensor}_label"
    return _read_text(label) if label.exists() else f"{_read_text(chip / 'name')}.{sensor}"


def _works(read: Callable[[], float]) -> bool:
    try:
        read()
    except (OSError, ValueError):
        return False
    return True


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()


def _read_number(path: Path) -> float:
    return float(_read_text(path))
