"""Admission: as many streams as the machine holds, and a reason for the next one."""

import pytest

from asr.budget import Budget, OperatingPoint
from asr.serving.capacity import FULL_AT, Capacity, Footprint, Refused

POINT = OperatingPoint(320)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make(
    rtf: float = 0.1, max_streams: int = 1000, budget: Budget | None = None
) -> tuple[Capacity, Clock]:
    clock = Clock()
    footprint = Footprint(idle_mb=100.0, growth_mb=10.0)
    return Capacity({POINT: rtf}, 2, max_streams, budget, footprint, clock), clock


def fill(capacity: Capacity) -> Refused:
    while True:
        try:
            capacity.admit(POINT)
        except Refused as refused:
            return refused


def test_the_calibrated_costs_fill_the_cpus() -> None:
    capacity, _ = make(rtf=0.099)
    refused = fill(capacity)
    assert capacity.streams == 14, f"{FULL_AT} of 2 CPUs"
    assert refused.reason == "load"
    assert "14 streams need 1.39 of 2 CPUs, and one more, which needs 0.099" in str(refused)
    capacity.release(POINT)
    capacity.admit(POINT)


def test_the_number_of_streams_is_limited() -> None:
    capacity, _ = make(rtf=0.001, max_streams=3)
    assert fill(capacity).reason == "full"
    assert capacity.streams == 3


def test_a_slower_machine_takes_fewer() -> None:
    capacity, clock = make(rtf=0.099)
    capacity.observe(POINT, audio_s=10.0, compute_s=1.98)  # twice what it should
    fill(capacity)
    assert capacity.streams == 7
    clock.now_s = 11.0  # forgotten
    assert capacity.load_cpus == pytest.approx(0.693)
    fill(capacity)
    assert capacity.streams == 14


def test_what_costs_little_for_now_takes_no_more() -> None:
    """A second pass comes behind the first 2.56 s, and speech behind a silence."""
    capacity, _ = make(rtf=0.099)
    capacity.observe(POINT, audio_s=20.0, compute_s=1.0)  # half of what it should
    fill(capacity)
    assert capacity.streams == 14


def test_one_stream_is_always_taken() -> None:
    capacity, _ = make(rtf=5.0)
    fill(capacity)
    assert capacity.streams == 1


def test_the_budgets_of_those_inside_come_first() -> None:
    capacity, _ = make(rtf=0.1, budget=Budget(rtf=0.3))
    capacity.admit(POINT)
    capacity.observe(POINT, audio_s=10.0, compute_s=2.9)
    with pytest.raises(Refused, match=r"an RTF of 0\.290 here now, too near to the budget of 0\.3"):
        capacity.admit(POINT)


def test_streams_that_come_at_once_leave_each_other_their_memory() -> None:
    """None has grown into its own yet when the next one comes."""
    capacity, _ = make(rtf=0.001, budget=Budget(memory_mb=130.5))
    refused = fill(capacity)
    assert capacity.streams == 5, "two that compute, and three at 3 MB"
    assert refused.reason == "memory"
    assert "6 streams may need 132 MB of memory, and the budget is 130.5 MB" in str(refused)
    capacity.release(POINT)
    capacity.admit(POINT)


def test_little_computation_says_nothing() -> None:
    capacity, _ = make(rtf=0.099)
    capacity.observe(POINT, audio_s=0.5, compute_s=0.5)
    fill(capacity)
    assert capacity.streams == 14


def test_it_holds_no_more_after_an_hour() -> None:
    capacity, clock = make()
    for step in range(36_000):
        clock.now_s = step / 10
        capacity.observe(POINT, 0.32, 0.03)
    assert len(capacity._recent) <= 102
    assert capacity.load_cpus == 0.0
