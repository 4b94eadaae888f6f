"""Features computed once and kept on disk: decoding audio costs as much as the model's own step.

Features of one kind (how they are computed, and the padding) are in a folder of their own, with two
files: `features.f16`, frames one after the other in float16, and `index.jsonl`, a line for each
utterance, written after its frames are. A killed run loses only the utterances in flight. Nothing
is ever overwritten: of two lines with the same id the last one counts, and one that speaks of no
frames says that there are none any more.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lhotse import MonoCut
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from asr.audio import StreamingResampler, read_blocks
from asr.bundle import StreamingConfig
from asr.errors import AsrError, CorpusError
from asr.features import FRAME_SHIFT, SAMPLE_RATE, FeatureConfig, compute_features
from training.corpus import Rejections
from training.locking import exclusive


@dataclass(frozen=True)
class Extent:
    """Where an utterance lies in `features.f16`, and what it was computed from."""

    audio_bytes: int  # size of the recording; of another size, it is another recording
    start: int  # frame
    frames: int

    def to_line(self, identifier: str) -> str:
        return json.dumps({"id": identifier, **dataclasses.asdict(self)}) + "\n"

    @staticmethod
    def from_line(line: str) -> tuple[str, "Extent"]:
        content = json.loads(line)
        return content.pop("id"), Extent(**content)


class FeatureCache:
    """Frames `(T, 80)` of each utterance, tail padding included, by utterance id.

    root: the folder that the folders of each kind of features are in. Several runs may share it.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / features_digest()
        self._bins = FeatureConfig().num_mel_bins
        self._extents: dict[str, Extent] = {}
        self._total_frames = 0  # that the index speaks of, outdated ones included
        self._read_index()
        self._frames: NDArray[np.float16] | None = None

    def __contains__(self, identifier: str) -> bool:
        return identifier in self._extents

    def __getitem__(self, identifier: str) -> NDArray[np.float32]:
        extent = self._extents[identifier]
        if self._frames is None:
            shape = (self._total_frames, self._bins)
            self._frames = np.memmap(self._data_path, np.float16, "r", shape=shape)
        return np.array(self._frames[extent.start : extent.start + extent.frames], np.float32)

    def num_frames(self, identifier: str) -> int:
        return self._extents[identifier].frames

    def duration(self, identifier: str) -> float:
        """Return the seconds of audio that the frames were computed from, without the padding."""
        frames = self.num_frames(identifier) - StreamingConfig().tail_padding_frames
        return frames * FRAME_SHIFT / SAMPLE_RATE

    @property
    def size(self) -> int:
        """Bytes of all frames."""
        return self._total_frames * self._bins * np.dtype(np.float16).itemsize

    def add(self, cuts: Iterable[MonoCut], rejections: Rejections, processes: int) -> None:
        """Compute what is missing or outdated. Undecodable audio goes to `rejections`."""
        audio = {cut.id: Path(cut.recording.sources[0].source) for cut in cuts}
        if not self._missing(audio):
            return
        with exclusive(self.folder / "lock"):
            self._read_index()  # another run may have added some meanwhile
            self._drop_unfinished()
            self._compute(self._missing(audio), rejections, processes)

    def statistics(self, identifiers: list[str]) -> tuple[NDArray, NDArray]:
        """Return mean and deviation `(80,)` of the frames of some utterances."""
        count, total, squares = 0, np.zeros(self._bins), np.zeros(self._bins)
        for identifier in identifiers:
            frames = self[identifier].astype(np.float64)
            count += len(frames)
            total += frames.sum(axis=0)
            squares += (frames**2).sum(axis=0)
        mean = total / count
        return mean, np.sqrt(np.maximum(squares / count - mean**2, 0))

    def _missing(self, audio: dict[str, Path]) -> dict[str, Path]:
        def is_known(identifier: str, path: Path) -> bool:
            extent = self._extents.get(identifier)
            return extent is not None and extent.audio_bytes == path.stat().st_size

        return {key: path for key, path in audio.items() if not is_known(key, path)}

    def _compute(self, missing: dict[str, Path], rejections: Rejections, processes: int) -> None:
        self._frames = None  # it maps the file as long as it was
        with (
            self._data_path.open("ab") as data,
            self._index_path.open("a", encoding="utf-8") as index,
            ProcessPoolExecutor(processes) as pool,
        ):
            results = pool.map(_features_or_fault, missing.values(), chunksize=16)
            progress = track(results, "features", len(missing), console=Console(stderr=True))
            for (identifier, path), result in zip(missing.items(), progress, strict=True):
                if isinstance(result, str):
                    rejections.add("audio that can't be decoded", f"{identifier} ({result})")
                    if identifier not in self._extents:
                        continue
                    result = np.empty((0, self._bins), np.float16)
                data.write(result.tobytes())
                data.flush()
                extent = Extent(path.stat().st_size, self._total_frames, len(result))
                index.write(extent.to_line(identifier))
                index.flush()
                self._take(identifier, extent)

    @property
    def _data_path(self) -> Path:
        return self.folder / "features.f16"

    @property
    def _index_path(self) -> Path:
        return self.folder / "index.jsonl"

    def _read_index(self) -> None:
        if self._index_path.exists():
            lines = self._index_path.read_text(encoding="utf-8").split("\n")
            for line in lines[:-1]:  # the last is empty, or still being written, or cut by a kill
                self._take(*Extent.from_line(line))
        self._check_size()

    def _take(self, identifier: str, extent: Extent) -> None:
        self._extents.pop(identifier, None)
        if extent.frames:
            self._extents[identifier] = extent
        self._total_frames = max(self._total_frames, extent.start + extent.frames)

    def _drop_unfinished(self) -> None:
        """Cut off what a killed run was writing."""
        if self._index_path.exists():
            with self._index_path.open("r+b") as index:
                index.truncate(index.read().rfind(b"\n") + 1)
        if self._data_path.exists():
            with self._data_path.open("r+b") as data:
                data.truncate(self.size)

    def _check_size(self) -> None:
        size = self._data_path.stat().st_size if self._data_path.exists() else 0
        if size < self.size:
            raise CorpusError(
                f"{self._data_path}: {size} bytes, but its index speaks of {self.size}; "
                f"remove {self.folder} to compute the features again"
            )


def features_digest() -> str:
    """Return a name for how features are computed: another one where anything of it differs."""
    settings = {
        "features": dataclasses.asdict(FeatureConfig()),
        "tail_padding_frames": StreamingConfig().tail_padding_frames,
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def utterance_features(audio: str | Path) -> NDArray[np.float32]:
    """Return the frames `(T, 80)` of a recording, padded at its end as a stream pads it."""
    resampler: StreamingResampler | None = None
    blocks = []
    for samples, rate in read_blocks(audio):
        resampler = resampler or StreamingResampler(rate)
        blocks.append(resampler.accept(samples))
    if resampler:
        blocks.append(resampler.finish())
    tail = np.zeros(StreamingConfig().tail_samples, np.float32)
    return compute_features(np.concatenate([*blocks, tail]))


def _features_or_fault(audio: Path) -> NDArray[np.float16] | str:
    try:
        return utterance_features(audio).astype(np.float16)
    except AsrError as error:
        return str(error)
