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
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lhotse import MonoCut
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from asr.audio import read_blocks, resample_blocks
from asr.bundle import StreamingConfig
from asr.errors import AsrError, CorpusError
from asr.features import FRAME_SHIFT, SAMPLE_RATE, FeatureConfig, compute_features
from asr.whole_files import errors_naming
from training.corpus import Rejections
from training.locking import exclusive
from training.shards import DAMAGED, DamagedShard, audio_bytes, read_recordings

UNDECODABLE = "audio that can't be decoded"


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


@dataclass(frozen=True)
class Computed:
    """Features of an utterance, or why there are none."""

    id: str
    audio_bytes: int
    frames: NDArray[np.float16] | str
    reason: str = UNDECODABLE  # what such a fault is counted as
    lasting: bool = False  # whether a fault is remembered, so that it isn't met at each start


class FeatureCache:
    """Frames `(T, 80)` of each utterance, tail padding included, by utterance id.

    root: the folder that the folders of each kind of features are in. Several runs may share it.
    """

    def __init__(self, root: Path, complete: bool = False) -> None:
        """complete: another process has added all that can be, so that nothing is computed here."""
        self.complete = complete
        self.folder = root / features_digest()
        self._bins = FeatureConfig().num_mel_bins
        self._extents: dict[str, Extent] = {}
        self._useless: dict[str, int] = {}  # bytes of recordings that gave no features, by id
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
        files: dict[str, Path] = {}
        shards: dict[str, dict[str, int | None]] = {}
        for cut in cuts:
            audio = cut.recording.sources[0]
            if audio.type == "shar":
                shards.setdefault(audio.source, {})[cut.id] = audio_bytes(cut)
            else:
                files[cut.id] = Path(audio.source)
        self.add_files(files, rejections, processes)
        self._add_shards(shards, rejections, processes)

    def add_files(self, audio: dict[str, Path], rejections: Rejections, processes: int) -> None:
        """Do so for recordings by the ids that their features shall have."""
        if self.complete or not self._missing(audio):
            return
        with self._exclusively():
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
        return {
            key: path for key, path in audio.items() if not self._is_known(key, path.stat().st_size)
        }

    def _is_known(self, identifier: str, size: int | None) -> bool:
        extent = self._extents.get(identifier)
        return extent is not None and size in (extent.audio_bytes, None)

    def _is_useless(self, identifier: str, size: int | None) -> bool:
        if size is None or identifier in self._extents:
            return False
        return self._useless.get(identifier) == size

    def _compute(self, missing: dict[str, Path], rejections: Rejections, processes: int) -> None:
        with ProcessPoolExecutor(processes) as pool:
            results = pool.map(_features_or_fault, missing.values(), chunksize=16)
            sized = (
                Computed(identifier, path.stat().st_size, result)
                for (identifier, path), result in zip(missing.items(), results, strict=True)
            )
            self._append(sized, len(missing), rejections)

    def _add_shards(
        self, shards: dict[str, dict[str, int | None]], rejections: Rejections, processes: int
    ) -> None:
        """Do so for recordings in shards: by the tar file, the sizes of what is in it by id."""

        def missing() -> dict[str, list[str]]:
            wanted = {
                tar: [
                    key
                    for key, size in sizes.items()
                    if not self._is_known(key, size) and not self._is_useless(key, size)
                ]
                for tar, sizes in shards.items()
            }
            return {tar: identifiers for tar, identifiers in wanted.items() if identifiers}

        for tar, sizes in shards.items():
            for identifier, size in sizes.items():
                if self._is_useless(identifier, size):
                    rejections.add(UNDECODABLE, f"{identifier} ({tar}: as it was before)")
        if self.complete or not missing():
            return
        with self._exclusively():
            todo = missing()
            pool = ProcessPoolExecutor(processes)
            try:
                jobs = [pool.submit(_shard_features, tar, keys) for tar, keys in todo.items()]
                results = (computed for job in as_completed(jobs) for computed in job.result())
                self._append(results, sum(map(len, todo.values())), rejections)
            finally:
                pool.shutdown(cancel_futures=True)  # one that can't be read stops them all

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        with exclusive(self.folder / "lock"):
            self._read_index()  # another run may have added some meanwhile
            self._drop_unfinished()
            yield

    def _append(self, results: Iterable["Computed"], total: int, rejections: Rejections) -> None:
        self._frames = None  # it maps the file as long as it was
        with (
            self._data_path.open("ab") as data,
            self._index_path.open("a", encoding="utf-8") as index,
        ):
            for computed in track(results, "features", total, console=Console(stderr=True)):
                identifier, frames = computed.id, computed.frames
                if isinstance(frames, str):
                    rejections.add(computed.reason, f"{identifier} ({frames})")
                    if identifier not in self._extents and not computed.lasting:
                        continue
                    frames = np.empty((0, self._bins), np.float16)
                extent = Extent(computed.audio_bytes, self._total_frames, len(frames))
                with errors_naming(self._data_path):
                    data.write(frames.tobytes())
                    data.flush()
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
        else:
            self._useless[identifier] = extent.audio_bytes
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
    tail = np.zeros(StreamingConfig().tail_samples, np.float32)
    return compute_features(np.concatenate([*resample_blocks(read_blocks(audio)), tail]))


def _features_or_fault(audio: Path) -> NDArray[np.float16] | str:
    try:
        return utterance_features(audio).astype(np.float16)
    except AsrError as error:
        return str(error)


def _shard_features(tar: str, identifiers: list[str]) -> list[Computed]:
    """Compute features of these recordings of a shard: all at once, for it is read from the front.

    Raises CorpusError if it can't be opened. What a damaged one lacks is among the results.
    """
    missing = dict.fromkeys(identifiers)  # in order
    results = []
    reason = "not in its shard"
    try:
        with tempfile.TemporaryDirectory(prefix="earshot-shard-") as folder:
            for identifier, name, content in read_recordings(tar):
                if identifier not in missing:
                    continue
                del missing[identifier]
                # Under a name of our own, but with its suffix: a decoder may go by it.
                path = Path(folder, "recording").with_suffix(Path(name).suffix)
                path.write_bytes(content)
                frames = _features_or_fault(path)
                if isinstance(frames, str):
                    frames = frames.replace(str(path), f"{tar}, {name}")
                results.append(Computed(identifier, len(content), frames, lasting=True))
    except DamagedShard as error:
        reason = str(error)
    fault = f"{tar}: {reason}"
    return [*results, *(Computed(key, 0, fault, DAMAGED) for key in missing)]
