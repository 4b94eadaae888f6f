"""New sentences from recordings: cut between words, and joined in other orders.

A small corpus is learned by heart, and what is known by heart need not be heard. Pieces of one
speaker's recordings in an order that nobody has said must be (Lam et al., 2021,
https://arxiv.org/abs/2104.01393; Le et al., 2025, https://arxiv.org/abs/2502.14685). Here they are
phrases, and cut only where the voice pauses or closes: no sound is cut through, and most words keep
their neighbours.
"""

import hashlib
import os
import signal
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from asr.audio import read_blocks, resample_blocks
from asr.errors import AudioError, CorpusError
from asr.evaluation.corpora.timed import TimedUtterance, TimedWord, read_timed_manifest
from asr.features import SAMPLE_RATE, Samples
from training.corpus import Rejections
from training.corpus_folder import CorpusFolder, Row, encode

DIP_DB = 14.0
"""A recording may be cut in a moment that is so much quieter than its loud parts."""

MOST_WORDS = 5
"""A piece ends at the first such moment behind one to so many words, as it is drawn."""

_LOUD_PERCENTILE = 70  # of the loudness of the moments between the first word and the last
_HOP, _WINDOW = SAMPLE_RATE // 200, SAMPLE_RATE // 40  # samples: moments of 25 ms, each 5 ms
_EARLY_S = 0.06  # before the end of a word, as the alignment has it, it may be over
_SHORTEST, _LONGEST = 3 * SAMPLE_RATE // 10, 12 * SAMPLE_RATE  # samples; other pieces are left out
_SENTENCE_S = (3.0, 13.0)  # drawn: pieces are joined until they are as long as that
_FADE = SAMPLE_RATE // 200  # samples in which one piece becomes the next
_COMPANY_S = 600.0  # of one speaker, that are joined with each other: they are held at once
_BEHIND_S = 0.5  # by which a word may begin behind the end of its audio: alignment hears a tail
_POLL_S = 0.2

_LONG, _SHORT = "over 12 s without a moment in which to cut", "a piece below 0.3 s"
_LONELY = "one piece, and no other recording of its speaker"
_LATE = "words behind the end of the audio"
_UNREADABLE = "audio that can't be read"


@dataclass(frozen=True)
class SplicingSettings:
    """All that decides what a corpus holds."""

    manifests: tuple[Path, ...]  # with the times of words, as `asr-train align` writes them
    rounds: int = 1  # how often each recording is cut and joined, each time otherwise
    seed: int = 1
    alone: bool = False  # no recording is joined with another

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.seed < 0:
            raise CorpusError(
                f"got {self.rounds} rounds, seed {self.seed}; expected one or more, from 0 on"
            )


@dataclass(frozen=True)
class SplicingReport:
    """What `splice` made."""

    manifest: Path  # the manifest.jsonl; not there, or not renewed, if it was stopped
    utterances: int
    hours: float
    rejections: Rejections  # what could not be used
    stopped: bool = False  # before all was made


@dataclass(frozen=True)
class _Company:
    """Recordings of one speaker that are joined with each other, and what decides how."""

    recordings: list[TimedUtterance]
    seed: tuple[int, ...]


@dataclass(frozen=True)
class _Piece:
    """Words, and how they sound."""

    text: str
    samples: Samples  # (n,)
    recording: str  # its id


def splice(
    out_dir: Path,
    settings: SplicingSettings,
    jobs: int,
    stopped: Callable[[], bool] = lambda: False,
) -> SplicingReport:
    """Cut the recordings to train on, join their pieces, and write them into `out_dir` as FLAC.

    Joined is what one speaker says in one manifest; a recording without a speaker stays alone. In
    each round all that was said is said once, but for the report's rejections. A finished shard is
    not made again, so a run that was stopped or killed goes on, and more rounds extend a corpus.
    What is made doesn't depend on `jobs`, the processes.

    Raises ManifestError for a manifest that can't be read, and CorpusError if nothing can be
    joined, if `out_dir` holds another corpus, if a process is killed, or if the disk is full.
    """
    if jobs < 1:
        raise CorpusError(f"got {jobs} jobs; expected one or more")
    rejections = Rejections()
    speakers = _speakers(settings, rejections)
    folder = CorpusFolder(out_dir, "splicing")
    with folder.exclusively():
        ids = folder.claim(_claim(settings, speakers), "splice")
        shards = {
            f"{round_:02d}-{number:05d}": companies
            for round_ in range(settings.rounds)
            for number, companies in enumerate(_in_shards(_companies(speakers, settings, round_)))
        }
        finished = {shard: rows for shard in shards if (rows := folder.finished(shard)) is not None}
        missing = {shard: shards[shard] for shard in shards if shard not in finished}
        finished |= _make_shards(folder, ids, missing, jobs, stopped)
        rows = [row for shard in shards for row in finished.get(shard, [])]
        made = [row for row in rows if "skipped" not in row]
        for row in rows:
            if "skipped" in row:
                rejections.add(row["skipped"], row["id"])
        complete = len(finished) == len(shards)
        if complete and not made:
            raise CorpusError(f"nothing could be joined: {'; '.join(rejections.lines())}")
        if complete:
            folder.write_manifest(made)
    hours = sum(row["duration"] for row in made) / 3600
    return SplicingReport(folder.manifest, len(made), hours, rejections, stopped=not complete)


