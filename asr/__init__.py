"""On-device streaming English speech recognition.

    import asr

    recognizer = asr.load()                      # the built-in English model
    print(recognizer.transcribe("speech.wav").text)

    stream = recognizer.stream()                 # or live, block by block
    for samples in microphone:                   # float32 in [-1, 1] or int16, mono
        for event in stream.accept(samples, sample_rate=44_100):
            if isinstance(event, asr.Partial):
                print(event.text)
    print(stream.finish().text)

Names are imported when they are first used, so that `import asr` costs a millisecond.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from asr.audio import read_blocks
    from asr.bundle import Bundle, open_bundle
    from asr.errors import AsrError, AudioError, BundleError
    from asr.recognizer import Recognizer, load
    from asr.results import Event, Final, Partial, Result, Token, Word
    from asr.stream import Stream

__all__ = [
    "AsrError",
    "AudioError",
    "Bundle",
    "BundleError",
    "Event",
    "Final",
    "Partial",
    "Recognizer",
    "Result",
    "Stream",
    "Token",
    "Word",
    "__version__",
    "load",
    "open_bundle",
    "read_blocks",
]

_MODULE_OF = {
    "AsrError": "asr.errors",
    "AudioError": "asr.errors",
    "Bundle": "asr.bundle",
    "BundleError": "asr.errors",
    "Event": "asr.results",
    "Final": "asr.results",
    "Partial": "asr.results",
    "Recognizer": "asr.recognizer",
    "Result": "asr.results",
    "Stream": "asr.stream",
    "Token": "asr.results",
    "Word": "asr.results",
    "load": "asr.recognizer",
    "open_bundle": "asr.bundle",
    "read_blocks": "asr.audio",
}


def __getattr__(name: str) -> Any:
    """Import the public name `name` from the module that defines it (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'asr' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
