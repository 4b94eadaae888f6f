"""A played stream is observed every second, scored by what was played when, and ends in good order:
when the time is over, when it is stopped, and when a recording is damaged."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from asr.budget import Budget, OperatingPoint
from asr.bundle import StreamingConfig
from asr.decoding.greedy import GreedySearch
from asr.errors import AudioError
from asr.evaluation.playback import Play, Recording
from asr.evaluation.under_load.live_run import LiveRun, Observer, Sample, run_live
from asr.features import FeatureConfig
from asr.results import Moved, Word
from asr.stream import Stream
from asr.supervisor import BudgetReport, PointTime, ungoverned
from tests.asr.fake_engine import LETTERS, BurstEngine
from tests.asr.signals import bursts

HIGH, LOW = OperatingPoint(320), OperatingPoint(640)
NO_REPORT = ungoverned(HIGH, lambda: None).report()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """However a run ends, whoever played to it has ended too."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def open_stream() -> Stream:
    engine = BurstEngine()
    return Stream(
        engine,
        GreedySearch(engine),
        pieces=LETTERS,
        features=FeatureConfig(),
        streaming=StreamingConfig(),
    )


class Observed:
    """A stream, a queue and a clock to be observed."""

    def __init__(self) -> None:
        self.now_s = 50.0
        self.queued_s = 0.0
        self.report: BudgetReport = NO_REPORT
        self.observer = Observer(
            lambda: self.report, lambda: self.queued_s, lambda: self.now_s, lambda: 123.0
        )

    def after(self, now_s: float, audio_s: float = 0.0, compute_s: float = 0.0) -> Sample | None:
        self.now_s = 50.0 + now_s
        rtf = compute_s / audio_s if audio_s else 0.0
        points = (PointTime(HIGH, audio_s),) if audio_s else ()
        self.report = replace(self.report, audio_s=audio_s, rtf=rtf, points=points)
        return self.observer.look()


def test_a_sample_a_second_and_a_late_one_for_those_it_missed() -> None:
    observed = Observed()
    assert observed.after(0.9) is None
    first = observed.after(1.05)
    assert first == Sample(pytest.approx(1.05), None, None, 0.0, 123.0)
    assert observed.after(1.9) is None
    observed.queued_s = 2.5
    late = observed.after(4.5, audio_s=1.0, compute_s=0.25)
    assert late is not None
    assert (late.point, late.queue_s) == (HIGH, 2.5)
    assert late.rtf == pytest.approx(0.25)
    assert observed.after(4.9, 1.3) is None
    assert observed.after(5.0, 1.3) is not None
    assert observed.observer.samples[:2] == (first, late)


def test_the_rtf_is_that_of_the_last_ten_seconds_of_audio() -> None:
    observed = Observed()
    for second in range(1, 31):  # dear for 15 s, then cheap
        observed.after(second, second, 0.5 * min(second, 15) + 0.1 * max(0, second - 15))
    rtfs = [sample.rtf for sample in observed.observer.samples]
    assert rtfs[14] == pytest.approx(0.5)
    assert rtfs[19] == pytest.approx((5 * 0.5 + 5 * 0.1) / 10)
    assert rtfs[24:] == pytest.approx([0.1] * 6)


def test_no_audio_since_the_last_sample_changes_no_rtf() -> None:
    observed = Observed()
    for second in range(1, 20):
        sample = observed.after(second, 2.0, 0.5)
        assert sample is not None
        assert sample.rtf == pytest.approx(0.25)


def test_the_point_is_the_one_after_the_last_move() -> None:
    observed = Observed()
    observed.report = replace(observed.report, moves=(Moved(0.5, HIGH, LOW, "rtf"),))
    sample = observed.after(1, 2.0)
    assert sample is not None
    assert sample.point == LOW


def word(text: str, start_s: float) -> Word:
    return Word(text, start_s, start_s + 0.1, 1.0)


def run_of(plays: list[Play], words: list[Word]) -> LiveRun:
    return LiveRun(NO_REPORT, (), tuple(plays), tuple(words), late_s=0.0, complete=True)


def test_a_word_counts_for_what_was_played_when_it_was_heard() -> None:
    one, two = Recording(Path("one"), "Alpha beta."), Recording(Path("two"), "gamma delta")
    plays = [Play(one, 0.0, True), Play(two, 2.0, True), Play(one, 4.0, False)]
    words = [word("alpha", 0.5), word("beta", 1.9), word("delta", 2.0), word("alpha", 4.5)]
    errors = run_of(plays, words).word_errors()
    assert errors is not None
    assert (errors.words, errors.hits, errors.deletions) == (4, 3, 1)
    assert (errors.insertions, errors.substitutions) == (0, 0), "what was cut off doesn't count"


def test_without_known_texts_there_are_no_errors() -> None:
    assert run_of([Play(Recording(Path("one")), 0.0, True)], [word("a", 0.1)]).word_errors() is None
    unfinished = [Play(Recording(Path("one"), "a"), 0.0)]
    assert run_of(unfinished, [word("a", 0.1)]).word_errors() is None


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """One letter every 0.2 s, for 2 s."""
    path = tmp_path / "bursts.wav"
    soundfile.write(path, bursts([1600] * 10, 1600), 16_000)
    return Recording(path, "a b c d e f g h a b")


def test_a_run_recognises_what_was_played_and_stops_in_time(recording: Recording) -> None:
    watched: list[Sample] = []
    stream = open_stream()
    run = run_live(stream, [recording], 1.3, watch=watched.append)
    assert [word.text for word in run.words] == list("abcdefg")
    assert run.complete
    assert stream.audio_s == pytest.approx(1.3)
    assert [(play.recording, play.complete) for play in run.plays] == [(recording, False)]
    assert tuple(watched) == run.samples
    assert len(run.samples) >= 1
    assert (run.report.lost_audio_s, run.ended_at) == (0, HIGH)
    assert run.report.budget == Budget()


def test_a_stopped_run_keeps_what_was_played(recording: Recording) -> None:
    """All that was pushed is recognised."""
    stream = open_stream()
    run = run_live(stream, [recording], 600, stopped=lambda: stream.audio_s > 0.45)
    assert not run.complete
    assert [word.text for word in run.words][:2] == ["a", "b"]
    assert 0.45 < stream.audio_s < 600


def test_a_damaged_recording_ends_the_run(
    tmp_path: Path, write_speech: Callable[..., Path]
) -> None:
    whole = write_speech("whole.wav", 0.4).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match="truncated"):
        run_live(open_stream(), [Recording(tmp_path / "cut.wav")], 30)


def test_an_error_of_the_consumer_ends_the_player(recording: Recording) -> None:
    def break_down(sample: Sample) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_live(open_stream(), [recording], 600, watch=break_down)