def cut_points(samples: Samples, words: Sequence[TimedWord]) -> list[int | None]:
    """Return where `samples (n,)` may be cut behind each word but the last.

    It is the quietest sample between what the alignment has for two words; None if the voice goes
    on there.
    """
    loudness = _loudness_db(samples)
    first, last = (
        int(time_s * SAMPLE_RATE / _HOP) for time_s in (words[0].start_s, words[-1].end_s)
    )
    said = loudness[max(0, first) : last + 1]
    quiet = np.percentile(said if len(said) else loudness, _LOUD_PERCENTILE) - DIP_DB
    points: list[int | None] = []
    for before, after in pairwise(words):
        first = max(0, int((before.end_s - _EARLY_S) * SAMPLE_RATE / _HOP))
        between = loudness[first : int(after.start_s * SAMPLE_RATE / _HOP) + 1]
        quietest = int(between.argmin()) if len(between) else 0
        is_dip = len(between) > 0 and between[quietest] < quiet
        points.append((first + quietest) * _HOP if is_dip else None)
    return points


def _speakers(settings: SplicingSettings, rejections: Rejections) -> list[list[TimedUtterance]]:
    """Return the recordings to train on of each speaker, in the order of their ids."""
    speakers: dict[tuple[Path, str, str], list[TimedUtterance]] = defaultdict(list)
    known: set[str] = set()
    for manifest in settings.manifests:
        timed_manifest = read_timed_manifest(manifest)
        for skipped in timed_manifest.skipped:
            rejections.add(skipped.reason, skipped.id)
        for timed in timed_manifest.utterances:
            row = timed.utterance
            if row.split not in (None, "train"):
                continue
            if row.id in known:
                rejections.add("an earlier manifest has its id", row.id)
                continue
            known.add(row.id)
            who = ("", row.id) if settings.alone or not row.speaker else ("speaker", row.speaker)
            speakers[manifest, *who].append(timed)
    if not speakers:
        reasons = "; ".join(rejections.lines()) or "none is to train on"
        raise CorpusError(
            f"{', '.join(map(str, settings.manifests))}: no recording to train on that says when "
            f"its words were said ({reasons}); `asr-train align` writes such a manifest"
        )
    said = [sorted(rows, key=lambda timed: timed.utterance.id) for rows in speakers.values()]
    return sorted(said, key=lambda rows: rows[0].utterance.id)


def _claim(settings: SplicingSettings, speakers: Sequence[Sequence[TimedUtterance]]) -> Row:
    """What the corpus remembers, to be continued with the same settings and recordings only."""
    digest = hashlib.sha256()
    for rows in speakers:
        for timed in rows:
            size = timed.utterance.audio.stat().st_size
            digest.update(repr((timed.utterance.id, size, timed.words)).encode())
        digest.update(b";")
    count = sum(map(len, speakers))
    recordings = f"{count} of {len(speakers)} speakers, {digest.hexdigest()[:12]}"
    return {"seed": settings.seed, "alone": settings.alone, "recordings": recordings}


def _companies(
    speakers: Iterable[Sequence[TimedUtterance]], settings: SplicingSettings, round_: int
) -> Iterator[_Company]:
    """Yield who is joined with whom in a round: of a speaker who has said much, another part."""
    for said in speakers:
        seed = settings.seed, round_, zlib.crc32(said[0].utterance.id.encode())
        together: list[TimedUtterance] = []
        together_s, number = 0.0, 0
        for index in np.random.default_rng(seed).permutation(len(said)):
            together.append(said[index])
            together_s += said[index].utterance.duration or 0.0
            if together_s >= _COMPANY_S:
                yield _Company(together, (*seed, number))
                together, together_s, number = [], 0.0, number + 1
        if together:
            yield _Company(together, (*seed, number))


