"""Recognisers side by side in one run.

Each has a process, and they take turns at each recording, in an order that moves on from recording
to recording: whatever the machine does meanwhile, it does to all of them. Only one computes at a
time. Times are compared recording by recording, and words on the same recordings only: what one of
them can't read is left out for all.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from asr.errors import AsrError
from asr.evaluation.accuracy.wer import WordErrors, bootstrap_interval
from asr.evaluation.corpora.manifest import Skipped, Utterance
from asr.evaluation.envelope import EvaluationEnvelope
from asr.evaluation.isolated import (
    Isolated,
    LoadFacts,
    ProcessEnded,
    Recognition,
    RecognizerProcess,
)
from asr.text import normalize

REPORT_SCHEMA_VERSION = 1
KIND = "peers"

BLOCK_MS = 320
"""How audio is given: the chunk that models have by default, so each block makes one fall due."""

LOADS = 3
"""How often each is loaded, in a fresh process each time."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A recogniser: what it is called, and how it is loaded."""

    name: str
    module: str
    options: Mapping[str, Any]
    unavailable: str | None = None  # why it can't take part, if that is known


def start(peer: Peer) -> RecognizerProcess:
    """Start the process of a peer."""
    return Isolated(peer.module, peer.options)


@dataclass(frozen=True, slots=True)
class PeerScore:
    """A recording, as one of them heard it."""

    id: str
    reference: str  # normalised
    hypothesis: str  # normalised
    errors: WordErrors
    recognition: Recognition


