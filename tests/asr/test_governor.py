"""The governor's guarantees, on a clock of fake audio: it reaches a point that holds, in bounded
time, in both directions, and never oscillates."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.budget import CHUNKS_MS, Budget, OperatingPoint
from asr.errors import AsrError
from asr.governor import (
    DOWN_AT,
    MAX_WAIT_S,
    OVERRUN_EVERY_S,
    SETTLE_CHUNKS,
    SETTLE_S,
    TRIAL_S,
    UP_AT,
    WAIT_S,
    WINDOW_S,
    Governor,
    Measurement,
)
from asr.results import Moved, Overrun

LADDER = tuple(map(OperatingPoint, CHUNKS_MS))
COSTS = dict(zip(LADDER, [0.015, 0.006, 0.004, 0.0029, 0.0025], strict=True))
BEST, LOWEST = LADDER[0], LADDER[-1]

Load = Callable[[float, OperatingPoint], float]
"""The RTF at a time, at an operating point."""


class Run:
    """A stream of fake audio under a governor."""

    def __init__(self, governor: Governor) -> None:
        self.governor = governor
        self.time_s = 0.0
        self.moves: list[Moved] = []
        self.overruns: list[Overrun] = []

    def chunk(self, rtf: float, queued_s: float = 0.0) -> None:
        point = self.governor.point
        audio_s = point.chunk_ms / 1000
        self.time_s += audio_s
        decision = self.governor.observe(
            Measurement(self.time_s, point, audio_s, rtf * audio_s, queued_s)
        )
        if isinstance(decision, Moved):
            self.moves.append(decision)
            assert (decision.from_point, decision.to_point) == (point, self.governor.point)
        elif decision is not None:
            self.overruns.append(decision)

    def until(self, time_s: float, load: Load) -> None:
        while self.time_s < time_s:
            self.chunk(load(self.time_s, self.governor.point))


def scaled(factor: float) -> Load:
    return lambda time_s, point: factor * COSTS[point]


def settling_s(point: OperatingPoint) -> float:
    """The longest that a point is held under overload: until it is judged, and a chunk."""
    chunk_s = point.chunk_ms / 1000
    return max(math.ceil(SETTLE_S / chunk_s), SETTLE_CHUNKS) * chunk_s + chunk_s


def budget_of(rtf: float | None, preferred: OperatingPoint, slack: float | None) -> Budget:
    """With a latency that leaves the preferred point that share of its chunk for computation;
    below 0, it can't hold it."""
    latency_ms = None if slack is None else preferred.wait_ms + slack * preferred.chunk_ms
    return Budget(rtf=rtf, latency_ms=latency_ms)


RATIOS = st.floats(0.01, 100)
SLACKS = st.none() | st.floats(-0.2, 0.06)  # a budget of rtf=0.05 holds a latency of 0.05
FACTORS = st.floats(0.001, 1000) | st.builds(  # half of them where a point is near the limit
    lambda cost, share: share * 0.05 / cost, st.sampled_from([*COSTS.values()]), st.floats(0.5, 1.5)
)


@settings(deadline=None, max_examples=60)
@given(
    calm_s=st.floats(0, 60),
    calm=st.lists(st.floats(0, 2), min_size=5, max_size=5),
    over=st.lists(st.floats(1.001, 50), min_size=5, max_size=5),
    start=st.sampled_from(LADDER),
    preferred=st.sampled_from(LADDER),
    slack=SLACKS,
)
def test_overload_reaches_the_lowest_point_in_bounded_time(
    calm_s: float,
    calm: list[float],
    over: list[float],
    start: OperatingPoint,
    preferred: OperatingPoint,
    slack: float | None,
) -> None:
    """Whatever it cost before, however unlike the calibration the overload is, and whatever latency
    that costs."""
    limit = 0.05
    run = Run(Governor(budget_of(limit, preferred, slack), COSTS, start, preferred))
    run.until(calm_s, lambda _, point: limit * calm[LADDER.index(point)])
    bound_s = WINDOW_S + sum(map(settling_s, LADDER))
    run.until(run.time_s + bound_s, lambda _, point: limit * over[LADDER.index(point)])
    assert run.governor.point == LOWEST


