"""What a model costs on this machine, and whether a budget can be held with that.

The first stream with a budget measures every operating point, in a fraction of a second. The result
is kept in the profile of the model on this machine (`asr.profile`). A damaged one is made again;
where none can be written, that is said once and every process measures for itself. No budget is
refused by a profile from a file: it may be of a bad minute, so it is made again first.

A bundle records no footprint. A budget of memory is one of the process, which holds the model when
a stream is opened: what it holds by then is read and not foretold, on this system and with whatever
else is in the process, and only what streams add is measured and kept.
"""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from threading import Lock

import numpy as np

from asr.budget import Budget, OperatingPoint, dearest_chunk
from asr.decoding.hypothesis import BLANK, UNK, Search
from asr.engines import Engine, Floats
from asr.errors import BudgetError
from asr.features import SAMPLE_RATE
from asr.governor import DOWN_AT
from asr.memory import resident_mb, trim_heap
from asr.profile import ProfileKey, cache_folder, read_section, write_section
from asr.schema import SchemaError, check_keys, is_finite
from asr.stream import Stream

SECTION = "calibration"  # of the profile

LABEL_FRAMES_PER_S = 16.0
"""Encoder frames of speech in which a token may begin. Noise has next to none, so what they cost a
search is added."""

_REPEATS = 3  # the quickest counts: what else runs can only add
_SHORTEST_S = 0.96  # of audio in a measurement
_OVERLAP_S = 0.06  # what the last chunk needs of the audio behind it, and a little


@dataclass(frozen=True, slots=True)
class Profile:
    """What a model costs on a machine that does nothing else, by point, the best one first."""

    rtf: Mapping[OperatingPoint, float]
    growth_mb: Mapping[OperatingPoint, float]  # of the loaded model by streams no lower than this


@dataclass(frozen=True, slots=True)
class Admitted:
    """How a stream may run."""

    start: OperatingPoint
    preferred: OperatingPoint  # where it runs when it has room
    rtf: Mapping[OperatingPoint, float]  # of the points between which it may move, best first
    growth_mb: float  # what it may add to the memory of the process


class Admission:
    """Decides on budgets, for one model that this process has loaded."""

    def __init__(
        self,
        key: Callable[[], ProfileKey],
        engine: Engine,
        open_search: Callable[[Engine], Search],
        open_stream: Callable[[OperatingPoint], Stream],
        points: Sequence[OperatingPoint],
        settling: OperatingPoint | None = None,
    ) -> None:
        """`key` says what the profile is kept for; the rest is as for `calibrate`."""
        self._key = key
        self._engine = engine
        self._calibrate = lambda: calibrate(engine, open_search, open_stream, points, settling)
        self._points = points
        self._settling = settling
        self._profile: Profile | None = None
        self._measured = False  # by this process
        self._lock = Lock()  # two that measure at once would measure each other

    def admit(self, budget: Budget, wish: OperatingPoint) -> Admitted:
        """Return what the function `admit` does, with what is known of this machine."""
        with self._lock:
            try:
                return self._admit(budget, wish, self._known())
            except BudgetError:
                if self._measured:
                    raise
                return self._admit(budget, wish, self._measure())

    def profile(self) -> Profile:
        """Return what is known of this machine; measure it if nothing is."""
        with self._lock:
            return self._known()

    def measure(self) -> Profile:
        """Measure the points anew, and keep that instead of what was kept."""
        with self._lock:
            return self._measure()

    def _admit(self, budget: Budget, wish: OperatingPoint, profile: Profile) -> Admitted:
        return admit(budget, profile, wish, self._held_mb(budget, profile), self._settling)

    def _known(self) -> Profile:
        self._profile = self._profile or read_profile(self._key(), self._points) or self._measure()
        return self._profile

    def _held_mb(self, budget: Budget, profile: Profile) -> float:
        """Return what the process holds: without what earlier streams left in the engine, where
        that is needed, for a stream that runs would shed it too."""
        held_mb = resident_mb()
        if held_mb + max(profile.growth_mb.values()) > _or_inf(budget.memory_mb):
            _shed(self._engine)
            held_mb = resident_mb()
        return held_mb

    def _measure(self) -> Profile:
        self._profile, self._measured = self._calibrate(), True
        write_profile(self._key(), self._profile)
        return self._profile


