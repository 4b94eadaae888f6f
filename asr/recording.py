"""A session that is kept: its audio while it is recorded, and its transcript."""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from queue import Full, Queue
from types import TracebackType
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.errors import AudioError
from asr.whole_files import write_whole

QUEUE_BLOCKS = 1200
"""Blocks that wait for the disk at most: a minute of a microphone, 6 MB at 48 kHz."""


class Recording:
    """Files of one name in a directory: NAME.flac, NAME.txt, NAME.json; NAME is when it began.

    The audio is written while it is recorded, by a thread of its own, to NAME.flac.part. It gets
    its name when it is closed; what a killed program leaves behind can be transcribed all the same.
    """

    def __init__(self, directory: Path, sample_rate: int, began: datetime) -> None:
        """Make the directory, if need be, and open the file. Raises AudioError if that fails."""
        self.sample_rate = sample_rate
        self.error: str | None = None
        """Why audio is missing: such as a disk that is full."""
        self._samples = 0
        self._blocks: Queue[NDArray[np.int16] | None] = Queue(QUEUE_BLOCKS)
        try:
            self.audio_path, self._part = _reserve(directory, began)
            self._disk = _Disk(self._part)
        except OSError as error:
            raise AudioError(
                f"{directory}: no recording can be kept there: {error.strerror}; name another "
                "directory"
            ) from error
        try:
            self._file = soundfile.SoundFile(
                self._disk, "w", sample_rate, channels=1, subtype="PCM_16", format="FLAC"
            )
        except soundfile.SoundFileError as error:
            self._disk.close()
            self._part.unlink(missing_ok=True)
            raise AudioError(
                f"{self.audio_path}: FLAC holds no audio at {sample_rate} Hz ({error}); choose "
                "another rate"
            ) from error
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    def push(self, samples: NDArray[np.int16]) -> None:
        """Take a block `(n,)`; it is copied. Never waits for the disk: where the queue is full, the
        recording ends, and `error` says so."""
        if self.error is None:
            try:
                self._blocks.put_nowait(samples.copy())
            except Full:
                self.error = f"{self.audio_path}: the disk is too slow; the recording ends early"

    def close(self) -> None:
        """Write what waits, and give the file its name; a recording of nothing is removed. May be
        called again."""
        if self._file.closed:
            return
        self._blocks.put(None)
        self._writer.join()
        try:
            self._file.close()
            if self._disk.error is not None:
                raise self._disk.error
        except (OSError, soundfile.SoundFileError) as error:
            self._break(error)
        self._disk.close()
        if self._samples:
            self._part.replace(self.audio_path)
        else:
            self._part.unlink(missing_ok=True)

    def write_transcript(self, lines: Sequence[str], details: Mapping[str, Any]) -> None:
        """Write the text, a line a segment, and the details as JSON; nothing if there is no audio.

        Raises OSError, and leaves no half-written file, if they can't be written.
        """
        if not self.audio_path.exists():
            return
        text = "".join(f"{line}\n" for line in lines)
        write_whole(
            self.audio_path.with_suffix(".txt"), lambda path: path.write_text(text, "utf-8")
        )
        content = {"audio": self.audio_path.name, **details}
        write_whole(self.audio_path.with_suffix(".json"), lambda path: _write_json(path, content))

    def __enter__(self) -> "Recording":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self) -> None:
        broken = False
        while (block := self._blocks.get()) is not None:
            if not broken:
                try:
                    self._file.write(block)
                    self._samples += len(block)
                    if self._disk.error is not None:
                        raise self._disk.error
                except (OSError, soundfile.SoundFileError) as error:
                    self._break(error)
                    broken = True

    def _break(self, error: Exception) -> None:
        reason = (self._disk.error and self._disk.error.strerror) or error
        self.error = self.error or f"{self.audio_path}: {reason}; the recording ends early"


class _Disk:
    """A new file that keeps its error: libsndfile goes on without a word when a FLAC file is cut.

    It has what soundfile asks of a file that it writes.
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._file = path.open("w+b", buffering=0)
        self.read, self.seek, self.tell = self._file.read, self._file.seek, self._file.tell
        self.close = self._file.close

    def write(self, data: bytes) -> int:
        done = 0
        try:
            while done < len(data):
                done += self._file.write(data[done:])
        except OSError as error:
            self.error = self.error or error
        return done


def _reserve(directory: Path, began: datetime) -> tuple[Path, Path]:
    """Return the path of a recording that isn't there yet, and that of its part file, now made."""
    directory.mkdir(parents=True, exist_ok=True)
    name = began.strftime("%Y-%m-%d_%H-%M-%S")
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    while True:
        path = directory / f"{next(names)}.flac"
        part = part_path(path)
        if path.exists():
            continue
        try:
            part.touch(exist_ok=False)
        except FileExistsError:  # of another program that began in this second
            continue
        return path, part


def part_path(path: Path) -> Path:
    """Return the name that a file has until it is complete."""
    return path.with_name(f"{path.name}.part")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, default=asdict)  # piece by piece: an hour of words is 15 MB
