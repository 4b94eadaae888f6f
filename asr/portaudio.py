"""The devices of this machine, by PortAudio: the extra `mic` with sounddevice.

Whatever PortAudio says of an error is told in words: what was found, and what to do.
"""

import atexit
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from asr.errors import AudioError
from asr.microphone import LOOK, Capture, Device, Pcm

BLOCK_S = 0.05
"""Seconds of audio in a block: 20 callbacks a second cost next to nothing, and a twentieth of a
second is little beside a chunk."""

_ANSWER_S = 2.0  # a driver stops in a tenth of that

_DEVICE_UNAVAILABLE, _INVALID_DEVICE, _INVALID_SAMPLE_RATE = -9985, -9996, -9997  # PaErrorCode


class PortAudio:
    """The devices of this machine, by sounddevice: ALSA, PulseAudio, PipeWire, JACK, Core Audio."""

    def __init__(self) -> None:
        """Raises AudioError if sounddevice or the PortAudio library is not installed."""
        self._sounddevice: Any = _import_sounddevice()

    def devices(self) -> list[Device]:
        """Return what records, as it was when this object was made."""
        default = self._sounddevice.default.device["input"]
        devices = [
            Device(
                info["index"],
                info["name"],
                self._sounddevice.query_hostapis(info["hostapi"])["name"],
                info["max_input_channels"],
                round(info["default_samplerate"]),
                is_default=info["index"] == default,
            )
            for info in self._sounddevice.query_devices()
            if info["max_input_channels"] > 0
        ]
        if not devices:
            raise AudioError(why_no_device())
        return devices

    def open(
        self,
        device: Device,
        sample_rate: int,
        on_block: Callable[[Pcm, bool], None],
        on_end: Callable[[], None],
    ) -> Capture:
        """Open a device as `CaptureBackend` says; of several channels it is the first."""
        return _PortAudioCapture(self._sounddevice, device, sample_rate, on_block, on_end)


class _PortAudioCapture:
    """An input stream of sounddevice."""

    def __init__(
        self,
        sounddevice: Any,
        device: Device,
        sample_rate: int,
        on_block: Callable[[Pcm, bool], None],
        on_end: Callable[[], None],
    ) -> None:
        self._sounddevice = sounddevice
        self._device = device
        self._sample_rate = sample_rate
        self._on_block, self._on_end = on_block, on_end
        with self._explained(), _quiet_stderr():
            self._stream = sounddevice.InputStream(
                samplerate=sample_rate,
                blocksize=max(1, round(BLOCK_S * sample_rate)),
                device=device.index,
                channels=1,
                dtype="int16",
                latency="high",  # of the driver's buffer: against overflows on a busy machine
                callback=self._take,
                finished_callback=lambda: self._on_end(),
            )
        self.latency_s: float = self._stream.latency + BLOCK_S

    def start(self) -> None:
        with self._explained(), _quiet_stderr():
            self._stream.start()

    def stop(self) -> None:
        if not self._done_in_time(self._stream.stop):
            raise AudioError(f"{self._device.name} doesn't answer any more; {LOOK}")

    def close(self) -> None:
        if not self._done_in_time(self._stream.close):
            # Left alone, and it holds nothing of ours: a thread that never ends would keep it.
            # sounddevice would wait for the same when the program ends.
            self._on_block, self._on_end = (lambda samples, overflowed: None), (lambda: None)
            atexit.unregister(self._sounddevice._exit_handler)

    def _take(self, samples: Pcm, count: int, times: object, status: Any) -> None:
        self._on_block(samples[:, 0], bool(status.input_overflow))

    def _done_in_time(self, action: Callable[[], None]) -> bool:
        """Do something that takes for ever where the device is gone: JACK's driver does."""
        thread = threading.Thread(target=action, daemon=True)
        thread.start()
        thread.join(_ANSWER_S)
        return not thread.is_alive()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._sounddevice.PortAudioError as error:
            raise AudioError(explain(error.args, self._device, self._sample_rate)) from error


def explain(arguments: tuple[Any, ...], device: Device, sample_rate: int) -> str:
    """Return what the arguments of a `PortAudioError` mean for a user: its text, a PaErrorCode, and
    `(host API, code, text)` of the system below."""
    text = arguments[0] if arguments else "unknown error"
    code = arguments[1] if len(arguments) > 1 else 0
    host_text = arguments[2][2] if len(arguments) > 2 else ""
    if code == _DEVICE_UNAVAILABLE:
        return (
            f"{device.name} is in use by another program, or gone; close that program, or choose "
            f"another device with --device ({LOOK})"
        )
    if code == _INVALID_SAMPLE_RATE:
        is_own = sample_rate == device.sample_rate
        advice = "choose another device" if is_own else "leave --rate out"
        return (
            f"{device.name} doesn't record at {sample_rate} Hz, its own rate is "
            f"{device.sample_rate} Hz; {advice}"
        )
    if code == _INVALID_DEVICE:
        return f"{device.name} is gone; {LOOK}"
    if "permission" in f"{text} {host_text}".lower():
        return f"this user may not use {device.name}; {_permission_advice()}"
    return f"{device.name} can't be opened: {host_text or text}; {LOOK}"


def why_no_device(folder: Path = Path("/dev/snd")) -> str:
    """Return why no device records, and what to do. `folder` is where ALSA has its devices."""
    if sys.platform == "darwin":
        return f"no microphone was found; plug one in, and let it be used: {_permission_advice()}"
    captures = sorted(folder.glob("pcmC*D*c"))
    denied = [path for path in captures if not os.access(path, os.R_OK | os.W_OK)]
    if denied:
        return f"this user may not use {', '.join(map(str, denied))}; {_permission_advice()}"
    found = "holds none" if folder.is_dir() else "is missing, as on a server or in a container"
    return (
        f"no microphone was found: {folder} {found}; plug one in, or pipe raw audio from elsewhere "
        "into: asr transcribe -"
    )


def _permission_advice() -> str:
    if sys.platform == "darwin":
        return "System Settings, Privacy & Security, Microphone: allow this terminal"
    return "sudo usermod -aG audio $USER, and log in again"


def _import_sounddevice() -> Any:
    try:
        return import_module("sounddevice")
    except ModuleNotFoundError as error:
        raise AudioError(
            f"a microphone needs {error.name}, which is not installed: "
            "pip install 'earshot-asr[mic]'"
        ) from error
    except OSError as error:
        raise AudioError(
            f"a microphone needs the PortAudio library ({error}): sudo apt install libportaudio2 "
            "(Fedora: sudo dnf install portaudio; macOS: brew install portaudio)"
        ) from error
    except Exception as error:  # its PortAudioError, which can't be imported: no sound system
        raise AudioError(f"PortAudio doesn't start: {error}; is there a sound system?") from error


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep what ALSA and PortAudio print about an error from the terminal: it is told in words."""
    saved, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)
