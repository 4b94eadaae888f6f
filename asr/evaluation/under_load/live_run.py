"""A live stream that recordings are played to, observed once a second."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event, Thread

from asr.budget import OperatingPoint
from asr.evaluation.accuracy.wer import WordErrors
from asr.evaluation.playback import Play, Playback, Recording
from asr.live import LiveStream
from asr.memory import resident_mb
from asr.results import Word
from asr.stream import Stream
from asr.supervisor import BudgetReport
from asr.text import normalize

SAMPLE_EVERY_S = 1.0
RTF_WINDOW_S = 10.0
"""Of audio, and a chunk or a second more: chunks are counted whole."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How a stream stood at a time."""

    t: float  # seconds since it began, by the wall
    rtf: float | None  # over the last 10 s of recognised audio; None before any
    point: OperatingPoint | None  # where it runs; None before its first chunk
    queue_s: float  # audio that waits
    resident_mb: float  # of the process


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What came of it."""

    report: BudgetReport
    samples: tuple[Sample, ...]
    plays: tuple[Play, ...]
    words: tuple[Word, ...]
    late_s: float  # how late a block was pushed at most
    complete: bool  # played to its end

    @property
    def ended_at(self) -> OperatingPoint | None:
        """Where it ran in the end; None if it ended before its first chunk."""
        return _point(self.report)

    def word_errors(self) -> WordErrors | None:
        """Errors in the recordings that were played to their end; None if no text is known.

        A word belongs to the recording that was played when it was emitted.
        """
        ends_s = [*(play.start_s for play in self.plays[1:]), float("inf")]
        scored = []
        for play, end_s in zip(self.plays, ends_s, strict=False):
            if play.complete and play.recording.text is not None:
                heard = [word for word in self.words if play.start_s <= word.start_s < end_s]
                reference, hypothesis = normalize(play.recording.text), _text(heard)
                scored.append(WordErrors.between(reference, hypothesis))
        return WordErrors.total(scored) if scored else None


def run_live(
    stream: Stream,
    recordings: Sequence[Recording],
    seconds: float,
    *,
    watch: Callable[[Sample], None] = lambda sample: None,
    stopped: Callable[[], bool] = lambda: False,
) -> LiveRun:
    """Play to a fresh stream for `seconds`, and recognise what it hears.

    `watch` is called every second. `stopped` is asked at every block: once it says so, no more is
    played, and what was is recognised still.

    Raises AudioError for a recording that turns out to be damaged.
    """
    live = LiveStream(stream)
    playback = Playback(recordings, seconds)
    observer = Observer(live.report, lambda: stream.queued_s)
    ended = Event()
    player = Thread(target=_play, args=(playback, live, ended), daemon=True)
    player.start()
    try:
        while live.wait():
            live.take()
            if (sample := observer.look()) is not None:
                watch(sample)
            if stopped():
                ended.set()
        final = live.finish()
    finally:
        ended.set()
        player.join()
    return LiveRun(
        report=live.report(),
        samples=observer.samples,
        plays=tuple(playback.plays),
        words=final.result.words,
        late_s=playback.late_s,
        complete=playback.complete,
    )


class Observer:
    """Takes a sample of a stream every second."""

    def __init__(
        self,
        report: Callable[[], BudgetReport],
        queued_s: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        resident: Callable[[], float] = resident_mb,
    ) -> None:
        """`report` and `queued_s` are those of the stream, which begins now; `clock` tells seconds
        from any origin, `resident` MB."""
        self._report = report
        self._queued_s = queued_s
        self._clock = clock
        self._resident = resident
        self._started = clock()
        self._next_s = SAMPLE_EVERY_S
        self._window = deque([(0.0, 0.0)])  # audio and compute seconds at the samples
        self._samples: list[Sample] = []

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Those taken so far."""
        return tuple(self._samples)

    def look(self) -> Sample | None:
        """Take a sample if it is time for one."""
        t = self._clock() - self._started
        if t < self._next_s:
            return None
        while self._next_s <= t:  # a late one takes the place of those that it missed
            self._next_s += SAMPLE_EVERY_S
        report = self._report()
        sample = Sample(t, self._rtf(report), _point(report), self._queued_s(), self._resident())
        self._samples.append(sample)
        return sample

    def _rtf(self, report: BudgetReport) -> float | None:
        now_s, compute_s = report.audio_s, report.rtf * report.audio_s
        self._window.append((now_s, compute_s))
        while self._window[1][0] <= now_s - RTF_WINDOW_S:
            self._window.popleft()
        from_s, from_compute_s = self._window[0]
        return (compute_s - from_compute_s) / (now_s - from_s) if now_s > from_s else None


def _play(playback: Playback, live: LiveStream, ended: Event) -> None:
    try:
        playback.run(live.push, ended.wait)
    except Exception as error:  # the consumer's to handle
        live.close(error)
    else:
        live.close()


def _point(report: BudgetReport) -> OperatingPoint | None:
    if report.moves:
        return report.moves[-1].to_point
    return report.points[0].point if report.points else None


def _text(words: Sequence[Word]) -> str:
    return normalize(" ".join(word.text for word in words))
