"""Microphones: which there are, and one of them as the producer of a live stream.

    backend = PortAudio()                               # needs the extra `mic`
    device = pick_device(backend.devices(), "usb")
    microphone = Microphone(backend, device, live)      # live: an asr.LiveStream
    microphone.start()
    while live.wait(timeout_s=0.1) or listening:
        microphone.watch()                              # a device may vanish without a word
        for event in live.take(): ...
    microphone.stop()
    final = live.finish()

The driver's callback only copies: what it is given goes to the queue of the live stream and to that
of the recording, and its peak is noted. Whatever ends the capture reaches the consumer as an error
of `live.take()`, behind the last block that was heard.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asr.audio import MAX_RATE, MIN_RATE
from asr.errors import AudioError
from asr.live import LiveStream
from asr.recording import Recording

VANISHED_S = 5.0
"""A device that gives nothing for so long is gone. A Bluetooth one may take 3 s to begin."""

LOOK = "asr mic --list-devices shows what there is"
_WATCH_STEP_S = 0.5  # longer ones are those of a process or a machine that slept
_FULL_SCALE = 32768

Pcm: TypeAlias = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Device:
    """Something that records."""

    index: int  # by which the system of the backend knows it
    name: str
    host_api: str  # such as ALSA, Core Audio, JACK
    channels: int
    sample_rate: int  # Hz: its own
    is_default: bool


class Capture(Protocol):
    """An open device."""

    latency_s: float  # from a sound to the callback that brings it

    def start(self) -> None:
        """Begin or go on. Raises AudioError."""

    def stop(self) -> None:
        """Stop, so that no callback runs any more; `start` may follow. Raises AudioError."""

    def close(self) -> None:
        """Stop for good. It returns soon, whatever became of the device."""


class CaptureBackend(Protocol):
    """A system of devices; `PortAudio` is the real one."""

    def devices(self) -> list[Device]:
        """Return what records, one at least. Raises AudioError."""

    def open(
        self,
        device: Device,
        sample_rate: int,
        on_block: Callable[[Pcm, bool], None],
        on_end: Callable[[], None],
    ) -> Capture:
        """Open a device, stopped.

        From a thread of its own it calls `on_block(samples (n,), overflowed)`; the samples are
        valid during the call only, and `overflowed` says that some before them were lost. When it
        stops, whoever stops it, it calls `on_end()`. Raises AudioError.
        """


def pick_device(devices: Sequence[Device], wanted: str | None) -> Device:
    """Return the device that a user means: an index, a name, a part of one; None: the default.

    Raises AudioError if there is no such device, or several.
    """
    if wanted is None:
        found = [device for device in devices if device.is_default]
        problem = "the system names no default microphone; choose one with --device"
    elif wanted.isdecimal():
        found = [device for device in devices if device.index == int(wanted)]
        problem = f"no microphone has the index {wanted}; expected one of these"
    else:
        name = wanted.casefold()
        found = [device for device in devices if name == device.name.casefold()]
        found = found or [device for device in devices if name in device.name.casefold()]
        many = f"'{wanted}' is the name of {len(found)} microphones; choose by index"
        problem = many if found else f"no microphone is called '{wanted}'; expected one of these"
    if len(found) == 1:
        return found[0]
    lines = describe_devices(found if len(found) > 1 else devices)
    raise AudioError("\n".join([f"{problem}:", *lines]))


def describe_devices(devices: Sequence[Device]) -> list[str]:
    """Return a line for each device, the default one marked with a star."""
    name_width = max(len(device.name) for device in devices)
    index_width = max(len(str(device.index)) for device in devices)
    return [
        f"{'*' if device.is_default else ' '} {device.index:>{index_width}}  "
        f"{device.name:<{name_width}}  {device.host_api}, "
        f"{device.channels} channel{'s' * (device.channels > 1)}, {device.sample_rate} Hz"
        for device in devices
    ]


class Microphone:
    """A device that feeds a live stream, and a recording, until it is stopped or fails."""

    def __init__(
        self,
        backend: CaptureBackend,
        device: Device,
        live: LiveStream,
        *,
        sample_rate: int | None = None,
        recording: Recording | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the device, at `sample_rate` Hz or its own. `clock` gives seconds.

        Raises AudioError for a rate that no microphone has, and if the device can't be opened.
        """
        self.device = device
        self.sample_rate = device.sample_rate if sample_rate is None else sample_rate
        if not MIN_RATE <= self.sample_rate <= MAX_RATE:
            raise AudioError(
                f"a sample rate of {self.sample_rate} Hz; expected {MIN_RATE} to {MAX_RATE}"
            )
        self.paused = False
        self._live = live
        self._recording = recording
        self._clock = clock
        self._samples = 0
        self._peak = 0
        self._zeros = 0  # samples of 0 since another one
        self._overflows: list[float] = []
        self._ends = True  # whether the capture is expected to end
        self._failed = False
        self._watched = 0.0, 0  # when, and how many samples there were
        self._idle_s = 0.0
        self._capture = backend.open(device, self.sample_rate, self._on_block, self._on_end)

    @property
    def heard_s(self) -> float:
        """Seconds of audio so far, with the silence of pauses."""
        return self._samples / self.sample_rate

    @property
    def zero_s(self) -> float:
        """Seconds of nothing but zeros, up to now. A microphone that works has some noise: this
        one is muted, or the system keeps it from this program, as macOS does without a word."""
        return self._zeros / self.sample_rate

    def start(self) -> None:
        """Begin to listen, or go on after `pause`. Raises AudioError."""
        self._ends = False
        self._watched = self._clock(), self._samples
        self._idle_s = 0.0
        self._capture.start()
        self.paused = False

    def pause(self, silence_s: float) -> None:
        """Stop the device, and give `silence_s` seconds of silence instead of what follows: so the
        words that were said become complete, and those behind the pause stay apart from them.

        Raises AudioError if the device doesn't stop.
        """
        time.sleep(self._capture.latency_s)  # what is said at this moment is on its way still
        self._ends = True
        self._capture.stop()
        self.paused = True
        self._pass_on(np.zeros(round(silence_s * self.sample_rate), np.int16))

    def stop(self) -> None:
        """Stop for good, behind what is said at this moment. May be called again."""
        if not self._ends and not self._failed:
            time.sleep(self._capture.latency_s)
        self._ends = True
        self._capture.close()

    def watch(self) -> None:
        """Notice that the device gives nothing any more. To be called several times a second; not
        every system tells that a device was unplugged."""
        (watched_s, samples), now_s = self._watched, self._clock()
        self._watched = now_s, self._samples
        if self.paused or self._samples != samples:
            self._idle_s = 0.0
            return
        self._idle_s += min(now_s - watched_s, _WATCH_STEP_S)
        if self._idle_s >= VANISHED_S:
            self._fail()

    def take_peak(self) -> float:
        """Return the highest absolute value since the last call, in [0, 1]."""
        peak, self._peak = self._peak, 0  # a callback in between costs the meter one block
        return peak / _FULL_SCALE

    def take_overflows(self) -> list[float]:
        """Return where the driver lost audio since the last call, in seconds of audio: it knows
        that some was lost, but not how much."""
        overflows, self._overflows = self._overflows, []
        return overflows

    def _on_block(self, samples: Pcm, overflowed: bool) -> None:
        if overflowed:
            self._overflows.append(self.heard_s)
        if len(samples):
            peak = max(int(samples.max()), -int(samples.min()))
            self._peak = max(self._peak, peak)
            self._zeros = 0 if peak else self._zeros + len(samples)
        self._pass_on(samples)

    def _pass_on(self, samples: Pcm) -> None:
        self._live.push(samples, self.sample_rate)  # which says later what it refused
        if self._recording is not None:
            self._recording.push(samples)
        self._samples += len(samples)

    def _on_end(self) -> None:
        if not self._ends:
            self._fail()

    def _fail(self) -> None:
        self._failed = True
        self._live.close(
            AudioError(
                f"{self.device.name} gave no more audio after {self.heard_s:.1f} s: it was "
                f"unplugged, or another program took it; {LOOK}"
            )
        )
