"""New sentences from recordings: cut between words, and joined in other orders.

A small corpus is learned by heart, and what is known by heart need not be heard. Pieces of one
speaker's recordings in an order that nobody has said must be (Lam et al., 2021,
https://arxiv.org/abs/2104.01393; Le et al., 2025, https://arxiv.org/abs/2502.14685). Here they are
phrases, and cut only where the voice pauses or closes: no sound is cut through, and most words keep
their neighbours.
"""

import hashlib
import signal
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from asr.audio import read_blocks, resample_blocks
from asr.errors import AudioError, CorpusError
from asr.evaluation.corpora.timed import TimedUtterance, TimedWord, read_timed_manifest
from asr.features import SAMPLE_RATE, Samples
from training.corpus_folder import CorpusFolder, Row, encode

DIP_DB = 14.0
"""A recording may be cut in a moment that is so much quieter than its loud parts."""

MOST_WORDS = 5
"""A piece ends at the first such moment behind one to so many words, as it is drawn."""

_LOUD_PERCENTILE = 70  # of the loudness of all moments of a recording
_HOP, _WINDOW = SAMPLE_RATE // 200, SAMPLE_RATE // 40  # samples: moments of 25 ms, each 5 ms
_EARLY_S = 0.06  # before the end of a word, as the alignment has it, it may be over
_SHORTEST, _LONGEST = 3 * SAMPLE_RATE // 10, 12 * SAMPLE_RATE  # samples; other pieces are left out
_SENTENCE_S = (3.0, 13.0)  # drawn: pieces are joined until they are as long as that
_FADE = SAMPLE_RATE // 200  # samples in which one piece becomes the next
_COMPANY = 200  # recordings of one speaker that are joined with each other: they are held at once


@dataclass(frozen=True)
class SplicingSettings:
    """All that decides what a corpus holds."""

    manifests: tuple[Path, ...]  # with the times of words, as `asr-train align` writes them
    rounds: int = 1  # how often each recording is cut and joined, each time otherwise
    seed: int = 1
    alone: bool = False  # no recording is joined with another

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise CorpusError(f"got {self.rounds} rounds; expected one or more")

    def claim(self) -> Row:
        """What the corpus remembers, to be continued with the same settings only."""
        contents = b"".join(path.read_bytes() for path in self.manifests)
        return {
            "seed": self.seed,
            "manifests_sha256": hashlib.sha256(contents).hexdigest(),
            "alone": self.alone,
        }


@dataclass(frozen=True)
class SplicingReport:
    """What `splice` made."""

    manifest: Path  # the manifest.jsonl; not there, or not renewed, if it was stopped
    utterances: int
    hours: float
    skipped: tuple[str, ...]  # "id: reason" for each recording that could not be read
    stopped: bool = False  # before all was made


@dataclass(frozen=True)
class _Company:
    """Recordings of one speaker that are joined with each other, and what decides how."""

    speaker: str
    recordings: list[TimedUtterance]
    seed: tuple[int, ...]


@dataclass(frozen=True)
class _Piece:
    """Words, and how they sound."""

    text: str
    samples: Samples  # (n,)


