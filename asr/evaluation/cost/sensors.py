"""Temperature, clock rate and throttling of the processors, where Linux tells them."""

from dataclasses import dataclass
from pathlib import Path

_MILLI = 1e-3


@dataclass(frozen=True, slots=True)
class SensorReading:
    """What the sensors tell now; None: no such sensor."""

    temp_c: float | None  # of the hottest zone
    freq_mhz: float | None  # mean over the CPUs
    throttle_count: int | None  # times that a CPU was throttled since the machine began


class Sensors:
    """Reads below `/sys`. A sensor that fails later is as good as none."""

    def __init__(self, sysfs: Path = Path("/sys")) -> None:
        thermal = sysfs / "class/thermal"
        hwmon = sysfs / "class/hwmon"
        cpus = sysfs / "devices/system/cpu"
        self._temperatures = [*thermal.glob("thermal_zone*/temp"), *hwmon.glob("*/temp*_input")]
        self._frequencies = [*cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
        self._throttles = [*cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]

    def read(self) -> SensorReading:
        """Read all."""
        temperatures = _numbers(self._temperatures)
        frequencies = _numbers(self._frequencies)
        throttles = _numbers(self._throttles)
        return SensorReading(
            temp_c=max(temperatures) * _MILLI if temperatures else None,
            freq_mhz=sum(frequencies) / len(frequencies) * _MILLI if frequencies else None,
            throttle_count=round(sum(throttles)) if throttles else None,
        )


def _numbers(paths: list[Path]) -> list[float]:
    values = []
    for path in paths:
        try:
            values.append(float(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # such as a zone that sleeps
            continue
    return values
