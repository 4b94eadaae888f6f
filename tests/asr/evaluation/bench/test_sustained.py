"""A sustained run on a made-up clock, and what its samples come to."""

from collections.abc import Callable
from pathlib import Path

import pytest

import asr
from asr.evaluation.bench.sustained import (
    SustainedRun,
    SustainedSample,
    run_sustained,
    sustained_rows,
)
from asr.evaluation.cost.energy import EnergyUse, PowerRails
from asr.evaluation.cost.sensors import Sensors
from asr.evaluation.playback import Recording


class TickingClock:
    """Goes on by a tenth of a second each time that it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.1
        return self.now


def _sensors(folder: Path) -> Sensors:
    for name, content in {
        "class/thermal/thermal_zone0/temp": "45000",
        "class/thermal/thermal_zone1/temp": "asleep",
        "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2000000",
        "devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1000000",
        "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return Sensors(folder)


def test_a_run_looks_every_second_until_its_time_is_over(
    tiny_bundle: Path,
    write_speech: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recordings = [Recording(write_speech("speech.wav", 1.0))]
    seen: list[SustainedSample] = []
    run = run_sustained(
        asr.load(tiny_bundle),
        recordings,
        5.0,
        source=PowerRails("rails", {"cpu": lambda: 2.0}),
        sensors=_sensors(tmp_path / "sys"),
        clock=TickingClock(),
        watch=seen.append,
    )
    assert run.complete
    assert list(run.samples) == seen
    assert [sample.t for sample in seen] == pytest.approx([1.0, 2.0, 3.0, 4.0], abs=0.25)
    assert all(sample.rtf is not None and sample.rtf > 0 for sample in seen)
    assert {(s.temp_c, s.freq_mhz, s.throttle_count) for s in seen} == {(45.0, 1500.0, 3)}
    assert [sample.power_w for sample in seen] == pytest.approx([2.0] * len(seen), rel=0.2)
    assert run.energy is not None and run.energy.watts == pytest.approx(2.0, rel=0.1)


def test_a_run_that_is_stopped_is_not_complete(
    tiny_bundle: Path,
    write_speech: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recordings = [Recording(write_speech("speech.wav", 1.0))]
    recognizer = asr.load(tiny_bundle)
    run = run_sustained(recognizer, recordings, 500.0, clock=TickingClock(), stopped=lambda: True)
    assert (run.complete, run.samples, run.energy) == (False, (), None)


def test_a_machine_without_sensors(tmp_path: Path) -> None:
    reading = Sensors(tmp_path).read()
    assert (reading.temp_c, reading.freq_mhz, reading.throttle_count) == (None, None, None)


def _run(
    seconds: int,
    rtf: Callable[[int], float] = lambda t: 0.01,
    temp: Callable[[int], float | None] = lambda t: None,
    freq: Callable[[int], float | None] = lambda t: None,
    throttles: Callable[[int], int | None] = lambda t: None,
) -> SustainedRun:
    samples = tuple(
        SustainedSample(float(t), rtf(t), 100 + t / 36, temp(t), freq(t), None, throttles(t))
        for t in range(1, seconds + 1)
    )
    return SustainedRun(
        samples, 1000.0, float(seconds), True, EnergyUse(seconds, {"all": 90}, None)
    )


def test_first_and_last_minute_and_how_it_spreads() -> None:
    rows = sustained_rows(
        _run(180, rtf=lambda t: 0.01 if t <= 120 else 0.02), None, None, "no meter"
    )
    assert rows["rtf_first_min"].value == pytest.approx(0.01)
    assert rows["rtf_last_min"].value == pytest.approx(0.02)
    assert rows["rtf_cv"].value == pytest.approx(0.3545, abs=0.002)
    assert rows["rss_growth_mb_per_h"].value == pytest.approx(100)
    assert rows["energy_mj_per_audio_s"].reason == "no meter"
    assert rows["temp_max_c"].reason == "no temperature sensor below /sys"


def test_a_short_run_has_no_minutes() -> None:
    rows = sustained_rows(_run(60), None, None, "no meter")
    reason = "60 s; it takes two minutes or more"
    assert rows["rtf_last_min"].reason == rows["rss_growth_mb_per_h"].reason == reason


@pytest.mark.parametrize(
    ("run", "at_s", "how"),
    [
        (_run(180, throttles=lambda t: 3 + (t >= 90)), 90.0, "throttle counter"),
        (_run(180, freq=lambda t: 2000 if t < 100 else 1500), 100.0, "clock rate"),
        (_run(180, freq=lambda t: 2000 - t % 50), None, "it was not throttled"),
        (_run(180), None, "neither clock rate nor throttle counter below /sys"),
    ],
)
def test_throttling_is_seen_or_is_not_to_be_seen(
    run: SustainedRun, at_s: float | None, how: str
) -> None:
    row = sustained_rows(run, None, None, "no meter")["throttled_at_s"]
    assert (row.value, row.source or row.reason) == (at_s, how)


def test_temperature_and_energy_where_there_are_sensors() -> None:
    source = PowerRails("rails", {"cpu": lambda: 0.0})
    idle = EnergyUse(10.0, {"cpu": 1.0}, None)
    rows = sustained_rows(_run(180, temp=lambda t: 40 + t / 10), source, idle, "")
    assert rows["temp_start_c"].value == pytest.approx(40.1)
    assert rows["temp_max_c"].value == rows["temp_end_c"].value == pytest.approx(58)
    assert rows["energy_raw_mj_per_audio_s"].value == pytest.approx(90)
    assert rows["energy_mj_per_audio_s"].value == pytest.approx(90 - 18)