@settings(deadline=None, max_examples=100)
@given(
    factor=FACTORS,
    start=st.sampled_from(LADDER),
    seed=st.integers(0, 2**32),
    preferred=st.sampled_from(LADDER),
    slack=SLACKS,
)
def test_a_constant_load_settles_and_never_moves_again(
    factor: float,
    start: OperatingPoint,
    seed: int,
    preferred: OperatingPoint,
    slack: float | None,
) -> None:
    noise = Random(seed)
    start = max(start, preferred)  # as admission does
    run = Run(Governor(budget_of(0.05, preferred, slack), COSTS, start, preferred))
    run.until(1200, lambda _, point: factor * COSTS[point] * noise.uniform(0.9, 1.1))
    assert len(run.moves) <= len(LADDER) - 1
    directions = {move.to_point > move.from_point for move in run.moves}
    assert len(directions) <= 1, "it went one way and came back"


def most_moves(seconds: float) -> float:
    return (len(LADDER) - 1) * (12 + 4 * seconds / TRIAL_S)


@settings(deadline=None, max_examples=40)
@given(
    ratios=st.lists(RATIOS, min_size=5, max_size=5),
    jitter=st.floats(0, 0.9),
    seed=st.integers(0, 2**32),
    preferred=st.sampled_from(LADDER),
    slack=SLACKS,
)
def test_no_load_makes_it_oscillate(
    ratios: list[float],
    jitter: float,
    seed: int,
    preferred: OperatingPoint,
    slack: float | None,
) -> None:
    """Each point costs what it likes, dearer below than above for all we know."""
    noise = Random(seed)
    run = Run(Governor(budget_of(0.05, preferred, slack), COSTS, preferred=preferred))
    run.until(
        1200,
        lambda _, point: 0.05 * ratios[LADDER.index(point)] * noise.uniform(1 - jitter, 1 + jitter),
    )
    assert len(run.moves) <= most_moves(1200)


@pytest.mark.parametrize("hold_s", [0.0, 2.5, 30.0, TRIAL_S - 1, TRIAL_S + 1])
@pytest.mark.parametrize("rest", [1, 3])
def test_an_adversary_can_not_make_it_oscillate(hold_s: float, rest: int) -> None:
    """The load vanishes whenever the governor is low, and comes back when it has climbed."""
    run = Run(Governor(Budget(rtf=0.05), COSTS))
    since = 0.0
    for _ in range(20_000):
        low = LADDER.index(run.governor.point) >= rest
        since = run.time_s if low else since
        run.chunk(0.5 if not low and run.time_s - since >= hold_s else 1e-5)
    assert 4 < len(run.moves) <= most_moves(run.time_s)


@pytest.mark.parametrize("preferred", LADDER[1:4])
@pytest.mark.parametrize("hold_s", [0.0, 11.0, 30.0, TRIAL_S + 1])
@pytest.mark.parametrize("over", [False, True], ids=["latency", "latency and rtf"])
def test_an_adversary_of_latencies_can_not_either(
    preferred: OperatingPoint, hold_s: float, over: bool
) -> None:
    """At the preferred point words are late until it is left; then the quicker ones are too dear,
    or there is no need of them any more."""
    budget = Budget(rtf=0.05, latency_ms=preferred.wait_ms + 200)
    run = Run(Governor(budget, COSTS, preferred=preferred))
    since = 0.0
    for _ in range(20_000):
        is_above = run.governor.point < preferred
        since = run.time_s if is_above else since
        is_late = not is_above and run.time_s - since >= hold_s
        run.chunk(0.5 if over and is_above else 1e-5, queued_s=0.4 if is_late else 0.0)
    assert 4 < len(run.moves) <= most_moves(run.time_s)


