"""What fits is admitted at the right point, what doesn't is refused with what would; profiles are
kept, and never believed when damaged."""

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import asr
import asr.calibration as calibration
from asr.budget import CHUNKS_MS, Budget, OperatingPoint
from asr.calibration import Admission, Profile, admit, calibrate, read_profile, write_profile
from asr.decoding.greedy import GreedySearch
from asr.errors import BudgetError
from asr.profile import ProfileKey, read_section, write_section
from tests.asr.fake_engine import BurstEngine

POINTS = [OperatingPoint(ms) for ms in CHUNKS_MS]
GROWTH_MB = dict(zip(POINTS, [2.0, 2.5, 3.0, 5.0, 8.0], strict=True))
PROFILE = Profile(dict(zip(POINTS, [0.1, 0.05, 0.03, 0.02, 0.015], strict=True)), GROWTH_MB)
KEY = ProfileKey("sha", "int8", "onnx", 1, "onnxruntime 1", "cpu", 2, "beam")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "earshot"


@pytest.mark.parametrize(
    ("budget", "preferred", "expected"),
    [
        (Budget(), 320, 320),
        (Budget(rtf=0.5), 160, 160),
        (Budget(rtf=0.5), 320, 320),
        (Budget(rtf=0.05), 320, 640),  # 320 ms would be at its limit
        (Budget(rtf=0.06), 320, 320),
        (Budget(rtf=0.0155), 160, 2560),  # the lowest may be
        (Budget(latency_ms=370), 320, 160),
        (Budget(latency_ms=374), 320, 320),  # 320 and 38 ms of audio, and 16 to compute
        (Budget(latency_ms=374), 1280, 320),
        (Budget(rtf=0.04, latency_ms=700), 160, 640),
        (Budget(memory_mb=103), 320, 320),
        (Budget(memory_mb=103), 2560, 640),
        (Budget(memory_mb=102), 320, 160),
    ],
)
def test_the_point_nearest_to_the_wish_that_fits(
    budget: Budget, preferred: int, expected: int
) -> None:
    admitted = admit(budget, PROFILE, OperatingPoint(preferred), held_mb=100)
    assert admitted.start == OperatingPoint(expected)


@pytest.mark.parametrize(
    ("budget", "wish", "ladder", "preferred"),
    [
        (Budget(), 320, POINTS[1:], 320),
        (Budget(rtf=0.05), 320, POINTS[1:], 320),  # starts at 640 ms
        (Budget(latency_ms=374), 320, POINTS, 320),
        (Budget(latency_ms=374), 1280, POINTS, 320),
        (Budget(latency_ms=370), 320, POINTS, 160),
        (Budget(memory_mb=105), 320, POINTS[1:4], 320),
        (Budget(memory_mb=102.9, latency_ms=1000), 320, POINTS[:2], 320),
    ],
)
def test_a_ladder_has_what_a_budget_needs_and_allows(
    budget: Budget, wish: int, ladder: list[OperatingPoint], preferred: int
) -> None:
    """Quicker points only for a latency; the longest chunks only where there is memory for them,
    and no memory is reserved for those that are left out."""
    admitted = admit(budget, PROFILE, OperatingPoint(wish), held_mb=100)
    assert admitted.rtf == {point: PROFILE.rtf[point] for point in ladder}
    assert admitted.preferred == OperatingPoint(preferred)
    assert admitted.growth_mb == GROWTH_MB[ladder[-1]]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(rtf=0.01), "rtf=0.01 can't be held: .* chunks of 2560 ms, needs 0.015"),
        (
            Budget(rtf=0.02, memory_mb=103.5),
            "point for which there is memory, .* 640 ms, needs 0.03",
        ),
        (Budget(memory_mb=60), "holds 100 MB .* adds up to 2; ask for 102 or more"),
        (Budget(latency_ms=100), "chunks of 160 ms, needs 214"),
        (Budget(rtf=0.04, latency_ms=220), "needs rtf=0.12, and such an rtf needs latency_ms=698"),
    ],
)
def test_a_refusal_states_what_would_fit(budget: Budget, message: str) -> None:
    with pytest.raises(BudgetError, match=message) as refused:
        admit(budget, PROFILE, OperatingPoint(320), held_mb=100)
    # Whoever asks for what the message names gets it.
    stated = dict(re.findall(r"(rtf|latency_ms)=([\d.]+)(?=,|;)", str(refused.value)))
    stated |= {"memory_mb": "102"} if budget == Budget(memory_mb=60) else {}
    for name, value in stated.items():
        admit(replace(budget, **{name: float(value)}), PROFILE, OperatingPoint(320), held_mb=100)


