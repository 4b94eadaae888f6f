"""What was measured, with what and where: the head of every result that is kept in a file."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asr import __version__
from asr.bundle import MANIFEST_NAME, file_entry
from asr.calibration import profile_key
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

    platform: str  # system, version, architecture
    processor: str
    cpus: int  # logical
    usable_cpus: int  # that this process may use; a quota of a control group doesn't show


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """All that is needed to understand a result, or to measure it again."""

    version: str  # of earshot-asr
    commit: str | None  # of its sources, "-dirty" if they were changed; None: an installed package
    command: str
    date: str  # ISO 8601, UTC
    machine: Machine
    engine: str  # and its version
    model: ModelIdentity
    precision: str
    chunk_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationEnvelope(Envelope):
    """The same of an evaluation: also what it was given."""

    manifests: tuple[str, ...]
    split: str | None  # None: all rows
    limit: int | None  # usable rows of each manifest; None: all


def describe_run(recognizer: Recognizer) -> Envelope:
    """Return the envelope of a measurement that begins now."""
    return Envelope(**_describe(recognizer))


def describe_evaluation(
    recognizer: Recognizer,
    manifests: Sequence[Path],
    split: str | None = None,
    limit: int | None = None,
) -> EvaluationEnvelope:
    """Return the envelope of an evaluation that begins now."""
    return EvaluationEnvelope(
        **_describe(recognizer), manifests=tuple(map(str, manifests)), split=split, limit=limit
    )


def write_result(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a result as JSON; the file appears whole or not at all."""
    path = Path(path)
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def _describe(recognizer: Recognizer) -> dict[str, Any]:
    bundle = recognizer.bundle
    here = profile_key(bundle, recognizer.precision, threads=1)
    return {
        "version": __version__,
        "commit": _commit(Path(__file__).parents[2]),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": Machine(platform.platform(), here.cpu, os.cpu_count() or 1, here.cores),
        "engine": here.engine,
        "model": ModelIdentity(
            bundle.name, file_entry(bundle.path / MANIFEST_NAME).sha256, bundle.model.parameters
        ),
        "precision": recognizer.precision,
        "chunk_ms": recognizer.chunk_ms,
    }


def _commit(root: Path) -> str | None:
    """Return the commit of the repository whose top is `root`; None if that isn't one."""
    if not (root / ".git").exists():  # an installed package may lie inside somebody's repository
        return None
    command = ["git", "--no-optional-locks", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(
            [*command, "--abbrev=40", "--exclude=*"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):  # no git here, or no commit yet
        return None
    return found.stdout.strip()