def test_a_failed_try_goes_back_and_waits_twice_as_long() -> None:
    """The point above looks cheap and isn't: it is tried ever more rarely, and left at once."""
    above, here = LADDER[1], LADDER[2]
    costs = {above: 0.004, here: 0.004}
    run = Run(Governor(Budget(rtf=0.05), costs, start=here))
    run.until(1000, lambda _, point: 0.2 if point == above else 0.01)
    ups = [move.time_s for move in run.moves if move.to_point == above]
    downs = [move.time_s for move in run.moves if move.to_point == here]
    assert [move.to_point for move in run.moves[:4]] == [above, here, above, here]
    waits = [up - down for up, down in zip(ups[1:], downs, strict=False)]
    assert waits[:4] == pytest.approx([20, 40, 80, 160], abs=0.7)
    assert waits[4:] == pytest.approx([MAX_WAIT_S] * len(waits[4:]), abs=0.7)
    stays = [down - up for up, down in zip(ups, downs, strict=False)]
    assert max(stays) <= settling_s(above)


def test_a_try_that_lasts_halves_the_wait_again() -> None:
    """After four failed tries it waits 160 s before it goes up; after each stay above that lasted,
    half of that."""
    above, here = LADDER[1], LADDER[2]
    run = Run(Governor(Budget(rtf=0.05), {above: 0.004, here: 0.004}, start=here))
    run.until(400, lambda _, point: 0.2 if point == above else 0.01)
    first = len(run.moves)
    for _ in range(4):  # an overload of some seconds, far from each other
        run.until(run.time_s + MAX_WAIT_S + TRIAL_S + 60, lambda *_: 0.01)
        assert run.governor.point == above
        moves = len(run.moves)
        while len(run.moves) == moves:
            run.chunk(0.2)
    run.until(run.time_s + MAX_WAIT_S + 10, lambda *_: 0.01)
    times_s = [(move.time_s, move.to_point) for move in run.moves[first:]]
    waits = [up - down for (down, point), (up, _) in pairwise(times_s) if point == here]
    assert waits == pytest.approx([80, 40, 20, 10], abs=0.7)


@settings(deadline=None, max_examples=60)
@given(
    loads=st.lists(
        st.tuples(st.floats(1, 60), st.lists(RATIOS, min_size=5, max_size=5)), max_size=8
    ),
    start=st.sampled_from(LADDER),
    idle=st.floats(0.001, UP_AT * 0.999),
    preferred=st.sampled_from(LADDER),
    rtf=st.sampled_from([None, 0.05]),
    room=st.floats(1.001, 3),
)
def test_the_preferred_point_is_reached_again_in_bounded_time(
    loads: list[tuple[float, list[float]]],
    start: OperatingPoint,
    idle: float,
    preferred: OperatingPoint,
    rtf: float | None,
    room: float,
) -> None:
    """From below, and from above, where the latency of these loads has led it."""
    limit = 0.05
    idle_load = scaled(idle * limit / COSTS[BEST])
    slack = room * idle_load(0.0, preferred) / UP_AT
    run = Run(Governor(budget_of(rtf, preferred, slack), COSTS, start, preferred))
    for seconds, ratios in loads:
        run.until(run.time_s + seconds, lambda _, point, r=ratios: limit * r[LADDER.index(point)])
    bound_s = MAX_WAIT_S + WAIT_S * len(LADDER) + sum(point.chunk_ms for point in LADDER) / 1000
    run.until(run.time_s + bound_s, idle_load)
    assert run.governor.point == preferred


def test_the_first_point_that_should_hold_is_taken_at_once() -> None:
    """Not one rung after the other: a load five times as high needs the cheapest here."""
    run = Run(Governor(Budget(rtf=0.05), COSTS))
    run.until(30, scaled(0.05 * DOWN_AT / COSTS[LADDER[2]] * 0.99))
    assert [move.to_point for move in run.moves] == [LADDER[2]]
    assert "rtf 0." in run.moves[0].reason
    assert "of 0.05" in run.moves[0].reason


