"""Microphones without a sound card.

`ManualBackend` is fed block by block by a test. `FileBackend` plays a recording, as a program under
a pseudo-terminal needs it: `python -m tests.asr.fake_microphone RECORDING SPEED mic ...` is the
`asr` command with that recording as its only microphone.
"""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from asr.errors import AudioError
from asr.microphone import Device, Pcm

USB = Device(3, "USB Mic: Audio (hw:1,0)", "ALSA", 1, 48_000, is_default=True)
BUILT_IN = Device(0, "Built-in Mic: Analog (hw:0,0)", "ALSA", 2, 44_100, is_default=False)


class ManualCapture:
    """A device whose blocks a test makes."""

    latency_s = 0.0

    def __init__(self, on_block: Callable[[Pcm, bool], None], on_end: Callable[[], None]) -> None:
        self._on_block, self._on_end = on_block, on_end
        self.running = False
        self.closed = False
        self.error: AudioError | None = None  # what the next start raises

    def start(self) -> None:
        if self.error:
            raise self.error
        self.running = True

    def stop(self) -> None:
        if self.running:
            self.running = False
            self._on_end()  # as PortAudio does, whoever stops it

    def close(self) -> None:
        self.stop()
        self.closed = True

    def give(self, samples: np.ndarray, overflowed: bool = False) -> None:
        """Call back with a block in a buffer that is used again, as a driver does."""
        assert self.running, "no block comes from a device that is stopped"
        buffer = np.array(samples, np.int16)
        self._on_block(buffer, overflowed)
        buffer.fill(-1)

    def vanish(self) -> None:
        """End as a device does that is unplugged."""
        self.running = False
        self._on_end()


class ManualBackend:
    """Two devices; the last capture that was opened is at hand."""

    capture: ManualCapture

    def devices(self) -> list[Device]:
        return [BUILT_IN, USB]

    def open(
        self,
        device: Device,
        sample_rate: int,
        on_block: Callable[[Pcm, bool], None],
        on_end: Callable[[], None],
    ) -> ManualCapture:
        self.opened = device, sample_rate
        self.capture = ManualCapture(on_block, on_end)
        return self.capture


class FileCapture:
    """Plays a recording at the speed of speech, or faster; what follows is `at_end`'s, and hiss."""

    latency_s = 0.0

    def __init__(
        self,
        samples: Pcm,
        rate: int,
        speed: float,
        unplugged_s: float | None,
        at_end: Callable[[], None],
        on_block: Callable[[Pcm, bool], None],
        on_end: Callable[[], None],
    ) -> None:
        self._samples, self._rate, self._speed = samples, rate, speed
        self._unplugged_s, self._at_end = unplugged_s, at_end
        self._on_block, self._on_end = on_block, on_end
        self._position = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        self.stop()

    def _play(self) -> None:
        count = self._rate // 20
        due = time.monotonic()
        rng = np.random.default_rng(1)
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            if self._unplugged_s is not None and self._position >= self._unplugged_s * self._rate:
                break
            block = self._samples[self._position : self._position + count]
            hiss = rng.integers(-3, 4, count - len(block)).astype(np.int16)
            self._on_block(np.concatenate([block, hiss]), False)
            if self._position < len(self._samples) <= self._position + count:
                self._at_end()
            self._position += count
            due += count / self._rate / self._speed
        self._on_end()


class FileBackend:
    """One device, which plays `path` and then calls `at_end`; it is unplugged after `unplugged_s`
    seconds of audio."""

    def __init__(
        self,
        path: Path,
        speed: float = 1.0,
        unplugged_s: float | None = None,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._samples, self._rate = soundfile.read(path, dtype="int16")
        self._options = speed, unplugged_s, at_end

    def devices(self) -> list[Device]:
        return [Device(0, "Desk Mic", "file", 1, self._rate, is_default=True)]

    def open(
        self,
        device: Device,
        sample_rate: int,
        on_block: Callable[[Pcm, bool], None],
        on_end: Callable[[], None],
    ) -> FileCapture:
        assert sample_rate == self._rate, "the rate of the recording is the only one"
        return FileCapture(self._samples, self._rate, *self._options, on_block, on_end)


if __name__ == "__main__":
    import asr.cli.mic

    recording, speed = sys.argv[1:3]
    backend = FileBackend(Path(recording), float(speed))
    asr.cli.mic.PortAudio = lambda: backend  # type: ignore[assignment, misc]
    sys.argv[:3] = ["asr"]
    asr.cli.main()
