"""Energy of made-up machines: trees of files as Linux has them, and a clock that is told."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from asr.evaluation.cost.energy import (
    MIN_BATTERY_S,
    EnergyMeter,
    EnergyUse,
    PowerRails,
    energy_rows,
    find_source,
)


def _files(root: Path, contents: dict[str, object]) -> Path:
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


RAPL = {
    "class/powercap/intel-rapl:0/name": "package-0",
    "class/powercap/intel-rapl:0/energy_uj": 1_000_000,
    "class/powercap/intel-rapl:0/max_energy_range_uj": 5_000_000,
    "class/powercap/intel-rapl:1/name": "psys",
    "class/powercap/intel-rapl:1/energy_uj": 8,
    "class/powercap/intel-rapl:0:0/name": "core",
    "class/powercap/intel-rapl:0:0/energy_uj": 7,
}
INA = {
    "class/hwmon/hwmon0/name": "ina3221",
    "class/hwmon/hwmon0/in1_label": "VDD_CPU",
    "class/hwmon/hwmon0/in1_input": 5000,
    "class/hwmon/hwmon0/curr1_input": 400,
    "class/hwmon/hwmon0/in2_input": 12_000,
    "class/hwmon/hwmon0/curr2_input": 100,
    "class/hwmon/hwmon1/name": "coretemp",
    "class/hwmon/hwmon1/temp1_input": 40_000,
}
BATTERY = {
    "class/power_supply/AC/online": 0,
    "class/power_supply/BAT0/status": "Discharging",
    "class/power_supply/BAT0/current_now": -500_000,
    "class/power_supply/BAT0/voltage_now": 4_000_000,
}


def test_rapl_counts_packages_and_survives_a_wrap(tmp_path: Path) -> None:
    source = find_source(_files(tmp_path, RAPL))
    assert source.name == "RAPL package-0"
    assert source.joules(0.0) == {"package-0": 0.0}
    counter = tmp_path / "class/powercap/intel-rapl:0/energy_uj"
    counter.write_text("4000000\n")
    assert source.joules(1.0) == {"package-0": pytest.approx(3.0)}
    counter.write_text("500000\n")  # 1 J to the end of the range, and half a joule more
    assert source.joules(2.0) == {"package-0": pytest.approx(4.5)}
    assert source.volts() is None


def test_rails_add_up_current_times_voltage(tmp_path: Path) -> None:
    source = find_source(_files(tmp_path, INA))
    assert source.name == "hwmon VDD_CPU, ina3221.in2"
    source.joules(10.0)
    (tmp_path / "class/hwmon/hwmon0/curr1_input").write_text("800\n")  # 2 W become 4 W
    joules = source.joules(11.0)
    assert joules == {"VDD_CPU": pytest.approx(3.0), "ina3221.in2": pytest.approx(1.2)}


def test_a_power_sensor_is_read_as_it_is(tmp_path: Path) -> None:
    root = {"class/hwmon/hwmon0/name": "ina226", "class/hwmon/hwmon0/power1_input": 2_500_000}
    source = find_source(_files(tmp_path, root))
    source.joules(0.0)
    assert source.joules(2.0) == {"ina226.power1": pytest.approx(5.0)}


def test_a_battery_that_discharges_is_a_source(tmp_path: Path) -> None:
    source = find_source(_files(tmp_path, BATTERY))
    source.joules(0.0)
    assert source.joules(3.0) == {"BAT0": pytest.approx(6.0)}
    assert source.volts() == pytest.approx(4.0)
    assert source.min_s == MIN_BATTERY_S


def test_a_counter_comes_before_a_sensor_and_a_battery(tmp_path: Path) -> None:
    assert find_source(_files(tmp_path, INA | BATTERY | RAPL)).name.startswith("RAPL")
    assert find_source(_files(tmp_path / "board", INA | BATTERY)).name.startswith("hwmon")


@pytest.mark.parametrize(
    ("files", "reasons"),
    [
        ({}, ["no RAPL", "no power rails", "no battery"]),
        (BATTERY | {"class/power_supply/BAT0/status": "Charging"}, ["BAT0 is charging: unplug"]),
    ],
)
def test_a_machine_without_a_source_says_what_was_looked_for(
    tmp_path: Path, files: dict[str, object], reasons: Iterable[str]
) -> None:
    with pytest.raises(LookupError) as error:
        find_source(_files(tmp_path, files))
    for reason in reasons:
        assert reason in str(error.value)


def test_a_meter_measures_its_block_only() -> None:
    clock = iter(range(100))
    source = PowerRails("rails", {"cpu": lambda: 2.0, "memory": lambda: 1.0})
    source.joules(-50.0)  # what was before doesn't count
    meter = EnergyMeter(source, clock=lambda: float(next(clock)), every_s=1000)
    with meter:
        pass
    use = meter.use
    assert use.seconds == 1.0
    assert use.joules["cpu"] == pytest.approx(2 * use.joules["memory"])
    assert use.total_j == pytest.approx(6.0)  # two ticks: the second is read behind the block


def test_idle_power_is_subtracted_and_the_raw_figure_kept() -> None:
    source = PowerRails("rails", {"cpu": lambda: 0.0, "memory": lambda: 0.0})
    idle = EnergyUse(10.0, {"cpu": 10.0, "memory": 10.0}, None)  # 2 W
    use = EnergyUse(5.0, {"cpu": 20.0, "memory": 10.0}, None)  # 30 J, 20 J of them its own
    rows = energy_rows(source, idle, use, audio_s=100.0)
    assert rows["energy_raw_mj_per_audio_s"].value == pytest.approx(300)
    assert rows["energy_mj_per_audio_s"].value == pytest.approx(200)
    assert rows["mwh_per_audio_h"].value == pytest.approx(200)  # 0.2 W for an hour
    assert rows["energy_raw.cpu_mj_per_audio_s"].value == pytest.approx(200)
    assert rows["mah_per_audio_h"].reason == "rails is no battery"
    assert rows["energy_mj_per_audio_s"].source == "measured: rails"


def test_a_battery_has_no_figure_for_a_short_run() -> None:
    source = PowerRails("battery", {"BAT0": lambda: 0.0}, volts=lambda: 4.0, min_s=600)
    idle, short = EnergyUse(10.0, {"BAT0": 1.0}, 4.0), EnergyUse(60.0, {"BAT0": 100.0}, 4.0)
    rows = energy_rows(source, idle, short, 100.0)
    assert {row.reason for row in rows.values()} == {"60 s are too short for battery: 600 s needed"}
    long = energy_rows(source, idle, EnergyUse(600.0, {"BAT0": 100.0}, 4.0), 100.0)
    assert long["mah_per_audio_h"].value == pytest.approx(400 / 4)
