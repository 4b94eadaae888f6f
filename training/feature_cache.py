"""Features computed once and kept on disk: decoding audio costs as much as the model's own step.

Two files: `features.f16`, frames one after the other in float16, and `index.jsonl`, a line for
each utterance, written after its frames are. A killed run loses only the utterances in flight.
"""

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


@dataclass(frozen=True)
class Extent:
    """Where an utterance lies in `features.f16`."""

    start: int  # frame
    frames: int


class FeatureCache:
    """Frames `(T, 80)` of each utterance, tail padding included, by utterance id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bins = FeatureConfig().num_mel_bins
        self._extents = self._read_index()
        self._check_size()
        self._frames: NDArray[np.float16] | None = None

    def __contains__(self, identifier: str) -> bool:
        return identifier in self._extents

    def __getitem__(self, identifier: str) -> NDArray[np.float32]:
        extent = self._extents[identifier]
        if self._frames is None:
            shape = (self._total_frames(), self._bins)
            self._frames = np.memmap(self._data_path, np.float16, "r", shape=shape)
        return np.array(self._frames[extent.start : extent.start + extent.frames], np.float32)

    def num_frames(self, identifier: str) -> int:
        return self._extents[identifier].frames

    def duration(self, identifier: str) -> float:
        """Return the seconds of audio that the frames were computed from, without the padding."""
        frames = self.num_frames(identifier) - StreamingConfig().tail_padding_frames
        return frames * FRAME_SHIFT / SAMPLE_RATE

    def add(self, cuts: Iterable[MonoCut], rejections: Rejections, processes: int) -> None:
        """Compute what is missing. Audio that can't be decoded goes to `rejections`."""
        missing = list({cut.id: cut for cut in cuts if cut.id not in self._extents}.values())
        if not missing:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._frames = None
        start = self._total_frames()
        with (
            self._data_path.open("ab") as data,
            self._index_path.open("a", encoding="utf-8") as index,
            ProcessPoolExecutor(processes) as pool,
        ):
            data.truncate(start * self._bins * 2)  # frames whose index line was never written
            results = pool.map(_features_or_fault, _sources(missing), chunksize=16)
            progress = track(results, "features", len(missing), console=Console(stderr=True))
            for cut, result in zip(missing, progress, strict=True):
                if isinstance(result, str):
                    rejections.add("audio that can't be decoded", f"{cut.id} ({result})")
                    continue
                data.write(result.tobytes())
                data.flush()
                index.write(json.dumps([cut.id, start, len(result)]) + "\n")
                index.flush()
                self._extents[cut.id] = Extent(start, len(result))
                start += len(result)

    def statistics(self, identifiers: list[str]) -> tuple[NDArray, NDArray]:
        """Return mean and deviation `(80,)` of the frames of some utterances."""
        frames = np.concatenate([self[i] for i in identifiers])
        return frames.mean(axis=0, dtype=np.float64), frames.std(axis=0, dtype=np.float64)

    @property
    def _data_path(self) -> Path:
        return self._folder / "features.f16"

    @property
    def _index_path(self) -> Path:
        return self._folder / "index.jsonl"

    def _read_index(self) -> dict[str, Extent]:
        extents: dict[str, Extent] = {}
        if self._index_path.exists():
            text = self._index_path.read_text(encoding="utf-8")
            complete = text[: text.rfind("\n") + 1]
            if complete != text:  # a line that a kill cut short
                self._index_path.write_text(complete, encoding="utf-8")
            for line in complete.splitlines():
                identifier, start, frames = json.loads(line)
                extents[identifier] = Extent(start, frames)
        return extents

    def _total_frames(self) -> int:
        return max((e.start + e.frames for e in self._extents.values()), default=0)

    def _check_size(self) -> None:
        expected = self._total_frames() * self._bins * 2
        size = self._data_path.stat().st_size if self._data_path.exists() else 0
        if size < expected:
            raise CorpusError(
                f"{self._data_path}: {size} bytes, but its index speaks of {expected}; "
                f"remove {self._folder} to compute the features again"
            )


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


def _sources(cuts: list[MonoCut]) -> list[str]:
    return [cut.recording.sources[0].source for cut in cuts]


def _features_or_fault(audio: str) -> NDArray[np.float16] | str:
    try:
        return utterance_features(audio).astype(np.float16)
    except AsrError as error:
        return str(error)
