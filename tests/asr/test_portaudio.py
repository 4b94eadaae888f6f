"""PortAudio behind sounddevice, of which a fake takes the place: each failure is told in words."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asr.errors import AudioError
from asr.portaudio import PortAudio, explain, why_no_device
from tests.asr.fake_microphone import BUILT_IN, USB

HDMI = {
    "index": 1,
    "name": "HDMI 0",
    "hostapi": 0,
    "max_input_channels": 0,
    "default_samplerate": 44100.0,
}


class PortAudioError(Exception):
    pass


class InputStream:
    """As sounddevice's: it calls back in the thread of the test."""

    latency = 0.04
    error: PortAudioError | None = None

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.released = threading.Event()
        self.released.set()
        self.closed = False
        os.write(2, b"ALSA lib pcm.c: Unknown PCM\n")  # as libasound does, whoever listens
        if self.error:
            raise self.error

    def start(self) -> None: ...

    def stop(self) -> None:
        self.released.wait(10)

    def close(self) -> None:
        self.released.wait(10)
        self.closed = True

    def give(self, samples: np.ndarray, overflow: bool = False) -> None:
        status = SimpleNamespace(input_overflow=overflow)
        self.options["callback"](samples, len(samples), None, status)


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = ModuleType("sounddevice")
    module.PortAudioError = PortAudioError
    module.InputStream = InputStream
    module.default = SimpleNamespace(device={"input": 3, "output": -1})
    module.query_hostapis = lambda index: {"name": "ALSA"}
    module.query_devices = lambda: [_info(BUILT_IN), HDMI, _info(USB)]
    module._exit_handler = lambda: None
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def _info(device: Any) -> dict[str, object]:
    return {
        "index": device.index,
        "name": device.name,
        "hostapi": 0,
        "max_input_channels": device.channels,
        "default_samplerate": float(device.sample_rate),
    }


def test_what_records_is_listed(sounddevice: Any) -> None:
    assert PortAudio().devices() == [BUILT_IN, USB]


def open_usb(
    on_block: Callable = lambda samples, overflowed: None, on_end: Callable = lambda: None
) -> Any:
    return PortAudio().open(USB, 48_000, on_block, on_end)


def test_a_device_is_opened_for_one_channel_of_its_own(sounddevice: Any) -> None:
    heard = []
    capture = open_usb(lambda samples, overflowed: heard.append((samples.tolist(), overflowed)))
    options = capture._stream.options
    assert (options["device"], options["samplerate"], options["channels"]) == (3, 48_000, 1)
    assert options["dtype"] == "int16"
    capture._stream.give(np.array([[1], [2]], np.int16))
    capture._stream.give(np.array([[3]], np.int16), overflow=True)
    assert heard == [([1, 2], False), ([3], True)]


def test_the_end_of_the_stream_is_passed_on(sounddevice: Any) -> None:
    ended = []
    capture = open_usb(on_end=lambda: ended.append(True))
    capture._stream.options["finished_callback"]()
    assert ended == [True]


def test_what_libraries_print_about_an_error_stays_away(
    sounddevice: Any, capfd: pytest.CaptureFixture
) -> None:
    open_usb()
    os.write(2, b"ours")
    assert capfd.readouterr().err == "ours"


def test_a_driver_that_never_comes_back_is_left_alone(
    sounddevice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JACK's waits for ten minutes when its server is gone, and sounddevice at the end again."""
    unregistered = []
    monkeypatch.setattr("asr.portaudio._ANSWER_S", 0.01)
    monkeypatch.setattr("atexit.unregister", unregistered.append)
    heard = []
    capture = open_usb(lambda samples, overflowed: heard.append(1))
    capture._stream.released.clear()
    with pytest.raises(AudioError, match=r"USB Mic: Audio .* doesn't answer any more"):
        capture.stop()
    capture.close()
    assert unregistered == [sounddevice._exit_handler]
    capture._stream.give(np.zeros((1, 1), np.int16))
    assert heard == []
    capture._stream.released.set()


def test_a_driver_that_answers_is_closed(sounddevice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atexit.unregister", lambda handler: pytest.fail("nothing is left alone"))
    capture = open_usb()
    capture.stop()
    capture.close()
    assert capture._stream.closed


@pytest.mark.parametrize(
    ("arguments", "rate", "message"),
    [
        (("Error opening", -9985), 48_000, "is in use by another program, or gone; close that"),
        (("Error opening", -9996), 48_000, "is gone; asr mic --list-devices"),
        (
            ("Error opening", -9997),
            8_000,
            "doesn't record at 8000 Hz, its own rate is 48000 Hz; leave --rate out",
        ),
        (("Error opening", -9997), 48_000, "at 48000 Hz, .*; choose another device"),
        (
            ("Error opening", -9999, (0, -13, "Permission denied")),
            48_000,
            "this user may not use USB Mic",
        ),
        (
            ("Unanticipated host error", -9999, (0, -19, "No such device")),
            48_000,
            "can't be opened: No such device; asr mic --list-devices",
        ),
        (("Insufficient memory",), 48_000, "can't be opened: Insufficient memory"),
        ((), 48_000, "can't be opened: unknown error"),
    ],
)
def test_a_device_that_can_not_be_opened(
    sounddevice: Any,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple,
    rate: int,
    message: str,
) -> None:
    monkeypatch.setattr(InputStream, "error", PortAudioError(*arguments))
    with pytest.raises(AudioError, match=message):
        PortAudio().open(USB, rate, lambda samples, overflowed: None, lambda: None)
    assert explain(arguments, USB, rate).startswith(("USB Mic", "this user"))


def test_sounddevice_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(AudioError, match=r"needs sounddevice.*pip install 'earshot-asr\[mic\]'"):
        PortAudio()


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("OSError('PortAudio library not found')", "sudo apt install libportaudio2"),
        ("RuntimeError('Error initializing PortAudio')", "PortAudio doesn't start: Error init"),
    ],
)
def test_portaudio_is_missing_or_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: str, message: str
) -> None:
    (tmp_path / "sounddevice.py").write_text(f"raise {failure}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(AudioError, match=message):
        PortAudio()


def test_no_microphone_at_all(sounddevice: Any) -> None:
    sounddevice.query_devices = lambda: [HDMI]
    with pytest.raises(AudioError, match="no microphone was found"):
        PortAudio().devices()


@pytest.mark.skipif("sys.platform == 'darwin'", reason="Linux's sound devices are files")
def test_why_there_is_no_microphone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "snd"
    assert f"{missing} is missing, as on a server or in a container" in why_no_device(missing)
    missing.mkdir()
    (missing / "pcmC0D0p").touch()  # a loudspeaker
    assert f"{missing} holds none; plug one in" in why_no_device(missing)
    microphone = missing / "pcmC1D0c"
    microphone.touch()
    monkeypatch.setattr("os.access", lambda path, mode: path != microphone)  # root may all
    assert why_no_device(missing) == (
        f"this user may not use {microphone}; sudo usermod -aG audio $USER, and log in again"
    )
