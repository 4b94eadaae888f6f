"""A microphone as the producer of a live stream: nothing that was heard is lost or altered, the
callback only copies, and whatever ends the capture is told."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.bundle import StreamingConfig
from asr.decoding.endpoint import EndpointRules
from asr.decoding.greedy import GreedySearch
from asr.errors import AudioError
from asr.features import FeatureConfig
from asr.live import LiveStream
from asr.microphone import VANISHED_S, Device, Microphone, describe_devices, pick_device
from asr.recording import Recording
from asr.results import Endpoint, Event, Final, Overrun
from asr.stream import Stream
from tests.asr.fake_engine import LETTERS, BurstEngine
from tests.asr.fake_microphone import BUILT_IN, USB, ManualBackend
from tests.asr.signals import bursts

RATE = 16_000
SPEECH = (bursts([1600] * 6, 3200, trail=517) * 32767).astype(np.int16)
BLOCKS = np.array_split(SPEECH, 30)
WEBCAM = Device(7, "USB Webcam", "ALSA", 1, 16_000, is_default=False)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Setup:
    """A microphone on an engine that hears bursts."""

    def __init__(
        self, rate: int = RATE, queue_s: float = 30.0, recording: Recording | None = None
    ) -> None:
        self.engine = BurstEngine()
        stream = Stream(
            self.engine,
            GreedySearch(self.engine),
            pieces=LETTERS,
            features=FeatureConfig(),
            streaming=StreamingConfig(),
            endpoints=EndpointRules(),
        )
        self.live = LiveStream(stream, queue_s)
        self.backend = ManualBackend()
        self.clock = Clock()
        self.microphone = Microphone(
            self.backend,
            USB,
            self.live,
            sample_rate=rate,
            recording=recording,
            clock=self.clock,
        )
        self.capture = self.backend.capture

    def wait(self, seconds: float) -> None:
        """Let time pass, and watch the device as a session does."""
        for _ in range(round(seconds / 0.1)):
            self.clock.now += 0.1
            self.microphone.watch()

    def hear(self) -> list[Event]:
        """Recognise what waits."""
        events: list[Event] = []
        while self.live.wait(timeout_s=0):
            events += self.live.take()
        return events


def recognised(samples: np.ndarray, rate: int = RATE) -> Final:
    live = Setup().live
    live.push(samples, rate)
    live.close()
    *_, final = live
    assert isinstance(final, Final)
    return final


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, USB),
        ("0", BUILT_IN),
        ("7", WEBCAM),
        ("usb mic", USB),
        ("WEB", WEBCAM),
        ("USB Webcam", WEBCAM),
        ("hw:0,0", BUILT_IN),
    ],
)
def test_a_device_by_index_or_name(wanted: str | None, expected: Device) -> None:
    assert pick_device([BUILT_IN, USB, WEBCAM], wanted) == expected


@pytest.mark.parametrize(
    ("wanted", "message", "listed"),
    [
        ("5", "no microphone has the index 5; expected one of these:", 3),
        ("Røde", "no microphone is called 'Røde'; expected one of these:", 3),
        ("usb", "'usb' is the name of 2 microphones; choose by index:", 2),
        (None, "the system names no default microphone; choose one with --device:", 3),
    ],
)
def test_no_such_device_or_several(wanted: str | None, message: str, listed: int) -> None:
    devices = [BUILT_IN, USB, WEBCAM] if wanted else [BUILT_IN, WEBCAM, WEBCAM]
    with pytest.raises(AudioError) as caught:
        pick_device(devices, wanted)
    first, *lines = str(caught.value).splitlines()
    assert first == message
    assert len(lines) == listed


def test_an_exact_name_wins_over_a_longer_one() -> None:
    front = Device(1, "front", "ALSA", 1, 48_000, is_default=False)
    surround = Device(2, "front surround", "ALSA", 6, 48_000, is_default=False)
    assert pick_device([surround, front], "Front") == front


def test_devices_as_lines() -> None:
    assert describe_devices([BUILT_IN, USB]) == [
        "  0  Built-in Mic: Analog (hw:0,0)  ALSA, 2 channels, 44100 Hz",
        "* 3  USB Mic: Audio (hw:1,0)        ALSA, 1 channel, 48000 Hz",
    ]


@given(cuts=st.lists(st.integers(0, len(SPEECH)), max_size=20), rate=st.sampled_from([8000, RATE]))
@settings(max_examples=10, deadline=None)
def test_what_is_heard_is_what_is_recognised(cuts: list[int], rate: int) -> None:
    """Whatever blocks the driver makes, in a buffer that it uses again."""
    setup = Setup(rate)
    setup.microphone.start()
    for block in np.split(SPEECH, sorted(cuts)):
        setup.capture.give(block)
    setup.microphone.stop()
    setup.hear()
    assert setup.live.finish().result == recognised(SPEECH, rate).result
    assert setup.microphone.heard_s == len(SPEECH) / rate


def test_its_own_rate_unless_told() -> None:
    setup = Setup()
    assert setup.backend.opened == (USB, RATE)
    backend = ManualBackend()
    microphone = Microphone(backend, USB, setup.live)
    assert backend.opened == (USB, microphone.sample_rate) == (USB, 48_000)


@pytest.mark.parametrize("rate", [0, -1, 999, 2_000_000])
def test_a_rate_that_no_microphone_has(rate: int) -> None:
    with pytest.raises(AudioError, match=f"a sample rate of {rate} Hz; expected 1000 to"):
        Setup(rate)


def test_the_callback_never_waits_nor_computes() -> None:
    """With nobody to recognise, it comes back from each block; what found no room is told."""
    setup = Setup(queue_s=0.5)
    setup.microphone.start()
    for block in BLOCKS:
        setup.capture.give(block)
    assert setup.engine.windows == []
    overruns = [event for event in setup.hear() if isinstance(event, Overrun)]
    lost_s = sum(event.refused_s for event in overruns)
    assert lost_s == pytest.approx(len(SPEECH) / RATE - setup.live.stream.audio_s)
    assert lost_s > 0


def test_the_level_is_the_peak_since_it_was_last_asked() -> None:
    setup = Setup()
    setup.microphone.start()
    setup.capture.give(np.array([5, -32768, 100]))
    setup.capture.give(np.array([-3, 0]))
    setup.capture.give(np.array([], np.int16))
    assert setup.microphone.take_peak() == 1.0
    setup.capture.give(np.array([16384, -3]))
    assert setup.microphone.take_peak() == 0.5
    assert setup.microphone.take_peak() == 0.0


def test_audio_that_the_driver_lost_is_told_with_its_place() -> None:
    setup = Setup()
    setup.microphone.start()
    setup.capture.give(np.ones(RATE))
    setup.capture.give(np.ones(RATE), overflowed=True)
    setup.capture.give(np.ones(RATE))
    assert setup.microphone.take_overflows() == [1.0]
    assert setup.microphone.take_overflows() == []


def test_zeros_are_counted_until_something_is_heard() -> None:
    setup = Setup()
    setup.microphone.start()
    setup.capture.give(np.zeros(3 * RATE))
    setup.capture.give(np.zeros(RATE))
    assert setup.microphone.zero_s == 4.0
    setup.capture.give(np.ones(1))
    assert setup.microphone.zero_s == 0.0


def test_an_unplugged_device_ends_the_stream_behind_what_was_heard() -> None:
    setup = Setup()
    setup.microphone.start()
    for block in BLOCKS:
        setup.capture.give(block)
    setup.capture.vanish()
    message = r"USB Mic: Audio \(hw:1,0\) gave no more audio after 1.6 s: it was unplugged"
    with pytest.raises(AudioError, match=message):
        setup.hear()
    setup.microphone.stop()
    assert setup.live.finish().result == recognised(SPEECH).result


def test_a_device_that_falls_silent_is_gone() -> None:
    """JACK and macOS don't tell that a device is gone: its blocks just end."""
    setup = Setup()
    setup.microphone.start()
    for _ in range(3):
        setup.wait(0.9 * VANISHED_S)
        setup.capture.give(np.ones(100))  # slow, but alive
    assert setup.hear() == []
    setup.wait(1.1 * VANISHED_S)
    with pytest.raises(AudioError, match="gave no more audio"):
        setup.hear()


