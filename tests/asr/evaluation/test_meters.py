"""Protects the figures of memory and speed."""

import subprocess
import sys
from pathlib import Path

import pytest

from asr.evaluation import meters
from asr.evaluation.meters import RtfMeter, peak_rss_mb, rss_mb

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="/proc/self/status is Linux only"
)


@needs_proc
def test_peak_remembers_what_was_freed() -> None:
    """In a process of its own: 200 MB touched and freed count for the peak, not for now."""
    code = (
        "from asr.evaluation.meters import peak_rss_mb, rss_mb\n"
        "before = rss_mb()\n"
        "block = bytearray(b'x') * 200_000_000\n"
        "del block\n"
        "print(before, rss_mb(), peak_rss_mb())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after, peak = map(float, done.stdout.split())
    assert peak == pytest.approx(before + 200, abs=10)
    assert after < before + 50


def test_without_proc_getrusage_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = peak_rss_mb()
    monkeypatch.setattr(meters, "_STATUS", tmp_path / "no such file")
    assert peak_rss_mb() == pytest.approx(known, rel=0.5)  # the same order: the unit is right
    with pytest.raises(OSError, match="no such file"):
        rss_mb()


def test_rtf_counts_only_what_is_inside() -> None:
    times = iter([10.0, 10.5, 20.0, 20.25])
    meter = RtfMeter(clock=lambda: next(times))
    assert meter.rtf == 0.0
    for seconds in (2.0, 1.0):
        with meter.computing():
            pass
        meter.add_audio(seconds)
    assert (meter.compute_s, meter.audio_s) == (0.75, 3.0)
    assert meter.rtf == 0.25


def test_waiting_is_no_cpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_times = iter([5.0, 5.5])
    monkeypatch.setattr(meters.time, "thread_time", lambda: next(cpu_times))
    wall_times = iter([0.0, 2.0])
    meter = RtfMeter(clock=lambda: next(wall_times))
    with meter.computing():
        pass
    assert (meter.compute_s, meter.cpu_s) == (2.0, 0.5)


def test_meters_add_up() -> None:
    total = RtfMeter()
    for compute_s, audio_s in ((0.5, 4.0), (1.0, 2.0)):
        meter = RtfMeter()
        meter.compute_s, meter.cpu_s, meter.audio_s = compute_s, compute_s / 2, audio_s
        total.add(meter)
    assert (total.compute_s, total.cpu_s, total.audio_s, total.rtf) == (1.5, 0.75, 6.0, 0.25)


def test_rtf_counts_computation_that_failed() -> None:
    times = iter([0.0, 1.0])
    meter = RtfMeter(clock=lambda: next(times))
    with pytest.raises(KeyError), meter.computing():
        raise KeyError
    assert meter.compute_s == 1.0