def test_a_few_seconds_just_below_the_limit_lead_down_only_when_they_last() -> None:
    run = Run(Governor(Budget(rtf=0.05), COSTS))
    run.until(WINDOW_S - 0.2, lambda *_: 0.05 * 0.95)
    assert run.moves == []
    run.until(WINDOW_S + 0.2, lambda *_: 0.05 * 0.95)
    assert len(run.moves) == 1


def test_a_late_chunk_is_no_overload() -> None:
    run = Run(Governor(Budget(rtf=0.2), COSTS))
    run.until(20, scaled(1))
    run.chunk(8.0)  # 1.3 s for 0.16 s of audio
    run.until(40, scaled(1))
    assert run.moves == []


def test_a_growing_queue_leads_down_without_an_rtf_budget() -> None:
    run = Run(Governor(Budget(), COSTS))
    for number in range(60):
        run.chunk(1.2, queued_s=0.1 * number)
    assert run.governor.point != BEST
    assert run.moves[0].reason.startswith("queue ")


def test_a_queue_that_shrinks_is_left_alone() -> None:
    """A machine that slept has much to catch up with, and catches up at any point: one move down,
    when the queue is first seen, and back when it is empty."""
    run = Run(Governor(Budget(), COSTS))
    for number in range(150):
        run.chunk(0.01, queued_s=max(0.0, 20 - 0.15 * number))
    assert [move.to_point for move in run.moves] == [LADDER[1], BEST]


def test_no_move_up_while_audio_waits() -> None:
    run = Run(Governor(Budget(rtf=0.05), COSTS, LOWEST))
    for _ in range(40):
        run.chunk(1e-4, queued_s=0.6)
    assert run.moves == []
    run.chunk(1e-4, queued_s=0.0)
    assert [move.to_point for move in run.moves] == [LADDER[3]]


def test_the_lowest_point_says_when_it_does_not_hold_and_how_far_behind_it_is() -> None:
    run = Run(Governor(Budget(rtf=0.05), COSTS, LOWEST))
    while run.time_s < 60:
        run.chunk(0.06, queued_s=3.0)
    assert run.moves == []
    told = [overrun for overrun in run.overruns if overrun.budget == "rtf"]
    assert 60 / OVERRUN_EVERY_S - 2 <= len(told) <= 60 / OVERRUN_EVERY_S
    assert told[0].found == pytest.approx(0.06)
    assert (told[0].limit, told[0].behind_s) == (0.05, 3.0)
    assert "lowest point" in told[0].action


def test_just_below_its_limit_the_lowest_point_is_no_overrun() -> None:
    run = Run(Governor(Budget(rtf=0.05), COSTS, LOWEST))
    run.until(60, lambda *_: 0.05 * 0.95)
    assert (run.moves, run.overruns) == ([], [])


def test_latency_is_told_and_never_leads_down() -> None:
    run = Run(Governor(Budget(latency_ms=238), COSTS))
    run.until(8, scaled(1))
    assert (run.moves, run.overruns) == ([], [])
    run.until(30, lambda *_: 0.5)  # 160 ms, 38 ms and 80 ms
    assert run.moves == []
    assert run.overruns[0].budget == "latency"
    assert run.overruns[0].found == pytest.approx(278)
    assert run.overruns[0].action == "stays at 160 ms: it is the quickest of this stream"


LATE = scaled(0.2 / COSTS[LADDER[1]])  # 320 ms of audio take 64; waiting for them takes 358


def late_run(budget: Budget) -> Run:
    """A stream that prefers 320 ms and may have no more than 400 of latency."""
    return Run(Governor(replace(budget, latency_ms=400), COSTS, preferred=LADDER[1]))