def splice(
    out_dir: Path,
    settings: SplicingSettings,
    jobs: int,
    stopped: Callable[[], bool] = lambda: False,
) -> SplicingReport:
    """Cut the recordings to train on, join their pieces, and write them into `out_dir` as FLAC.

    A row's speaker is who is heard; a recording without one stays alone. In each round all that was
    said is said once, but for what gives a single piece and has no company. A finished shard is not
    made again, so a run that was stopped or killed goes on, and more rounds extend a corpus. What
    is made doesn't depend on `jobs`, the processes.

    Raises ManifestError for a manifest that can't be read, and CorpusError if no recording has
    words with times, if `out_dir` holds a corpus drawn otherwise, or if the disk is full.
    """
    if jobs < 1:
        raise CorpusError(f"got {jobs} jobs; expected one or more")
    recordings = _to_train_on(settings.manifests)
    folder = CorpusFolder(out_dir, "splicing")
    with folder.exclusively():
        ids = folder.claim(settings.claim(), "splice")
        shards = {
            f"{round_:02d}-{number:05d}": companies
            for round_ in range(settings.rounds)
            for number, companies in enumerate(_in_shards(_companies(recordings, settings, round_)))
        }
        finished = {shard: rows for shard in shards if (rows := folder.finished(shard)) is not None}
        missing = {shard: shards[shard] for shard in shards if shard not in finished}
        finished |= _make_shards(folder, ids, missing, jobs, stopped)
        rows = [row for shard in shards for row in finished.get(shard, [])]
        made = [row for row in rows if "skipped" not in row]
        complete = len(finished) == len(shards)
        if complete:
            folder.write_manifest(made)
    return SplicingReport(
        folder.manifest,
        len(made),
        sum(row["duration"] for row in made) / 3600,
        tuple(sorted({f"{row['id']}: {row['skipped']}" for row in rows if "skipped" in row})),
        stopped=not complete,
    )


def cut_points(samples: Samples, words: Sequence[TimedWord]) -> list[int | None]:
    """Return where `samples (n,)` may be cut behind each word but the last.

    It is the quietest sample between what the alignment has for two words; None if the voice goes
    on there.
    """
    loudness = _loudness_db(samples)
    quiet = np.percentile(loudness, _LOUD_PERCENTILE) - DIP_DB
    points: list[int | None] = []
    for before, after in pairwise(words):
        first = max(0, int((before.end_s - _EARLY_S) * SAMPLE_RATE / _HOP))
        between = loudness[first : int(after.start_s * SAMPLE_RATE / _HOP) + 1]
        quietest = int(between.argmin()) if len(between) else 0
        is_dip = len(between) > 0 and between[quietest] < quiet
        points.append((first + quietest) * _HOP if is_dip else None)
    return points


def _to_train_on(manifests: Sequence[Path]) -> list[TimedUtterance]:
    recordings = {
        timed.utterance.id: timed
        for manifest in manifests
        for timed in read_timed_manifest(manifest)
        if timed.utterance.split in (None, "train")
    }
    if not recordings:
        raise CorpusError(
            f"{', '.join(map(str, manifests))}: no recording to train on that says when its words "
            "were said; `asr-train align` writes such a manifest"
        )
    return [recordings[identifier] for identifier in sorted(recordings)]


def _companies(
    recordings: Sequence[TimedUtterance], settings: SplicingSettings, round_: int
) -> Iterator[_Company]:
    """Yield who is joined with whom in a round: of a speaker who has said much, another part."""
    by_speaker: dict[str, list[TimedUtterance]] = defaultdict(list)
    for timed in recordings:
        speaker = None if settings.alone else timed.utterance.speaker
        by_speaker[speaker or timed.utterance.id].append(timed)
    for speaker, said in by_speaker.items():
        seed = settings.seed, round_, zlib.crc32(speaker.encode())
        order = np.random.default_rng(seed).permutation(len(said))
        for start in range(0, len(said), _COMPANY):
            part = [said[index] for index in order[start : start + _COMPANY]]
            yield _Company(speaker, part, (*seed, start))


def _in_shards(companies: Iterable[_Company]) -> Iterator[list[_Company]]:
    shard: list[_Company] = []
    for company in companies:
        shard.append(company)
        if sum(len(one.recordings) for one in shard) >= _COMPANY:
            yield shard
            shard = []
    if shard:
        yield shard


def _make_shards(
    folder: CorpusFolder,
    ids: str,
    shards: dict[str, list[_Company]],
    jobs: int,
    stopped: Callable[[], bool],
) -> dict[str, list[Row]]:
    """Return the rows of the shards that were finished before it was stopped."""
    made: dict[str, list[Row]] = {}
    if not shards or stopped():
        return made
    pool = ProcessPoolExecutor(jobs, initializer=_leave_stopping_to_the_parent)
    try:
        futures = {
            pool.submit(_make_shard, folder, ids, shard, companies): shard
            for shard, companies in shards.items()
        }
        progress = track(
            as_completed(futures), "splicing", total=len(futures), console=Console(stderr=True)
        )
        for future in progress:
            made[futures[future]] = future.result()
            if stopped():
                break
    finally:
        pool.shutdown(cancel_futures=True)
    return made


