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
from asr.profile import cpu_name, profile_key, usable_cpus
from asr.recognizer import Recognizer
from asr.whole_files import write_whole


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
    search: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationEnvelope(Envelope):
    """The same of an evaluation: also what it was given."""

    manifests: tuple[str, ...]
    split: str | None  # None: all rows
    limit: int | None  # usable rows of each manifest; None: all
    jobs: int  # processes
    noise: str | None = None  # folder of the noises; None: none was added
    snr_db: float | None = None


def describe_run(recognizer: Recognizer) -> Envelope:
    """Return the envelope of a measurement that begins now."""
    return Envelope(**_describe(recognizer))


def describe_evaluation(
    recognizer: Recognizer,
    manifests: Sequence[Path],
    split: str | None = None,
    limit: int | None = None,
    jobs: int = 1,
    noise: Path | None = None,
    snr_db: float | None = None,
) -> EvaluationEnvelope:
    """Return the envelope of an evaluation that begins now."""
    return EvaluationEnvelope(
        **_describe(recognizer),
        manifests=tuple(map(str, manifests)),
        split=split,
        limit=limit,
        jobs=jobs,
        noise=None if noise is None else str(noise),
        snr_db=snr_db,
    )


def describe_source() -> dict[str, Any]:
    """Return what an envelope says of this program and how it was started."""
    return {
        "version": __version__,
        "commit": _commit(Path(__file__).parents[2]),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def describe_machine() -> Machine:
    """Return where this runs."""
    return Machine(platform.platform(), cpu_name(), os.cpu_count() or 1, usable_cpus())


def write_result(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a result as JSON; the file appears whole or not at all."""
    text = json.dumps(content, indent=2) + "\n"
    write_whole(Path(path), lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def _describe(recognizer: Recognizer) -> dict[str, Any]:
    bundle = recognizer.bundle
    graphs = recognizer.graphs
    here = profile_key(bundle, graphs.precision, threads=1, engine=graphs.engine)
    return {
        **describe_source(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "engine": here.runtime if graphs.engine == "onnx" else f"{here.runtime}, .{graphs.engine}",
        "model": ModelIdentity(bundle.name, here.bundle, bundle.model.parameters),
        "precision": recognizer.precision,
        "chunk_ms": recognizer.chunk_ms,
        "search": recognizer.search,
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