def calibrate(
    engine: Engine,
    open_search: Callable[[Engine], Search],
    open_stream: Callable[[OperatingPoint], Stream],
    points: Sequence[OperatingPoint],
    settling: OperatingPoint | None = None,
) -> Profile:
    """Measure the points, best first. `open_stream` opens a stream without a budget, `open_search`
    one of its searches. `settling`, one of the points, is that of its second pass: to every quicker
    one belong chunks of it, so none of them needs less memory.

    What else runs can only add to a cost, and a larger chunk never costs more: a point that was
    measured to cost more than one above it is taken to cost the same. With previews that holds if
    all audio is previewed, as it is before an endpoint; of a chunk that settles because it is full,
    the last part is not.
    """
    _shed(engine)  # so that what it grows by holds all that a stream adds ...
    before_mb = resident_mb()
    label_frame_s = _label_frame_s(engine, open_search)
    rtf, growth_mb = [], []
    for point in points:
        long_s = dearest_chunk(point, settling).chunk_ms / 1000
        rtf.append(min(_stream_rtf(open_stream(point), long_s) for _ in range(_REPEATS)))
        growth_mb.append(max(0.0, resident_mb() - before_mb))
    _shed(engine)  # ... and is not in what the process holds when a stream is admitted
    label_rtf = LABEL_FRAMES_PER_S * label_frame_s
    if settling is not None:
        second_rtf = rtf[list(points).index(settling)]
        for number, point in enumerate(points):
            if point < settling:
                first_rtf = max(0.0, rtf[number] - second_rtf) / _previewed(point, settling)
                rtf[number] = second_rtf + first_rtf + label_rtf
    growth = dict(zip(points, accumulate(growth_mb, max), strict=True))
    return Profile(
        dict(zip(points, accumulate((cost + label_rtf for cost in rtf), min), strict=True)),
        {point: growth[dearest_chunk(point, settling)] for point in points},
    )


def _previewed(point: OperatingPoint, settling: OperatingPoint) -> float:
    """Return which part of a long chunk is previewed before it is full."""
    previews = math.ceil(settling.chunk_ms / point.chunk_ms) - 1
    return previews * point.chunk_ms / settling.chunk_ms


def admit(
    budget: Budget,
    profile: Profile,
    wish: OperatingPoint,
    held_mb: float,
    settling: OperatingPoint | None = None,
) -> Admitted:
    """Return how a stream may run: it starts at the point nearest to `wish` that fits.

    Its ladder begins at the better of these two, or with a budget of latency at the quickest of
    all, and goes down as far as the memory allows: the longest chunks need the most.

    `held_mb` is the resident memory of this process, with the model loaded; `settling` is as for
    `calibrate`.

    Raises BudgetError where no point fits; it states what would.
    """
    room_mb = _or_inf(budget.memory_mb) - held_mb
    points = [point for point, growth_mb in profile.growth_mb.items() if growth_mb <= room_mb]
    if not points:
        least_mb = min(profile.growth_mb.values())
        raise BudgetError(
            f"memory_mb={budget.memory_mb:g} can't be held: this process holds {held_mb:.0f} MB "
            f"with the model loaded, and a stream adds up to {least_mb:.0f}; "
            f"ask for {math.ceil(held_mb + least_mb)} or more"
        )
    lowest, quickest = points[-1], points[0]
    rtf_limit = _or_inf(budget.rtf)
    latency_ms = {point: _latency_ms(profile, point, settling) for point in points}
    quick = [point for point in points if latency_ms[point] <= _or_inf(budget.latency_ms)]
    # Below the lowest there is nothing to move to, so it need not keep clear of its limit.
    cheap = [
        point
        for point in points
        if profile.rtf[point] <= (rtf_limit if point == lowest else DOWN_AT * rtf_limit)
    ]
    fitting = [point for point in quick if point in cheap]
    if fitting:
        order = list(profile.rtf)
        start = min(fitting, key=lambda point: abs(order.index(point) - order.index(wish)))
        preferred = min(start, wish)
        best = preferred if budget.latency_ms is None else quickest
        ladder = {point: profile.rtf[point] for point in points if point >= best}
        return Admitted(start, preferred, ladder, profile.growth_mb[lowest])
    if not cheap:
        needed = _round_up(profile.rtf[lowest])
        raise BudgetError(
            f"rtf={budget.rtf:g} can't be held: the lowest operating point"
            f"{'' if lowest == max(profile.rtf) else ' for which there is memory'}, chunks of "
            f"{lowest}, needs {needed:g} on this machine; ask for that or more"
        )
    if not quick:
        needed = math.ceil(latency_ms[quickest])
        raise BudgetError(
            f"latency_ms={budget.latency_ms:g} can't be held: the quickest operating point, chunks "
            f"of {quickest}, needs {needed} on this machine; ask for that or more"
        )
    rtf = _round_up(profile.rtf[quick[-1]] / DOWN_AT)
    raise BudgetError(
        f"rtf={budget.rtf:g} and latency_ms={budget.latency_ms:g} can't be held together: on this "
        f"machine such a latency needs rtf={rtf:g}, and such an rtf needs "
        f"latency_ms={math.ceil(latency_ms[cheap[0]])}; ask for one of these, or more"
    )