def test_a_broken_latency_leads_to_a_quicker_point_and_back_when_it_is_over() -> None:
    run = late_run(Budget())
    run.until(60, LATE)
    (move,) = run.moves
    assert (move.to_point, move.reason) == (
        BEST,
        "latency 422 ms of 400; rtf 0.2; 0.5 expected there, of 1",
    )
    assert move.time_s == pytest.approx(WAIT_S, abs=0.32)
    assert run.governor.latency_ms == pytest.approx(160 + 38 + 80)
    run.until(75, scaled(1))
    _, move = run.moves
    assert (move.to_point, move.reason) == (LADDER[1], "latency 360 ms expected there, of 400")
    run.until(600, scaled(1))
    assert (len(run.moves), run.overruns) == (2, [])


def test_a_quicker_point_that_would_break_the_rtf_is_not_taken() -> None:
    run = late_run(Budget(rtf=0.5))
    run.until(59, LATE)
    assert run.moves == []
    assert {overrun.action for overrun in run.overruns} == {
        "stays at 320 ms: a quicker one would break the rtf"
    }
    assert len(run.overruns) == 6
    assert run.overruns[0].found == pytest.approx(422)


def test_an_rtf_leads_down_from_a_quicker_point_whatever_the_latency() -> None:
    run = late_run(Budget(rtf=0.9))
    run.until(10.3, LATE)
    assert run.governor.point == BEST
    run.until(30, lambda *_: 2.0)
    assert [move.to_point for move in run.moves] == [BEST, LADDER[1], LOWEST], "the try failed"
    assert [move.reason for move in run.moves[2:]] == ["rtf 2 of 0.9"]


def test_an_rtf_leads_further_down_from_a_stream_that_had_just_come_back() -> None:
    """Not to where it came from, which is dearer still."""
    run = late_run(Budget(rtf=0.9))
    run.until(10.3, LATE)
    run.until(22, scaled(1))
    assert run.governor.point == LADDER[1]
    run.until(40, lambda *_: 2.0)
    points = [move.to_point for move in run.moves[1:]]
    assert points == sorted(points) and points[-1] == LOWEST


@pytest.mark.parametrize("rtf", [None, 0.9])
def test_an_overload_that_makes_words_late_does_not_lead_up_first(rtf: float | None) -> None:
    """It breaks the latency at once, and the mean of 10 s only later."""
    run = late_run(Budget(rtf=rtf))
    run.until(60, scaled(1))
    for _ in range(60):
        run.chunk(1.5)
    assert all(move.to_point > move.from_point for move in run.moves)
    assert bool(run.moves) == (rtf is not None)


def test_a_latency_that_is_near_its_limit_does_not_lead_back() -> None:
    """Of 400 ms, waiting takes 358 and computing must leave some of the rest."""
    run = late_run(Budget())
    run.until(10.3, LATE)

    def computing(share: float) -> Load:
        return scaled(share * 0.042 / 0.320 / COSTS[LADDER[1]])

    run.until(200, computing(UP_AT * 1.02))
    assert run.governor.point == BEST
    run.until(215, computing(UP_AT * 0.98))
    assert run.governor.point == LADDER[1]


def test_with_audio_that_waits_no_quicker_point_is_tried() -> None:
    """It would cost more for each second of it."""
    run = late_run(Budget())
    while run.time_s < 30:
        run.chunk(0.1, queued_s=0.6)
    assert run.moves == []
    assert run.overruns[0].action == "stays at 320 ms: a quicker one would be slower to catch up"


@pytest.mark.parametrize("point", LADDER[1:3])
def test_a_late_chunk_breaks_no_latency(point: OperatingPoint) -> None:
    run = Run(Governor(Budget(latency_ms=point.wait_ms + 50), COSTS, preferred=point))
    for _ in range(5):
        run.until(run.time_s + 15, scaled(1))
        run.chunk(1.0)
    assert (run.moves, run.overruns) == ([], [])


