"""What an evaluation has measured so far, on disk, so that the same command can go on from there.

JSON lines beside the report: first what was measured with what, then an utterance a line. It is
gone when the report is whole. What failed isn't kept: it is tried again.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, TextIO

from asr.errors import AsrError
from asr.evaluation.corpora.manifest import Skipped, Utterance
from asr.evaluation.envelope import EvaluationEnvelope
from asr.evaluation.recognition import Outcome, Recognized
from asr.results import Word

_VERSION = 1


def partial_path(report: Path) -> Path:
    """Return the name of the file that belongs to a report."""
    return report.with_name(report.name + ".partial")


def measured_with(
    envelope: EvaluationEnvelope, utterances: Iterable[Utterance]
) -> dict[str, str | float | None]:
    """Return what has to be the same if two runs are to be one: the model and how it runs, and the
    utterances. How many processes there are, and what is shown in the end, may differ."""
    digest, count = hashlib.sha256(), 0
    for utterance in utterances:
        count += 1
        identity = [utterance.id, str(utterance.audio), utterance.text]
        segment = astuple(utterance.segment) if utterance.segment else None
        digest.update(json.dumps([*identity, segment]).encode())
    return {
        "partial_version": _VERSION,
        "earshot-asr": envelope.version,
        "model": envelope.model.sha256,
        "engine": envelope.engine,
        "precision": envelope.precision,
        "chunk_ms": envelope.chunk_ms,
        "noise": envelope.noise,
        "snr_db": envelope.snr_db,
        "utterances": f"{count} ({digest.hexdigest()[:16]})",
    }


class PartialResults:
    """The file, opened to go on with it. It is made with the first utterance that is added."""

    def __init__(self, path: Path, measured_with: Mapping[str, str | float | None]) -> None:
        """Read what is there. Raises AsrError for a file of another command, or a damaged one."""
        self.path = path
        self._measured_with = dict(measured_with)
        self._file: TextIO | None = None
        self._length = 0  # bytes of the lines that are whole
        self.recognized = self._read()

    def add(self, name: str, outcome: Outcome) -> None:
        """Keep what was recognised of the utterance `name`, if it was."""
        if isinstance(outcome, Skipped):
            return
        if self._file is None:
            self._file = self._open()
        words = [astuple(word) for word in outcome.words]
        self._write({"id": name, **asdict(outcome), "words": words})

    def close(self) -> None:
        """Leave the file as it is."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Leave no file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _open(self) -> TextIO:
        file = self.path.open("a", encoding="utf-8")
        os.truncate(self.path, self._length)  # the half line of a run that was killed
        self._file = file
        if not self._length:
            self._write(self._measured_with)
        return file

    def _write(self, row: Mapping[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def _read(self) -> dict[str, Recognized]:
        """Return what was recognised, by id."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        whole = content[: content.rfind(b"\n") + 1]
        self._length = len(whole)
        if not whole:
            return {}
        first, *lines = whole.splitlines()
        try:
            self._check(dict(json.loads(first)))
            return dict(_parse(json.loads(line)) for line in lines)
        except (ValueError, TypeError, KeyError) as error:
            raise AsrError(f"{self.path}: damaged ({error}); delete it to measure anew") from error

    def _check(self, head: Mapping[str, Any]) -> None:
        for key, value in self._measured_with.items():
            if head.get(key) != value:
                raise AsrError(
                    f"{self.path} is what another command has measured: {key} {head.get(key)!r} "
                    f"there, {value!r} here; delete it to measure anew, or name another --report"
                )


def _parse(row: dict[str, Any]) -> tuple[str, Recognized]:
    words = tuple(Word(*word) for word in row.pop("words"))
    return row.pop("id"), Recognized(words=words, **row)