def test_a_process_that_slept_does_not_blame_the_device() -> None:
    """Ctrl-Z, or the lid of a laptop: time passes, and no block comes."""
    setup = Setup()
    setup.microphone.start()
    setup.clock.now += 3600
    setup.microphone.watch()
    setup.capture.give(np.ones(100))
    setup.microphone.watch()
    assert setup.hear() == []


def test_a_paused_device_may_be_silent() -> None:
    setup = Setup()
    setup.microphone.start()
    setup.microphone.pause(1.0)
    setup.wait(4 * VANISHED_S)
    setup.microphone.start()
    setup.wait(0.9 * VANISHED_S)
    setup.capture.give(np.ones(100))
    setup.hear()  # no error


def test_stopping_is_no_failure() -> None:
    setup = Setup()
    setup.microphone.start()
    setup.microphone.stop()
    setup.microphone.stop()
    assert setup.capture.closed
    assert setup.hear() == []


def test_a_pause_completes_what_was_said() -> None:
    """It is heard as silence, so the segment ends, and times go on behind it."""
    setup = Setup()
    setup.microphone.start()
    setup.capture.give(SPEECH)
    setup.microphone.pause(2.0)
    assert setup.microphone.paused
    assert not setup.capture.running
    (before,) = (event for event in setup.hear() if isinstance(event, Endpoint))
    setup.microphone.start()
    assert not setup.microphone.paused
    setup.capture.give(SPEECH)
    setup.microphone.stop()
    setup.hear()
    final = setup.live.finish()
    gap = np.zeros(2 * RATE, np.int16)
    assert final.result == recognised(np.concatenate([SPEECH, gap, SPEECH])).result
    assert before.rule == "pause"
    assert len(before.words) == len(final.endpoints[0].words) == 6
    assert setup.microphone.heard_s == pytest.approx(2 + 2 * len(SPEECH) / RATE)


def test_a_device_that_is_taken_away_in_a_pause() -> None:
    setup = Setup()
    setup.microphone.start()
    setup.microphone.pause(0.5)
    setup.capture.error = AudioError("USB Mic is in use by another program")
    with pytest.raises(AudioError, match="in use"):
        setup.microphone.start()


def test_the_recording_has_all_that_was_heard(tmp_path: Path) -> None:
    """Also what the recogniser refused, and the silence of pauses: so times of words fit it."""
    with Recording(tmp_path, RATE, datetime(2026, 1, 2, 3, 4, 5)) as recording:
        setup = Setup(queue_s=0.5, recording=recording)
        setup.microphone.start()
        for block in BLOCKS:
            setup.capture.give(block)
        setup.microphone.pause(0.25)
        setup.microphone.stop()
    samples, rate = soundfile.read(recording.audio_path, dtype="int16")
    assert rate == RATE
    assert np.array_equal(samples, np.concatenate([SPEECH, np.zeros(RATE // 4, np.int16)]))
