"""Speaks with libespeak-ng, and tells when; run by `training.synthesis.espeak`.

The command `espeak-ng` gives no times; the library does. It also remembers the last sentence (the
places in its tables of flutter and noise), so each is spoken in a fork of a process that has spoken
none: the same utterance sounds the same whatever came before, and one that crashes is alone.

Standard input: a line of JSON for each utterance, `voice`, `text`, `words_per_minute`, `pitch` (of
100). Standard output, for each: a line of JSON, `rate` (Hz), `samples` and `events`, then that many
samples of 16 bits; or `failed` alone. Only Python's standard library is needed.
"""

import ctypes
import json
import os
import signal
import sys
from typing import Any

LIBRARY = "libespeak-ng.so.1"

_SYNCHRONOUS, _PHONEME_EVENTS = 2, 1
_RATE, _PITCH = 1, 3  # espeak_PARAMETER
_WORD, _PHONEME = 1, 7  # espeak_EVENT_TYPE
_CHARACTERS, _UTF8 = 1, 1
_TIMEOUT_S = 30


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def _speak(library: ctypes.CDLL, rate: int, asked: dict[str, Any]) -> bytes:
    """The line of JSON and the samples of one utterance."""
    samples = bytearray()
    events: list[tuple[str, int, int]] = []  # "word" or the phoneme, position, sample

    def receive(wav: Any, count: int, event: Any) -> int:
        if wav:
            samples.extend(ctypes.string_at(wav, 2 * count))
        index = 0
        while kind := event[index].type:
            if kind == _WORD:
                events.append(("word", event[index].text_position, event[index].sample))
            elif kind == _PHONEME:
                phoneme = event[index].id.string.decode("utf-8", "replace")
                events.append((phoneme, event[index].text_position, event[index].sample))
            index += 1
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(asked["voice"].encode()) != 0:
        raise ValueError(f"no voice {asked['voice']}")
    library.espeak_SetParameter(_RATE, asked["words_per_minute"], 0)
    library.espeak_SetParameter(_PITCH, asked["pitch"], 0)
    text = asked["text"].encode() + b"\0"
    library.espeak_Synth(text, len(text), 0, _CHARACTERS, 0, _UTF8, None, None)
    header = {"rate": rate, "samples": len(samples) // 2, "events": events}
    return json.dumps(header).encode() + b"\n" + samples


def main() -> None:
    """Speak what is asked on standard input."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        sys.exit(f"{LIBRARY} was not found")
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS)
    if rate <= 0:
        sys.exit("libespeak-ng could not be started: its data is missing")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            signal.alarm(_TIMEOUT_S)
            spoken = _speak(library, rate, json.loads(line))
            sys.stdout.buffer.write(spoken)
            sys.stdout.buffer.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status != 0:
            code = os.waitstatus_to_exitcode(status)
            sys.stdout.buffer.write(json.dumps({"failed": code}).encode() + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
