"""What was measured, with what and where: the head of every result that is kept in a file."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from asr import __version__
from asr.bundle import MANIFEST_NAME, file_entry
from asr.recognizer import Recognizer


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model."""

    name: str
    sha256: str  # of bundle.json, which holds the checksums of all other files
    parameters: int


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran."""

    platform: str  # system, version, processor
    cpus: int  # logical


@dataclass(frozen=True, slots=True)
class Envelope:
    """All that is needed to understand a result, or to measure it again."""

    version: str  # of earshot-asr
    date: str  # ISO 8601, UTC
    machine: Machine
    model: ModelIdentity
    precision: str
    chunk_ms: int
    manifests: tuple[str, ...]
    split: str | None  # None: all rows
    limit: int | None  # usable rows of each manifest; None: all


def describe_run(
    recognizer: Recognizer,
    manifests: Sequence[Path],
    split: str | None = None,
    limit: int | None = None,
) -> Envelope:
    """Return the envelope of a measurement that begins now."""
    bundle = recognizer.bundle
    digest = file_entry(bundle.path / MANIFEST_NAME).sha256
    return Envelope(
        version=__version__,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=Machine(platform.platform(), os.cpu_count() or 1),
        model=ModelIdentity(bundle.name, digest, bundle.model.parameters),
        precision=recognizer.precision,
        chunk_ms=recognizer.chunk_ms,
        manifests=tuple(map(str, manifests)),
        split=split,
        limit=limit,
    )