def test_a_profile_is_kept(cache: Path) -> None:
    assert read_profile(KEY, POINTS) is None
    write_profile(KEY, PROFILE)
    assert read_profile(KEY, POINTS) == PROFILE
    assert len(list(cache.iterdir())) == 1, "a temporary file was left"


def test_a_profile_of_more_points_is_enough(cache: Path) -> None:
    """Two that ask for different chunks in turn must not make each other's profile again."""
    other = OperatingPoint(200)
    write_profile(KEY, Profile({**PROFILE.rtf, other: 0.07}, {**GROWTH_MB, other: 2.2}))
    assert read_profile(KEY, POINTS) == PROFILE
    assert read_profile(KEY, [*POINTS, OperatingPoint(5120)]) is None


@pytest.mark.parametrize(
    "other", [{"bundle": "other"}, {"threads": 2}, {"cpu": "slower"}, {"search": "greedy"}]
)
def test_a_profile_of_something_else_is_not_used(other: dict) -> None:
    write_profile(KEY, PROFILE)
    assert read_profile(ProfileKey(**{**vars_of(KEY), **other}), POINTS) is None


def vars_of(key: ProfileKey) -> dict:
    return {name: getattr(key, name) for name in ProfileKey.__dataclass_fields__}


DAMAGES: list[Callable[[dict], object]] = [
    lambda content: {"extra": 1},
    lambda content: {"growth_mb": None},
    lambda content: {"growth_mb": 4.0},
    lambda content: {"growth_mb": {}},
    lambda content: {"growth_mb": {**content["growth_mb"], "160": math.nan}},
    lambda content: {"rtf": {}},
    lambda content: {"rtf": [0.1] * 5},
    lambda content: {"rtf": "fast"},
    lambda content: {"rtf": {**content["rtf"], "160": 0}},
    lambda content: {"rtf": {**content["rtf"], "160": "fast"}},
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_profile_is_none(damage: Callable[[dict], dict]) -> None:
    """tests/asr/test_profile.py damages the file around it."""
    write_profile(KEY, PROFILE)
    content = read_section(KEY, "calibration")
    write_section(KEY, "calibration", {**content, **damage(content)})
    assert read_profile(KEY, POINTS) is None


def test_where_no_profile_can_be_kept_that_is_said(cache: Path) -> None:
    cache.write_text("a file where the directory should be")
    with pytest.warns(UserWarning, match="can't be kept in .*; set XDG_CACHE_HOME"):
        write_profile(KEY, PROFILE)


def test_a_profile_that_can_not_be_written_leaves_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.warns(UserWarning, match=r"can't be kept in .* \(No space left on device\)"):
        write_profile(KEY, PROFILE)
    assert list(cache.iterdir()) == []


class Held:
    """The memory of a process, and an engine that keeps `kept_mb` for each stream that ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model_mb, self.kept_mb = 90.0, 0.0
        monkeypatch.setattr(calibration, "resident_mb", lambda: self.model_mb + self.kept_mb)

    def release_memory(self) -> None:
        self.kept_mb = 0.0


def test_what_earlier_streams_left_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """98 MB are enough for the first stream, also in the process that measured, and for those that
    follow it, all points included."""
    held = Held(monkeypatch)
    monkeypatch.setattr(calibration, "calibrate", lambda *_: PROFILE)
    admission = Admission(lambda: KEY, held, GreedySearch, lambda _: None, POINTS)
    for _ in range(3):
        admitted = admission.admit(Budget(memory_mb=98), OperatingPoint(320))
        assert list(admitted.rtf) == POINTS[1:]
        held.kept_mb = 8.0
    held.model_mb = 97.0  # something that can't be given back
    with pytest.raises(BudgetError, match=r"holds 97 MB .* adds up to 2; ask for 99 or more"):
        admission.admit(Budget(memory_mb=98), OperatingPoint(320))


class Bench(BurstEngine):
    """An engine that keeps more at each point, which is measured at a stated RTF."""

    def __init__(self, held: Held, rtf: dict[OperatingPoint, float]) -> None:
        super().__init__()
        self.held, self.rtf = held, rtf
        self.release_memory = held.release_memory

    def measure(self, point: OperatingPoint, chunk_s: float) -> float:
        self.held.kept_mb = GROWTH_MB[point]
        return self.rtf[point]


def test_calibrating_takes_what_is_in_the_way_out_of_its_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What earlier streams left hides no growth and its own is no load; a point that was disturbed
    costs no more than the one above it."""
    held = Held(monkeypatch)
    held.kept_mb = 5.0
    bench = Bench(held, dict(zip(POINTS, [0.04, 0.07, 0.03, 0.01, 0.02], strict=True)))
    monkeypatch.setattr(calibration, "_stream_rtf", bench.measure)
    monkeypatch.setattr(calibration, "_label_frame_s", lambda *_: 1e-4)
    profile = calibrate(bench, GreedySearch, lambda point: point, POINTS)
    tokens = 16 * 1e-4  # in noise there are none, so their cost is added
    assert list(profile.rtf.values()) == pytest.approx(
        [rtf + tokens for rtf in (0.04, 0.04, 0.03, 0.01, 0.01)]
    )
    assert profile.growth_mb == pytest.approx(GROWTH_MB)
    assert held.kept_mb == 0.0


def test_a_second_pass_is_in_the_figures_of_every_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time, as if all audio were previewed, its memory, and what searching its tokens costs."""
    held, settling = Held(monkeypatch), OperatingPoint(1280)
    points = [OperatingPoint(ms) for ms in (160, 320, 500, 1280, 2560)]
    first = dict(zip(points, [0.07, 0.05, 0.04, 0.02, 0.01], strict=True))
    growth_mb = dict(zip(points, GROWTH_MB.values(), strict=True))
    previewed = {160: 1120, 320: 960, 500: 1000, 1280: 0, 2560: 0}  # of 1280 ms
    measured = []

    def measure(point: OperatingPoint, chunk_s: float) -> float:
        held.kept_mb = growth_mb[point]
        measured.append(chunk_s)
        if point >= settling:
            return first[point]
        return first[settling] + first[point] * previewed[point.chunk_ms] / 1280

    bench = Bench(held, {})
    monkeypatch.setattr(calibration, "_label_frame_s", lambda *_: 1e-3)
    monkeypatch.setattr(calibration, "_stream_rtf", measure)
    profile = calibrate(bench, GreedySearch, lambda point: point, points, settling)
    assert set(measured) == {1.28, 2.56}, "whole chunks of those that settle"
    assert list(profile.rtf.values()) == pytest.approx(
        [cost + 0.02 + 2 * 0.016 for cost in (0.07, 0.05, 0.04)] + [0.02 + 0.016, 0.01 + 0.016]
    )
    assert list(profile.growth_mb.values()) == [growth_mb[settling]] * 4 + [growth_mb[points[-1]]]


@pytest.mark.parametrize(("limit_ms", "expected"), [(230, None), (240, 160), (400, 320)])
def test_a_second_pass_is_in_the_latency(limit_ms: int, expected: int | None) -> None:
    """2.56 s at an RTF of 0.015 take 38 ms, whatever the chunks of the first pass."""
    budget, wish = Budget(latency_ms=limit_ms), OperatingPoint(320)
    if expected is None:
        with pytest.raises(BudgetError, match="chunks of 160 ms, needs 237"):
            admit(budget, PROFILE, wish, 100, POINTS[4])
    else:
        assert admit(budget, PROFILE, wish, 100, POINTS[4]).start.chunk_ms == expected


def test_a_refusal_is_never_from_a_kept_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be of a bad minute: it is measured again, once."""
    slow = Profile({point: 10 * rtf for point, rtf in PROFILE.rtf.items()}, GROWTH_MB)
    write_profile(KEY, slow)
    measured: Iterator[Profile] = iter([PROFILE])
    monkeypatch.setattr(calibration, "calibrate", lambda *_: next(measured))
    admission = Admission(lambda: KEY, BurstEngine(), GreedySearch, lambda _: None, POINTS)
    admitted = admission.admit(Budget(rtf=0.06), OperatingPoint(320))
    assert admitted.start == OperatingPoint(320)
    assert admission.profile() == PROFILE
    assert read_profile(KEY, POINTS) == PROFILE
    with pytest.raises(BudgetError):
        admission.admit(Budget(rtf=0.001), OperatingPoint(320))


def test_calibrating_measures_anew_for_the_streams_to_come(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = asr.load(tiny_bundle)
    profiles = [Profile(dict.fromkeys(POINTS, rtf), GROWTH_MB) for rtf in (0.1, 0.2, 0.9)]
    monkeypatch.setattr(calibration, "calibrate", lambda *_: profiles.pop(0))
    assert recognizer.calibrate() == dict.fromkeys(POINTS[1:], 0.1)  # from its own 320 ms down
    assert recognizer.calibrate() == dict.fromkeys(POINTS[1:], 0.2)
    with pytest.raises(BudgetError, match=r"needs 0\.2 on this machine"):
        recognizer.stream(budget=Budget(rtf=0.15))
    assert len(profiles) == 1


def test_every_point_is_measured_once_for_all_streams(tiny_bundle: Path, cache: Path) -> None:
    recognizer = asr.load(tiny_bundle, chunk_ms=200)
    stream = recognizer.stream(budget=Budget(rtf=1000))
    assert stream.chunk_frames == 5
    assert [point.chunk_ms for point in stream.report().ladder] == [200, 320, 640, 1280, 2560]
    (path,) = cache.iterdir()
    content = json.loads(path.read_text())["calibration"]
    assert content["rtf"].keys() == {"160", "200", "320", "640", "1280", "2560"}
    assert all(rtf > 0 for rtf in content["rtf"].values())
    changed = path.stat().st_mtime_ns
    assert recognizer.calibrated_rtf().keys() == {OperatingPoint(int(ms)) for ms in content["rtf"]}
    recognizer.stream(budget=Budget(latency_ms=5000))
    asr.load(tiny_bundle, chunk_ms=200).stream(budget=Budget(rtf=1000))
    assert path.stat().st_mtime_ns == changed


def test_a_stream_that_starts_lower_may_climb_to_the_chunk_that_was_asked_for(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profile may be of a bad minute, and loads end."""
    monkeypatch.setattr(calibration, "calibrate", lambda *_: PROFILE)
    stream = asr.load(tiny_bundle).stream(budget=Budget(rtf=0.05))
    assert stream.point == OperatingPoint(640)
    assert stream.report().ladder == tuple(POINTS[1:])


def test_a_latency_budget_starts_at_a_smaller_chunk(tiny_bundle: Path) -> None:
    stream = asr.load(tiny_bundle).stream(budget=Budget(latency_ms=357))
    assert stream.chunk_frames == 4
    assert stream.report().ladder[0] == OperatingPoint(160)


def test_a_latency_budget_may_lead_to_a_smaller_chunk_than_was_asked_for(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "calibrate", lambda *_: PROFILE)
    stream = asr.load(tiny_bundle).stream(budget=Budget(latency_ms=400))
    assert stream.point == OperatingPoint(320)
    assert stream.report().ladder == tuple(POINTS)


def test_streams_without_a_budget_measure_nothing(tiny_bundle: Path, cache: Path) -> None:
    asr.load(tiny_bundle).stream()
    (path,) = cache.iterdir()
    assert json.loads(path.read_text()).keys() == {"version", "key", "self_test"}


def test_what_can_not_be_held_is_refused(tiny_bundle: Path) -> None:
    recognizer = asr.load(tiny_bundle)
    with pytest.raises(asr.BudgetError, match="memory_mb=5 can't be held"):
        recognizer.stream(budget=Budget(memory_mb=5))
    with pytest.raises(asr.BudgetError, match="rtf=1e-09 can't be held"):
        recognizer.stream(budget=Budget(rtf=1e-9))


def test_calibration_gives_each_point_a_cost(tiny_bundle: Path) -> None:
    recognizer = asr.load(tiny_bundle)
    opened = []

    def open_stream(point: OperatingPoint) -> asr.Stream:
        opened.append(point)
        return recognizer.stream()

    profile = calibrate(recognizer._engine, recognizer._open_search, open_stream, POINTS)
    assert list(profile.rtf) == POINTS
    assert all(rtf > 0 for rtf in profile.rtf.values())
    growth_mb = list(profile.growth_mb.values())
    assert growth_mb == sorted(growth_mb) and growth_mb[0] >= 0
    assert set(opened) == set(POINTS)