def _leave_stopping_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes


def _make_shard(
    folder: CorpusFolder, ids: str, shard: str, companies: Sequence[_Company]
) -> list[Row]:
    rows: list[Row] = []
    for company in companies:
        generator = np.random.default_rng(company.seed)
        pieces: list[_Piece] = []
        for timed in company.recordings:
            try:
                pieces += _pieces(timed, generator)
            except AudioError as error:
                rows.append({"id": timed.utterance.id, "skipped": str(error)})
        for sentence in _sentences(pieces, generator):
            identifier = f"{ids}-{shard}-{len(rows):05d}"
            samples = _joined([piece.samples for piece in sentence])
            audio = f"audio/{shard}/{identifier}.flac"
            row: Row = {
                "id": identifier,
                "split": "train",
                "speaker": company.speaker,
                "audio": audio,
                "duration": round(len(samples) / SAMPLE_RATE, 4),
                "text": " ".join(piece.text for piece in sentence),
            }
            folder.write_audio(audio, encode(samples, "flac"))
            rows.append(row)
    folder.finish(shard, rows)
    return rows


def _pieces(timed: TimedUtterance, generator: np.random.Generator) -> Iterator[_Piece]:
    """Cut a recording into pieces, which have all of it between them. Raises AudioError."""
    words = timed.words
    samples = np.concatenate(list(resample_blocks(read_blocks(timed.utterance.audio))))
    start = first_word = 0
    wanted = int(generator.integers(1, MOST_WORDS + 1))
    for count, end in enumerate([*cut_points(samples, words), len(samples)], start=1):
        if end is None:
            continue
        rest = len(samples) - end
        if rest and (count - first_word < wanted or min(end - start, rest) < _SHORTEST):
            continue
        if _SHORTEST <= end - start <= _LONGEST:
            text = " ".join(word.text for word in words[first_word:count])
            yield _Piece(text, samples[start:end])
        start, first_word = end, count
        wanted = int(generator.integers(1, MOST_WORDS + 1))


def _sentences(pieces: Sequence[_Piece], generator: np.random.Generator) -> Iterator[list[_Piece]]:
    """Yield the pieces in another order, some at a time; none if there is but one."""
    if len(pieces) < 2:
        return
    sentence: list[_Piece] = []
    length, wanted = 0, generator.uniform(*_SENTENCE_S) * SAMPLE_RATE
    for index in generator.permutation(len(pieces)):
        sentence.append(pieces[index])
        length += len(pieces[index].samples)
        if length >= wanted:
            yield sentence
            sentence = []
            length, wanted = 0, generator.uniform(*_SENTENCE_S) * SAMPLE_RATE
    if sentence:
        yield sentence


def _joined(pieces: Sequence[Samples]) -> Samples:
    """Return the pieces one behind the other; their ends, which are quiet, overlap a little."""
    rise = np.linspace(0.0, 1.0, _FADE, dtype=np.float32)
    joined = np.zeros(sum(map(len, pieces)) - _FADE * (len(pieces) - 1), np.float32)
    start = 0
    for number, piece in enumerate(pieces):
        faded = piece.copy()
        if number > 0:
            faded[:_FADE] *= rise
        if number < len(pieces) - 1:
            faded[-_FADE:] *= rise[::-1]
        joined[start : start + len(piece)] += faded
        start += len(piece) - _FADE
    return joined


def _loudness_db(samples: Samples) -> NDArray[np.float64]:
    """Return the loudness around each `_HOP` samples."""
    power = np.pad(samples.astype(np.float64) ** 2, _WINDOW // 2)
    summed = np.concatenate([[0.0], np.cumsum(power)])
    window = (summed[_WINDOW::_HOP] - summed[:-_WINDOW:_HOP]) / _WINDOW
    loudness: NDArray[np.float64] = 10 * np.log10(window + 1e-10)
    return loudness