def _in_shards(companies: Iterable[_Company]) -> Iterator[list[_Company]]:
    shard: list[_Company] = []
    shard_s = 0.0
    for company in companies:
        shard.append(company)
        shard_s += sum(timed.utterance.duration or 0.0 for timed in company.recordings)
        if shard_s >= _COMPANY_S:
            yield shard
            shard, shard_s = [], 0.0
    if shard:
        yield shard


def _make_shards(
    folder: CorpusFolder,
    ids: str,
    shards: dict[str, list[_Company]],
    jobs: int,
    stopped: Callable[[], bool],
) -> dict[str, list[Row]]:
    """Return the rows of the shards that were begun before it was stopped."""
    made: dict[str, list[Row]] = {}
    waiting = list(reversed(shards.items()))
    running: dict[Future[list[Row]], str] = {}
    console = Console(stderr=True)
    with (
        Progress(console=console, transient=True) as progress,
        ProcessPoolExecutor(jobs, initializer=_follow, initargs=(os.getpid(),)) as pool,
    ):
        task = progress.add_task("splicing", total=len(shards))
        while running or (waiting and not stopped()):
            while waiting and len(running) < jobs and not stopped():
                shard, companies = waiting.pop()
                running[pool.submit(_make_shard, folder, ids, shard, companies)] = shard
            for future in wait(running, _POLL_S, FIRST_COMPLETED).done:
                try:
                    made[running.pop(future)] = future.result()
                except BrokenProcessPool as error:
                    raise CorpusError(
                        f"a process was killed (often by the system, short of memory) with "
                        f"{len(made)} shards made; the same command goes on, and --jobs 1 needs "
                        "the least"
                    ) from error
                progress.update(task, completed=len(made))
    return made


def _follow(parent: int) -> None:
    """Leave it to the parent when to stop, and end with it, however it ends."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all processes
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _make_shard(
    folder: CorpusFolder, ids: str, shard: str, companies: Sequence[_Company]
) -> list[Row]:
    rows: list[Row] = []
    for company in companies:
        generator = np.random.default_rng(company.seed)
        pieces: list[_Piece] = []
        for timed in company.recordings:
            try:
                pieces += _pieces(timed, generator, rows)
            except AudioError as error:
                rows.append(_skipped(f"{timed.utterance.id} ({error})", _UNREADABLE))
        if len(pieces) == 1:
            rows.append(_skipped(pieces[0].recording, _LONELY))
        speaker = company.recordings[0].utterance.speaker
        for sentence in _sentences(pieces, generator):
            identifier = f"{ids}-{shard}-{len(rows):05d}"
            samples = _joined([piece.samples for piece in sentence])
            audio = f"audio/{shard}/{identifier}.flac"
            row: Row = {
                "id": identifier,
                "split": "train",
                "audio": audio,
                "duration": round(len(samples) / SAMPLE_RATE, 4),
                "text": " ".join(piece.text for piece in sentence),
            }
            folder.write_audio(audio, encode(samples, "flac"))
            rows.append(row | ({"speaker": speaker} if speaker else {}))
    folder.finish(shard, rows)
    return rows


def _skipped(identifier: str, reason: str) -> Row:
    return {"id": identifier, "skipped": reason}


def _pieces(
    timed: TimedUtterance, generator: np.random.Generator, rows: list[Row]
) -> Iterator[_Piece]:
    """Cut a recording into pieces, which have all of it between them but for what is told in
    `rows`. Raises AudioError."""
    identifier, words = timed.utterance.id, timed.words
    samples = np.concatenate(list(resample_blocks(read_blocks(timed.utterance.audio))))
    if words[-1].start_s > len(samples) / SAMPLE_RATE + _BEHIND_S:
        rows.append(_skipped(identifier, _LATE))
        return
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
            yield _Piece(text, samples[start:end], identifier)
        else:
            rows.append(_skipped(identifier, _LONG if end - start > _LONGEST else _SHORT))
        start, first_word = end, count
        wanted = int(generator.integers(1, MOST_WORDS + 1))


def _sentences(pieces: Sequence[_Piece], generator: np.random.Generator) -> Iterator[list[_Piece]]:
    """Yield the pieces in another order, some at a time; none if there is but one."""
    if len(pieces) < 2:
        return
    order = generator.permutation(len(pieces))
    while (np.diff(order) == 1).all():  # as it was said
        order = generator.permutation(len(pieces))
    sentence: list[_Piece] = []
    length, wanted = 0, generator.uniform(*_SENTENCE_S) * SAMPLE_RATE
    for index in order:
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