@dataclass(frozen=True, slots=True)
class PeerReport:
    """What one of them came to."""

    peer: Peer
    facts: LoadFacts | None  # of its first loading
    loads_s: tuple[float, ...]
    scores: tuple[PeerScore, ...]
    reason: str | None  # why there are no figures of it

    @property
    def errors(self) -> WordErrors:
        """Word counts of all recordings."""
        return WordErrors.total(score.errors for score in self.scores)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; see `Comparison.to_dict`."""
        peer = self.peer
        head = {"name": peer.name, "module": peer.module, "options": dict(peer.options)}
        if self.reason is not None or self.facts is None:
            return head | {"reason": self.reason}
        recognitions = [score.recognition for score in self.scores]
        audio_s = sum(item.audio_s for item in recognitions)
        counts = [score.errors for score in self.scores]
        errors = self.errors
        blocks_ms = 1000 * np.concatenate([item.block_s for item in recognitions])
        p50, p95, p99 = np.quantile(blocks_ms, [0.5, 0.95, 0.99])
        rtfs = [item.compute_s / item.audio_s for item in recognitions]
        return head | {
            "reason": None,
            "runs_on": self.facts.runs_on,
            "model": self.facts.model,
            "wer": errors.rate,
            "ci95": list(bootstrap_interval(counts)),
            "ins": errors.insertions,
            "del": errors.deletions,
            "sub": errors.substitutions,
            "rtf": sum(item.compute_s for item in recognitions) / audio_s,
            "rtf_spread": [float(value) for value in np.quantile(rtfs, [0.25, 0.75])],
            "blocks_cpu_rtf": sum(item.blocks_cpu_s for item in recognitions) / audio_s,
            "block_ms_mean": float(blocks_ms.mean()),
            "block_ms_p50": float(p50),
            "block_ms_p95": float(p95),
            "block_ms_p99": float(p99),
            "finish_ms_p50": 1000 * median(item.finish_s for item in recognitions),
            "load_s": median(self.loads_s),
            "load_s_spread": [min(self.loads_s), max(self.loads_s)],
            "base_rss_mb": self.facts.base_rss_mb,
            "load_rss_mb": self.facts.load_rss_mb,
            "peak_rss_mb": max(item.peak_rss_mb for item in recognitions),
            "model_mb": self.facts.model_mb,
            "rows": [
                {
                    "id": score.id,
                    "reference": score.reference,
                    "hypothesis": score.hypothesis,
                    "ins": score.errors.insertions,
                    "del": score.errors.deletions,
                    "sub": score.errors.substitutions,
                    "audio_s": score.recognition.audio_s,
                    "blocks_s": sum(score.recognition.block_s),
                    "finish_s": score.recognition.finish_s,
                    "blocks_cpu_s": score.recognition.blocks_cpu_s,
                }
                for score in self.scores
            ],
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out; the first report is of what the others are compared with."""

    reports: tuple[PeerReport, ...]
    skipped: tuple[Skipped, ...]
    complete: bool  # every recording had its turn

    def time_ratios(self) -> dict[str, "TimeRatios"]:
        """The first one's time for the blocks of a recording over that of each other. The ends are
        left out: not all compute the same there."""
        first, *others = [report for report in self.reports if report.reason is None]
        return {other.peer.name: TimeRatios.of(first, other) for other in others}

    def to_dict(self, envelope: EvaluationEnvelope) -> dict[str, Any]:
        """The report as plain data; rates are fractions, MB are 10^6 bytes.

        `peers` has one entry each, with a `reason` where it could not take part. `rtf` is the wall
        time of all computing over the length of the audio, `rtf_spread` its quartiles over the
        recordings, `blocks_cpu_rtf` the CPU time of all threads without that of the ends.
        `block_ms_*` are of a block of `block_ms`: what
        a chunk takes from its samples to its text. `load_s` is the median of `loads` fresh
        processes with what it imports, `load_s_spread` their least and most. Resident memory is of
        the process: `base_rss_mb` before the peer was imported. `time_ratios` are those of
        `Comparison.time_ratios`, by wall and by CPU time, which what else runs disturbs less:
        `median` over the recordings, and its 95 % bootstrap interval.
        """
        scores = self.reports[0].scores
        return {
            "schema_version": REPORT_SCHEMA_VERSION,
            "kind": KIND,
            **asdict(envelope),
            "complete": self.complete,
            "block_ms": BLOCK_MS,
            "loads": LOADS,
            "threads": 1,
            "utterances": len(scores),
            "words": self.reports[0].errors.words,
            "audio_s": sum(score.recognition.audio_s for score in scores),
            "peers": [report.to_dict() for report in self.reports],
            "time_ratios": {
                name: {"wall": asdict(ratios.wall), "cpu": asdict(ratios.cpu)}
                for name, ratios in self.time_ratios().items()
            },
            "skipped": [{"id": item.id, "reason": item.reason} for item in self.skipped],
        }


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio that was measured on several recordings."""

    median: float
    ci95: tuple[float, float]  # bootstrap interval of the median

    @classmethod
    def of(cls, ratios: Sequence[float], draws: int = 1000) -> "Ratio":
        """That of these recordings."""
        values = np.array(ratios)
        drawn = np.random.default_rng(0).choice(values, size=(draws, len(values)))
        low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
        return cls(float(np.median(values)), (float(low), float(high)))


@dataclass(frozen=True, slots=True)
class TimeRatios:
    """The time of one for the blocks of the recordings over that of another."""

    wall: Ratio
    cpu: Ratio

    @classmethod
    def of(cls, one: PeerReport, other: PeerReport) -> "TimeRatios":
        """Compare two that have heard the same recordings."""
        pairs = [
            (ours.recognition, theirs.recognition)
            for ours, theirs in zip(one.scores, other.scores, strict=True)
        ]
        return cls(
            wall=Ratio.of([sum(ours.block_s) / sum(theirs.block_s) for ours, theirs in pairs]),
            cpu=Ratio.of([ours.blocks_cpu_s / theirs.blocks_cpu_s for ours, theirs in pairs]),
        )


def compare(
    peers: Sequence[Peer],
    utterances: Sequence[Utterance],
    *,
    skipped: Sequence[Skipped] = (),
    watch: Callable[[str], None] = lambda doing: None,
    stopped: Callable[[], bool] = lambda: False,
    start: Callable[[Peer], RecognizerProcess] = start,
) -> Comparison:
    """Measure. `watch` is told what begins, once for each loading and each recording; `stopped`
    ends it early, behind a recording.

    Raises AsrError if the first of the peers can't take part, or nothing could be recognised.
    """
    contest = _Contest(skipped)
    with ExitStack() as processes:
        for peer in peers:
            watch(f"loading {peer.name}")
            contest.admit(peer, start, processes)
            contest.check(peers[0])
        complete = True
        for number, utterance in enumerate(utterances):
            if stopped():
                complete = False
                break
            watch(utterance.id)
            contest.hear(utterance, number)
            contest.check(peers[0])
    return contest.report(peers, complete)


class _Contest:
    """Those that take part, and what they have done so far."""

    def __init__(self, skipped: Sequence[Skipped]) -> None:
        self._skipped = list(skipped)
        self._processes: dict[str, RecognizerProcess] = {}
        self._facts: dict[str, LoadFacts] = {}
        self._loads_s: dict[str, list[float]] = {}
        self._scores: dict[str, list[PeerScore]] = {}
        self._failed: dict[str, str] = {}

    def admit(
        self, peer: Peer, start: Callable[[Peer], RecognizerProcess], processes: ExitStack
    ) -> None:
        """Load a peer as often as that is measured; the last process stays."""
        if peer.unavailable is not None:
            self._failed[peer.name] = peer.unavailable
            return
        try:
            loads = []
            for _ in range(LOADS - 1):
                with start(peer) as process:
                    loads.append(process.load())
            process = processes.enter_context(start(peer))
            loads.append(process.load())
        except AsrError as error:
            self._failed[peer.name] = str(error)
            return
        self._processes[peer.name] = process
        self._facts[peer.name] = loads[0]
        self._loads_s[peer.name] = [facts.load_s for facts in loads]
        self._scores[peer.name] = []

    def check(self, peer: Peer) -> None:
        """Raise AsrError if a peer takes no part (any more)."""
        if peer.name in self._failed:
            raise AsrError(f"{peer.name}: {self._failed[peer.name]}")

    def hear(self, utterance: Utterance, number: int) -> None:
        """Let all recognise a recording, the first one twice: it warms them up."""
        reference = normalize(utterance.text)
        scores = {}
        for name in self._turns(number):
            process = self._processes[name]
            try:
                if number == 0:
                    process.recognize(utterance, BLOCK_MS)
                heard = process.recognize(utterance, BLOCK_MS)
            except ProcessEnded as error:
                self._drop(name, str(error))
                continue
            except AsrError as error:
                self._skipped.append(Skipped(utterance.id, f"{name}: {error}"))
                return
            hypothesis = normalize(heard.text)
            errors = WordErrors.between(reference, hypothesis)
            scores[name] = PeerScore(utterance.id, reference, hypothesis, errors, heard)
        for name, score in scores.items():
            self._scores[name].append(score)

    def report(self, peers: Sequence[Peer], complete: bool) -> Comparison:
        """Return what came out."""
        if not any(self._scores.values()):
            first = "".join(f"; the first: {s.id}: {s.reason}" for s in self._skipped[:1])
            raise AsrError(f"nothing was recognised by all; {len(self._skipped)} skipped{first}")
        reports = [
            PeerReport(
                peer,
                self._facts.get(peer.name),
                tuple(self._loads_s.get(peer.name, ())),
                tuple(self._scores.get(peer.name, ())),
                self._failed.get(peer.name),
            )
            for peer in peers
        ]
        return Comparison(tuple(reports), tuple(self._skipped), complete)

    def _drop(self, name: str, reason: str) -> None:
        self._failed[name] = reason
        for known in (self._processes, self._facts, self._loads_s, self._scores):
            del known[name]

    def _turns(self, number: int) -> list[str]:
        names = list(self._processes)
        first = number % len(names)
        return names[first:] + names[:first]