def test_a_latency_that_comes_back_keeps_the_stream_above_for_twice_as_long() -> None:
    """At 320 ms the words are late, at 160 ms nothing says that they would be."""
    run = late_run(Budget())
    while run.time_s < 1000:
        run.chunk(0.01, queued_s=0.1 if run.governor.point == LADDER[1] else 0.0)
    times_s = [move.time_s for move in run.moves]
    stays = [later - since for since, later in pairwise(times_s)]
    assert stays[::2][:5] == pytest.approx([10, 20, 40, 80, 160], abs=0.7)
    assert stays[::2][5:] == pytest.approx([MAX_WAIT_S] * len(stays[::2][5:]), abs=0.7)
    assert stays[1::2] == pytest.approx([WAIT_S] * len(stays[1::2]), abs=0.7)


def test_latency_is_the_p95_of_the_last_fifty_chunks() -> None:
    governor = Governor(Budget(), {BEST: 1.0})
    assert governor.latency_ms == 0.0
    for wall_ms in [*range(1000, 1100), *range(1, 51)]:
        governor.observe(Measurement(0.0, BEST, 0.16, wall_ms / 1000))
    assert governor.latency_ms == pytest.approx(160 + 38 + 48)  # 48 of 50 are at least 95 %


def test_chunks_of_another_point_say_nothing_of_this_one() -> None:
    governor = Governor(Budget(rtf=0.05), COSTS, LADDER[1])
    for number in range(100):
        assert governor.observe(Measurement(number, BEST, 0.16, 1.0)) is None
    assert governor.point == LADDER[1]


def test_without_a_budget_nothing_is_decided() -> None:
    run = Run(Governor(Budget(), COSTS))
    run.until(300, lambda *_: 5.0)
    assert (run.moves, run.overruns) == ([], [])


@pytest.mark.parametrize("limit", [0, -1, math.inf, math.nan])
def test_impossible_budgets(limit: float) -> None:
    for name in ("rtf", "memory_mb", "latency_ms"):
        with pytest.raises(AsrError, match=f"a budget of {name}={limit}; expected a positive"):
            Budget(**{name: limit})


TWO_PASS_COSTS = {
    point: cost + (COSTS[LOWEST] if point < LOWEST else 0.0) for point, cost in COSTS.items()
}
"""With all audio previewed, as `asr.calibration` states them."""


class TwoPassRun(Run):
    """A stream that hears each 2.56 s again, at the cost of its lowest point; some endpoints settle
    before."""

    def __init__(self, governor: Governor, seed: int = 0, endpoints: float = 0.0) -> None:
        """`endpoints` is the share of the long chunks that settle before they are full."""
        super().__init__(governor)
        self.random, self.endpoints = Random(seed), endpoints
        self.previewed_s, self.settles_at_s = 0.0, 2.56

    def chunk(self, rtf: float, queued_s: float = 0.0) -> None:
        """`rtf` is that of the present point if all audio is previewed."""
        point = self.governor.point
        factor = rtf / TWO_PASS_COSTS[point]
        audio_s = min(point.chunk_ms / 1000, 2.56 - self.previewed_s)
        is_full = self.previewed_s + audio_s > 2.56 - 1e-6
        settles = is_full or self.previewed_s + audio_s >= self.settles_at_s
        wall_s = 0.0 if is_full else factor * COSTS[point] * audio_s
        self.previewed_s += audio_s
        settled_s = self.previewed_s if settles else 0.0
        if settles:
            wall_s += factor * COSTS[LOWEST] * self.previewed_s
            self.previewed_s = 0.0
            early = self.random.random() < self.endpoints
            self.settles_at_s = self.random.uniform(0.3, 2.56) if early else 2.56
        self.time_s += audio_s
        decision = self.governor.observe(
            Measurement(
                self.time_s,
                point,
                audio_s,
                wall_s,
                queued_s,
                previewed_s=0.0 if is_full else audio_s,
                settled_s=settled_s,
            )
        )
        assert settles or decision is None
        if isinstance(decision, Moved):
            self.moves.append(decision)
        elif decision is not None:
            self.overruns.append(decision)


