"""A folder of recordings that a command makes, in shards: stopped or killed, it goes on by the same
command, and ends with what it would have made.

It has `manifest.jsonl`, written when all is made; `shards/NAME.jsonl`, a record of each finished
shard, which is not made again; the recordings; and `MAKING.json`, how they are made, so that a
folder holds one corpus.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.errors import CorpusError
from asr.features import SAMPLE_RATE
from asr.whole_files import DISK_FULL
from training.locking import exclusive

Row = dict[str, Any]

FORMATS = {"flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS")}
"""What (libsndfile's format, its subtype) a recording is written in."""


@dataclass(frozen=True)
class CorpusFolder:
    """The folder of one corpus; `making` is what is done there: synthesis, or splicing."""

    path: Path
    making: str

    @property
    def manifest(self) -> Path:
        """Its rows, when all are made."""
        return self.path / "manifest.jsonl"

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Be the only one who adds to it; wait for another.

        Raises CorpusError for a full disk, and for a file in place of the folder.
        """
        if self.path.exists() and not self.path.is_dir():
            raise CorpusError(f"{self.path} is a file; expected a folder, made if need be")
        try:
            with exclusive(self.path / f"{self.making}.lock"):
                yield
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            raise CorpusError(self._disk_full(error)) from error

    def claim(self, settings: Row, prefix: str, defaults: Mapping[str, Any] | None = None) -> str:
        """Record how the corpus is made, or raise CorpusError if it was begun otherwise.

        Returns what the ids of its utterances begin with, `prefix` first: corpora that are made
        otherwise can be trained on together. `defaults` are for a record that lacks settings.
        """
        ids = f"{prefix}-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:6]}"
        claim = self.path / f"{self.making}.json"
        if claim.exists():
            found = dict(defaults or {}) | json.loads(claim.read_text(encoding="utf-8"))
            if changed := [key for key in settings if found.get(key) != settings[key]]:
                was = "; ".join(
                    f"{key} {_shortened(found.get(key))}, now {_shortened(settings[key])}"
                    for key in changed
                )
                raise CorpusError(
                    f"{self.path} has a corpus drawn with {was}; give another directory, or the "
                    "same settings to continue it"
                )
            ids = found["ids"]
        elif self.manifest.exists():
            raise CorpusError(
                f"{self.manifest} is there already, and {self.making} has not made it; give "
                "another directory"
            )
        (self.path / "shards").mkdir(parents=True, exist_ok=True)
        _write(claim, (json.dumps(settings | {"ids": ids}, indent=2) + "\n").encode())
        return str(ids)

    def finished(self, shard: str) -> list[Row] | None:
        """Return the rows of a shard; None if it has to be made."""
        record = self._record(shard)
        if not record.exists():
            return None
        return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]

    def finish(self, shard: str, rows: Sequence[Row]) -> None:
        """Record a shard whose recordings are all written."""
        _write_rows(self._record(shard), rows)

    def write_audio(self, name: str, encoded: bytes) -> None:
        """Write a recording; `name` is relative to the folder."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, encoded)

    def write_manifest(self, rows: Sequence[Row]) -> None:
        """Write the rows of the whole corpus."""
        _write_rows(self.manifest, rows)

    def _record(self, shard: str) -> Path:
        return self.path / "shards" / f"{shard}.jsonl"

    def _disk_full(self, error: OSError) -> str:
        records = sorted((self.path / "shards").glob("*.jsonl"))
        try:
            rows = [json.loads(line) for path in records for line in path.read_text().splitlines()]
        except (OSError, ValueError):
            rows = []
        hours = sum(row.get("duration", 0.0) for row in rows) / 3600
        return (
            f"{self.path}: {error.strerror}. Kept: {len(records)} finished shards, {hours:.2f} "
            "hours of speech. Make room (an hour is about 70 MB in FLAC, 15 MB in Opus), and give "
            "the same command to go on"
        )


def encode(samples: NDArray[np.float32] | NDArray[np.int16], kind: str) -> bytes:
    """Return `samples (n,)` at 16 kHz as the bytes of a file of one of FORMATS."""
    container, subtype = FORMATS[kind]
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, SAMPLE_RATE, format=container, subtype=subtype)
    return encoded.getvalue()


def _shortened(value: object) -> str:
    """A value as it is written, or the beginning of a long list of voices."""
    written = repr(value)
    return written if len(written) <= 100 else f"{written[:100]}..."


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def _write(path: Path, content: bytes) -> None:
    """All or nothing: a killed run or a full disk leaves no half file under its final name."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