def read_profile(key: ProfileKey, points: Sequence[OperatingPoint]) -> Profile | None:
    """Return what is kept for `key`, of these points; None if there is nothing, or something
    damaged, or without one of the points."""
    content = read_section(key, SECTION)
    try:
        check_keys(content, ["rtf", "growth_mb"], where=SECTION)
        # It may hold more points: somebody had asked for another chunk.
        rtf = {point: content["rtf"][str(point.chunk_ms)] for point in points}
        growth_mb = {point: content["growth_mb"][str(point.chunk_ms)] for point in points}
    except (LookupError, TypeError, SchemaError):
        return None
    if not all(is_finite(value) and value > 0 for value in rtf.values()):
        return None
    if not all(is_finite(value) and value >= 0 for value in growth_mb.values()):
        return None
    return Profile(_as_floats(rtf), _as_floats(growth_mb))


def write_profile(key: ProfileKey, profile: Profile) -> None:
    """Keep a profile. Where that can't be, say so once and go on."""
    content = {
        "rtf": {str(point.chunk_ms): rtf for point, rtf in profile.rtf.items()},
        "growth_mb": {str(point.chunk_ms): mb for point, mb in profile.growth_mb.items()},
    }
    try:
        write_section(key, SECTION, content)
    except OSError as error:
        warnings.warn(
            f"the profile of this machine can't be kept in {cache_folder()} ({error.strerror}), so "
            "each process measures for itself; set XDG_CACHE_HOME to a directory for caches",
            stacklevel=2,
        )


def _shed(engine: Engine) -> None:
    """Give back what the engine keeps of earlier streams."""
    engine.release_memory()
    trim_heap()


def _stream_rtf(stream: Stream, chunk_s: float) -> float:
    """Return compute time over audio time of some chunks of noise that settle."""
    chunks = math.ceil(_SHORTEST_S / chunk_s)
    noise = np.random.default_rng(0).standard_normal(
        round(SAMPLE_RATE * (chunks * chunk_s + _OVERLAP_S)), dtype=np.float32
    )
    stream.accept(0.05 * noise.clip(-10, 10))
    return stream.meter.compute_s / (chunks * chunk_s)


def _label_frame_s(engine: Engine, open_search: Callable[[Engine], Search]) -> float:
    """Return what a search takes for a frame in which a token may begin."""
    frames = engine.predict(np.zeros((8, 2), dtype=np.int64))  # of the shape of encoder frames
    search = open_search(_Talkative(engine))
    quickest = math.inf
    for _ in range(2 + _REPEATS):
        started = time.perf_counter()
        search.accept(frames)
        quickest = min(quickest, time.perf_counter() - started)
        search.forget(search.best.stable)
    return quickest / len(frames)


class _Talkative:
    """An engine that takes a label to be as likely as not in each frame."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.initial_state, self.encode = engine.initial_state, engine.encode
        self.predict, self.release_memory = engine.predict, engine.release_memory

    def join(self, encoder_out: Floats, predictor_out: Floats) -> Floats:
        log_probs = self._engine.join(encoder_out, predictor_out).copy()
        labels = log_probs[:, UNK + 1 :]
        labels += math.log(0.5) - labels.max(axis=1, keepdims=True)
        log_probs[:, BLANK] = math.log(0.5) - 0.01
        return log_probs


def _as_floats(values: Mapping[OperatingPoint, float]) -> dict[OperatingPoint, float]:
    return {point: float(value) for point, value in values.items()}


def _latency_ms(profile: Profile, point: OperatingPoint, settling: OperatingPoint | None) -> float:
    dearest = dearest_chunk(point, settling)
    return point.wait_ms + profile.rtf[dearest] * dearest.chunk_ms


def _or_inf(limit: float | None) -> float:
    return math.inf if limit is None else limit


def _round_up(value: float) -> float:
    """Round up to two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit) * unit:.2g}")