def two_pass_run(
    budget: Budget,
    preferred: OperatingPoint = LADDER[1],
    seed: int = 0,
    endpoints: float = 0.0,
) -> TwoPassRun:
    governor = Governor(budget, TWO_PASS_COSTS, preferred=preferred, settling=LOWEST)
    return TwoPassRun(governor, seed, endpoints)


def scaled_two_pass(factor: float, noise: Random | None = None) -> Load:
    return lambda _, point: (
        factor * TWO_PASS_COSTS[point] * (noise.uniform(0.9, 1.1) if noise else 1.0)
    )


@pytest.mark.parametrize("point", LADDER)
def test_a_second_pass_that_fits_leads_nowhere(point: OperatingPoint) -> None:
    """Though the RTF of any 2 s may be far above the limit, or below it."""
    limit = TWO_PASS_COSTS[point] * 10 / 0.88
    run = two_pass_run(Budget(rtf=limit), point)
    run.until(600, scaled_two_pass(10))
    assert (run.moves, run.overruns) == ([], [])


def test_an_overload_of_two_passes_leaves_the_second_alone() -> None:
    """The lowest point has no previews, so it costs least."""
    run = two_pass_run(Budget(rtf=10 * TWO_PASS_COSTS[LOWEST] / 0.85))
    run.until(200, scaled_two_pass(10))
    assert run.governor.point == LOWEST
    assert run.time_s > 200 and run.overruns == []
    assert [move.to_point for move in run.moves] == [LOWEST]
    assert run.moves[0].time_s <= WINDOW_S + 2 * 2.56


@settings(max_examples=60, deadline=None)
@given(
    factor=st.floats(0.4, 4.0),
    preferred=st.sampled_from(LADDER[:3]),
    endpoints=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 1000),
)
def test_a_constant_load_of_two_passes_moves_at_most_once_for_each_point(
    factor: float, preferred: OperatingPoint, endpoints: float, seed: int
) -> None:
    """Wherever endpoints cut the long chunks, and however much is previewed therefore."""
    limit = 10 * TWO_PASS_COSTS[preferred] / factor
    run = two_pass_run(Budget(rtf=limit), preferred, seed, endpoints)
    run.until(1500, scaled_two_pass(10, Random(seed)))
    assert len(run.moves) < len(LADDER), [move.reason for move in run.moves]


@pytest.mark.parametrize("share", [0.6, 0.65, UP_AT - 0.01])
@pytest.mark.parametrize("preferred", LADDER[:3])
def test_after_an_overload_two_passes_return_to_the_preferred_point(
    preferred: OperatingPoint, share: float
) -> None:
    run = two_pass_run(Budget(rtf=10 * TWO_PASS_COSTS[preferred] / share), preferred)
    run.until(60, scaled_two_pass(60))
    assert run.governor.point == LOWEST
    run.until(60 + MAX_WAIT_S + WAIT_S * len(LADDER) + 10 * 2.56, scaled_two_pass(10))
    assert run.governor.point == preferred


def test_the_second_pass_is_as_late_at_any_point() -> None:
    """So a quicker one saves what waiting for its audio takes, and nothing of the second pass."""
    second_ms = 1000 * 20 * COSTS[LOWEST] * 2.56
    for slack_ms, quicker in ((-20, True), (20, False)):
        run = two_pass_run(Budget(latency_ms=LADDER[1].wait_ms + second_ms + slack_ms))
        run.until(30, scaled_two_pass(20))
        assert (run.governor.point == BEST) is quicker
        if quicker:
            assert run.governor.latency_ms == pytest.approx(BEST.wait_ms + second_ms)
