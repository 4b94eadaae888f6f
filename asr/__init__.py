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

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# onnxruntime 1.29 and later measure their users and send it home, from their import on, unless the
# environment says this before. Every module of the project is imported behind this line.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from asr.audio import read_blocks
    from asr.budget import Budget, OperatingPoint
    from asr.bundle import Bundle, open_bundle
    from asr.decoding.endpoint import EndpointRules
    from asr.errors import AsrError, AudioError, BudgetError, BudgetExceeded, BundleError
    from asr.live import LiveStream
    from asr.recognizer import Recognizer, load
    from asr.results import Endpoint, Event, Final, Moved, Overrun, Partial, Result, Token, Word
    from asr.stream import Stream
    from asr.supervisor import BudgetReport

__all__ = [
    "AsrError",
    "AudioError",
    "Budget",
    "BudgetError",
    "BudgetExceeded",
    "BudgetReport",
    "Bundle",
    "BundleError",
    "Endpoint",
    "EndpointRules",
    "Event",
    "Final",
    "LiveStream",
    "Moved",
    "OperatingPoint",
    "Overrun",
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
    "Budget": "asr.budget",
    "BudgetError": "asr.errors",
    "BudgetExceeded": "asr.errors",
    "BudgetReport": "asr.supervisor",
    "Bundle": "asr.bundle",
    "BundleError": "asr.errors",
    "Endpoint": "asr.results",
    "EndpointRules": "asr.decoding.endpoint",
    "Event": "asr.results",
    "Final": "asr.results",
    "LiveStream": "asr.live",
    "Moved": "asr.results",
    "OperatingPoint": "asr.budget",
    "Overrun": "asr.results",
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
