"""What a stress run does and what its report says: on a simulated machine, in no time."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from asr.budget import Budget, OperatingPoint
from asr.bundle import StreamingConfig
from asr.decoding.greedy import GreedySearch
from asr.errors import AsrError, BudgetError
from asr.evaluation.envelope import Envelope, Machine, ModelIdentity
from asr.evaluation.meters import RtfMeter
from asr.evaluation.playback import BLOCK_S, Recording
from asr.evaluation.under_load import stress
from asr.evaluation.under_load.live_run import LiveRun, Observer, Sample
from asr.evaluation.under_load.stress import Progress, StressPlan, StressReport, run_stress
from asr.features import FeatureConfig
from asr.governor import Governor
from asr.results import Moved, Overrun
from asr.stream import Stream
from asr.supervisor import Supervisor
from tests.asr.fake_engine import LETTERS, BurstEngine

COSTS = {OperatingPoint(ms): c for ms, c in [(320, 7e-3), (640, 5e-3), (1280, 4e-3), (2560, 3e-3)]}
BEST, LOWEST = OperatingPoint(320), OperatingPoint(2560)
RECORDINGS = (Recording(Path("one.wav")),)

ENVELOPE = Envelope(
    version="1.2.3",
    commit="ab12",
    command="asr bench --stress",
    date="2026-01-01T00:00:00+00:00",
    machine=Machine("Linux-x86_64", "a processor", 2, 2),
    engine="onnxruntime 1.0",
    model=ModelIdentity("tiny", "ab12", 345),
    precision="int8",
    chunk_ms=320,
    search="greedy",
)


class SimulatedMachine(BurstEngine):
    """An engine whose calls take the CPU time of their operating point, and a share of the CPU.

    With h hogs on each of its CPUs, every time slice may be followed by h slices of the hogs: as on
    Linux, where a slice ends with a tick of the timer, 4 ms apart.
    """

    chunk_ms = BEST.chunk_ms
    slice_s = 0.004

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.random = Random(seed)
        self.hogs_per_cpu = 0
        self.now_s = 0.0
        self.log: list[str] = []

    def encode(self, features: np.ndarray, state: bool) -> tuple[np.ndarray, bool]:
        out, after = super().encode(features, state)
        self.windows.clear()
        cost = COSTS.get(OperatingPoint(40 * len(out)), 0.01)
        cpu_s = cost * 0.04 * len(out) * self.random.uniform(0.9, 1.1)
        ticks = int(cpu_s / self.slice_s + self.random.random())
        self.now_s += cpu_s + ticks * self.hogs_per_cpu * self.slice_s
        return out, after

    def calibrate(self) -> dict[OperatingPoint, float]:
        self.log.append("calibrate")
        assert self.hogs_per_cpu == 0
        return COSTS

    def stream(self, budget: Budget | None = None) -> Stream:
        if budget is None:
            return self._open(None)
        assert budget.rtf is not None
        if budget.rtf < COSTS[LOWEST]:
            raise BudgetError(f"rtf={budget.rtf:g} can't be held; ask for {COSTS[LOWEST]}")
        start = next((point for point in COSTS if COSTS[point] <= 0.9 * budget.rtf), LOWEST)
        return self._open(Supervisor(Governor(budget, COSTS, start), self.release_memory))

    def _open(self, supervisor: Supervisor | None) -> Stream:
        return Stream(
            self,
            GreedySearch(self),
            pieces=LETTERS,
            features=FeatureConfig(),
            streaming=StreamingConfig(),
            meter=RtfMeter(clock=lambda: self.now_s),
            supervisor=supervisor,
        )


Simulate = Callable[..., SimulatedMachine]


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Simulate:
    """Make a machine of two CPUs, and let hogs and runs be on it."""

    def make(seed: int = 0, die: int = 0) -> SimulatedMachine:
        machine = SimulatedMachine(seed)

        class FakeHogs:
            def __init__(self, count: int) -> None:
                self.count = count

            @property
            def pids(self) -> range:
                return range(self.count - die)

            def __enter__(self) -> Self:
                machine.log.append(f"{self.count} hogs")
                machine.hogs_per_cpu = self.count // 2
                return self

            def __exit__(
                self,
                kind: type[BaseException] | None,
                error: BaseException | None,
                traceback: TracebackType | None,
            ) -> None:
                machine.log.append("no hogs")
                machine.hogs_per_cpu = 0

        def run(
            stream: Stream,
            recordings: Sequence[Recording],
            seconds: float,
            *,
            watch: Callable[[Sample], None],
            stopped: Callable[[], bool],
        ) -> LiveRun:
            assert recordings == RECORDINGS
            machine.log.append(f"{seconds:g} s at {40 * stream.chunk_frames} ms")
            observer = Observer(stream.report, lambda: 0.0, lambda: stream.audio_s, lambda: 50.0)
            complete = True
            for _ in range(round(seconds / BLOCK_S)):
                stream.accept(np.zeros(round(16_000 * BLOCK_S), np.float32))
                if (sample := observer.look()) is not None:
                    watch(sample)
                if stopped():
                    complete = False
                    break
            return LiveRun(stream.report(), observer.samples, (), (), 0.0, complete)

        monkeypatch.setattr(stress, "Hogs", FakeHogs)
        monkeypatch.setattr(stress, "run_live", run)
        return machine

    return make


@pytest.mark.parametrize("seed", range(3))
def test_a_budget_above_the_lowest_point_and_below_the_best_is_held(
    simulate: Simulate, seed: int
) -> None:
    """And with the same budget, but no hogs, the stream runs at the best point."""
    report = run_stress(simulate(seed), RECORDINGS, StressPlan(180, 30, 4, None))
    assert report.budget_rtf is not None
    assert report.lowest_rtf is not None
    assert report.ungoverned_rtf is not None
    assert report.governed is not None
    assert report.budget_rtf == pytest.approx(1.3 * report.lowest_rtf, rel=0.01)
    assert report.lowest_rtf == pytest.approx(3 * COSTS[LOWEST], rel=0.2)
    assert report.ungoverned_rtf > report.budget_rtf
    assert len(report.governed.report.moves) >= 1
    assert report.governed.report.lost_audio_s == 0
    assert report.governed.report.rtf_last_min <= report.budget_rtf
    assert (report.complete, report.broken) == (True, ())

    idle = run_stress(simulate(seed), RECORDINGS, StressPlan(30, 5, 0, report.budget_rtf))
    assert idle.governed is not None
    assert idle.governed.ended_at == idle.best == BEST
    assert idle.broken == ()


def test_every_point_runs_alone_then_a_stream_with_the_budget(simulate: Simulate) -> None:
    machine, told = simulate(), list[Progress]()
    report = run_stress(machine, RECORDINGS, StressPlan(4, 3, 2, 0.5), watch=told.append)
    assert machine.log == [
        "calibrate",
        "2 hogs",
        "3 s at 320 ms",
        "3 s at 640 ms",
        "3 s at 1280 ms",
        "3 s at 2560 ms",
        "4 s at 320 ms",
        "no hogs",
    ]
    assert report.budget_rtf == 0.5
    assert list(report.measured) == list(COSTS)
    sections = list(dict.fromkeys((at.section, at.seconds, at.budget_rtf) for at in told))
    assert sections[0] == ("320 ms, no budget", 3, None)
    assert sections[-1] == ("budget 0.5", 4, 0.5)


def test_a_budget_that_can_not_be_held_is_refused_before_anything_runs(simulate: Simulate) -> None:
    machine = simulate()
    report = run_stress(machine, RECORDINGS, StressPlan(4, 3, 2, 0.001))
    assert machine.log == ["calibrate"]
    content = report.to_dict(ENVELOPE, [])
    assert content["refused"] == "rtf=0.001 can't be held; ask for 0.003"
    assert content["complete"] is False
    assert content["budget_rtf"] == 0.001
    assert content["moves"] is None
    assert content["ladder"][0]["calibrated_rtf"] == COSTS[BEST]


def test_a_derived_budget_that_is_refused_keeps_what_was_measured(simulate: Simulate) -> None:
    machine = simulate()
    report = run_stress(machine, RECORDINGS, StressPlan(4, 3, 0, None, budget_factor=0.2))
    assert machine.log[-1] == "no hogs"
    assert report.refused is not None
    assert (report.governed, report.complete) == (None, False)
    assert report.measured.keys() == COSTS.keys()


def test_an_interrupt_keeps_the_points_that_were_measured(simulate: Simulate) -> None:
    machine = simulate()
    report = run_stress(
        machine,
        RECORDINGS,
        StressPlan(4, 3, 2, None),
        stopped=lambda: "3 s at 1280 ms" in machine.log,
    )
    assert machine.log[-1] == "no hogs"
    assert list(report.measured) == [BEST, OperatingPoint(640)]
    content = report.to_dict(ENVELOPE, [])
    assert (content["complete"], content["broken"], content["refused"]) == (False, [], None)
    facts = ["lost_audio_s", "rtf_last_min", "budget_rtf", "moves", "overruns", "max_queue_s"]
    assert {content[key] for key in [*facts, "lowest_rtf", "ended_at", "late_s"]} == {None}
    assert content["ungoverned_rtf"] == report.measured[BEST]


def test_an_interrupt_of_the_run_with_the_budget_reports_its_part(simulate: Simulate) -> None:
    machine = simulate()
    report = run_stress(
        machine,
        RECORDINGS,
        StressPlan(60, 3, 2, 0.5),
        stopped=lambda: "60 s at 320 ms" in machine.log,
    )
    assert report.governed is not None
    assert not report.complete
    content = report.to_dict(ENVELOPE, [])
    assert (content["complete"], content["moves"]) == (False, 0)


def test_the_hogs_are_gone_after_an_error(simulate: Simulate) -> None:
    machine = simulate()

    def fail(progress: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_stress(machine, RECORDINGS, StressPlan(4, 3, 2, None), watch=fail)
    assert machine.log[-1] == "no hogs"


def test_a_load_that_died_breaks_the_report(simulate: Simulate) -> None:
    report = run_stress(simulate(die=1), RECORDINGS, StressPlan(4, 3, 2, 0.5))
    assert report.broken == (
        "only 1 of 2 CPU hogs lived to the end, so the load was less than asked for",
    )


@pytest.fixture
def held(simulate: Simulate) -> StressReport:
    """A report of a budget that was held."""
    return run_stress(simulate(), RECORDINGS, StressPlan(30, 3, 4, None))


def with_facts(report: StressReport, **facts: object) -> StressReport:
    run = report.governed
    assert run is not None
    return replace(report, governed=replace(run, report=replace(run.report, **facts)))


def test_what_was_promised_and_not_kept_is_named(held: StressReport) -> None:
    assert held.broken == ()
    worse = with_facts(held, lost_audio_s=0.25, rtf_last_min=0.2)
    lost, over = worse.broken
    assert lost == "0.25 s of audio were lost"
    assert over == f"the last minute ran at an RTF of 0.2, over the budget of {held.budget_rtf:g}"
    assert worse.to_dict(ENVELOPE, [])["broken"] == [lost, over]


def test_the_report_has_every_figure_under_its_name(held: StressReport) -> None:
    moved = Moved(1.0, BEST, LOWEST, "rtf 2 of 1")
    overrun = Overrun(0.5, "rtf", 2.0, 1.0, 0.25, "stays")
    report = with_facts(
        held,
        lost_audio_s=0.0,
        rtf_last_min=0.01,
        max_queue_s=0.75,
        moves=(moved,),
        overruns=(overrun,),
    )
    content = json.loads(json.dumps(report.to_dict(ENVELOPE, ["a.jsonl"])))
    assert content["commit"] == "ab12"
    assert content["command"] == "asr bench --stress"
    assert content["machine"]["processor"] == "a processor"
    assert (content["seconds"], content["probe_s"], content["hogs"]) == (30, 3, 4)
    assert content["recordings"] == ["a.jsonl"]
    assert content["lost_audio_s"] == 0.0
    assert content["rtf_last_min"] == 0.01
    assert content["budget_rtf"] == report.budget_rtf
    assert content["max_queue_s"] == 0.75
    assert content["ungoverned_rtf"] == report.measured[BEST]
    assert content["lowest_rtf"] == report.measured[LOWEST]
    assert (content["moves"], content["overruns"]) == (1, 1)
    assert [event["kind"] for event in content["events"]] == ["overrun", "moved"]
    assert content["events"][1] == {
        "kind": "moved",
        "time_s": 1.0,
        "from_point": {"chunk_ms": 320},
        "to_point": {"chunk_ms": 2560},
        "reason": "rtf 2 of 1",
    }
    assert content["events"][0]["behind_s"] == 0.25
    assert content["best_point"] == {"chunk_ms": 320}
    assert content["ended_at"] == {"chunk_ms": 2560}
    assert [rung["chunk_ms"] for rung in content["ladder"]] == [320, 640, 1280, 2560]
    assert content["ladder"][0]["calibrated_rtf"] == COSTS[BEST]
    assert content["ladder"][3]["measured_rtf"] == report.measured[LOWEST]
    assert sum(rung["audio_s"] for rung in content["ladder"]) == pytest.approx(content["audio_s"])
    assert len(content["series"]) == 30
    assert content["series"][-1].keys() == {"t", "rtf", "point", "queue_s", "resident_mb"}
    assert content["wer"] is None


@pytest.mark.parametrize("name", ["seconds", "probe_s", "budget_rtf", "budget_factor"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_plans(name: str, value: float) -> None:
    plan = StressPlan(1, 1, 0, None)
    with pytest.raises(AsrError, match=f"{name}={value}; expected a positive number"):
        replace(plan, **{name: value})


def test_a_derived_budget_can_be_typed_again() -> None:
    plan = StressPlan(1, 1, 0, None)
    assert plan.budget(lowest_rtf=0.0123456) == 0.016
    assert plan.budget(lowest_rtf=1 / 3) == 0.433
    assert replace(plan, budget_rtf=0.123456).budget(lowest_rtf=1 / 3) == 0.123456
