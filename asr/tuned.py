"""The operating point that `asr tune` chose for a model on this machine.

It is a section of the profile (`asr.profile`) of the variant that runs where nothing is named, so
it holds for that bundle, runtime and machine, and another one starts without. `asr.load()` uses it
where the caller names neither precision, engine, chunks nor threads. A damaged one is none.
"""

from dataclasses import asdict, dataclass

from asr.bundle import Bundle
from asr.errors import AsrError
from asr.profile import ProfileKey, cache_folder, profile_key, read_section, write_section
from asr.schema import SchemaError, read_dataclass

SECTION = "tuned"  # of the profile


@dataclass(frozen=True, slots=True)
class TunedPoint:
    """How to run a model here, and what it came to when that was measured."""

    precision: str
    engine: str
    threads: int  # of the inference engine
    chunk_ms: int
    wer: float  # fraction, on the recordings of the tuning
    rtf: float
    latency_ms: float
    memory_mb: float
    date: str  # ISO 8601, UTC

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        engine = "" if self.engine == "onnx" else f" for {self.engine}"
        return f"{self.precision}{engine}, chunks of {self.chunk_ms} ms, {threads}"


def read_tuned(bundle: Bundle) -> TunedPoint | None:
    """Return what is kept for a bundle on this machine; None if nothing usable is."""
    content = read_section(_key(bundle), SECTION)
    if content is None:
        return None
    try:
        point = read_dataclass(TunedPoint, content, SECTION)
    except SchemaError:
        return None
    variants = {(graphs.precision, graphs.engine) for graphs in bundle.variants}
    usable = (point.precision, point.engine) in variants and point.threads > 0
    return point if usable else None


def write_tuned(bundle: Bundle, point: TunedPoint | None) -> None:
    """Keep a point for a bundle on this machine, or none any more. Raises AsrError where nothing
    can be kept."""
    try:
        write_section(_key(bundle), SECTION, asdict(point) if point else None)
    except OSError as error:
        raise AsrError(
            f"the operating point can't be kept in {cache_folder()} ({error.strerror}); set "
            "XDG_CACHE_HOME to a directory for caches"
        ) from error


def _key(bundle: Bundle) -> ProfileKey:
    return profile_key(bundle, precision=None, threads=1)
