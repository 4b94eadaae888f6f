"""Searches the operating points of a model on this machine.

The space is small (variants x threads x chunks), so all of it is measured, each point in a
process of its own, on transcribed recordings. It is done in rounds: each has its turn at some of
the recordings before the first one goes on, so what the machine does meanwhile, it does to all.
A point is given up early only for what can't change any more or is far from it: a chunk that alone
is longer than the latency budget, memory over its budget, an RTF of twice its budget, or another
thread that costs memory and saves no time.

Latency is that of `asr.budget`: from the first sample of a chunk to its words, p95. The front holds
the points that no other point beats or equals in everything: WER, RTF, memory and latency.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from asr.budget import CHUNKS_MS, Budget, OperatingPoint
from asr.bundle import Bundle
from asr.engines import longest_chunk_ms
from asr.errors import AsrError, BudgetError
from asr.evaluation.accuracy.wer import WordErrors, bootstrap_interval
from asr.evaluation.corpora.manifest import Skipped, Utterance
from asr.evaluation.envelope import EvaluationEnvelope
from asr.evaluation.isolated import AudioUnreadable, Isolated, Recognition, RecognizerProcess
from asr.text import normalize
from asr.tuned import TunedPoint

REPORT_SCHEMA_VERSION = 1
KIND = "tune"

ROUNDS = 4

JUDGED_AFTER_S = 20.0
"""Audio after which an RTF is believed as far as giving up goes."""

HOPELESS = 2.0
"""So many times its budget is an RTF that no luck brings down."""

NOISE = 1.05
"""RTFs within this factor are the same."""


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """One way to run a model."""

    precision: str
    engine: str
    threads: int  # of the inference engine
    chunk_ms: int

    @property
    def wait_ms(self) -> float:
        """Latency that the chunk alone makes."""
        return OperatingPoint(self.chunk_ms).wait_ms

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        engine = "" if self.engine == "onnx" else f" for {self.engine}"
        return f"{self.precision}{engine}, {self.chunk_ms} ms, {threads}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a candidate came to."""

    errors: tuple[WordErrors, ...]  # by recording
    rtf: float
    latency_ms: float
    memory_mb: float  # peak of its process
    load_s: float

    @property
    def wer(self) -> float:
        """Word error rate, a fraction."""
        return WordErrors.total(self.errors).rate


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate and its figures, or why there are none."""

    candidate: Candidate
    measured: Measured | None
    given_up: str | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a search found."""

    budget: Budget
    trials: tuple[Trial, ...]
    skipped: tuple[Skipped, ...]  # recordings that could not be read
    complete: bool  # every candidate had its turn

    @property
    def front(self) -> tuple[Trial, ...]:
        """The trials that no other beats or equals in everything, the quickest answer first."""
        known = [trial for trial in self.trials if trial.measured is not None]
        front = [
            trial
            for trial in known
            if not any(_dominates(other, trial) for other in known if other is not trial)
        ]
        return tuple(sorted(front, key=lambda trial: _costs(trial)[3]))

    def choose(self) -> Trial:
        """Return the trial to run with: of those within the budget, the most accurate; of those
        whose WER can't be told from its, the one with the least RTF; of those that are as fast, the
        one with the fewest threads and the least memory.

        Raises BudgetError if none is within the budget; it names the nearest.
        """
        known = [(trial, m) for trial in self.trials if (m := trial.measured) is not None]
        fitting = [(trial, m) for trial, m in known if _excess(m, self.budget) <= 1]
        if not fitting:
            raise BudgetError(f"no operating point is within the budget; {self._nearest(known)}")
        best = min((m for _, m in fitting), key=lambda m: m.wer)
        equal = [(trial, m) for trial, m in fitting if not is_worse(m.errors, best.errors)]
        least_rtf = min(m.rtf for _, m in equal)
        fast = [(trial, m) for trial, m in equal if m.rtf <= NOISE * least_rtf]
        return min(fast, key=lambda item: (item[0].candidate.threads, item[1].memory_mb))[0]

    def _nearest(self, known: Sequence[tuple[Trial, Measured]]) -> str:
        if not known:
            reasons: dict[str | None, Candidate] = {}
            for trial in self.trials:
                reasons.setdefault(trial.given_up, trial.candidate)
            return "; ".join(f"{candidate}: {why}" for why, candidate in reasons.items())
        trial, m = min(known, key=lambda item: _excess(item[1], self.budget))
        return (
            f"the nearest is {trial.candidate}: RTF {m.rtf:.4f}, {m.memory_mb:.0f} MB, "
            f"{m.latency_ms:.0f} ms"
        )

    def to_dict(self, envelope: EvaluationEnvelope, chosen: Trial | None) -> dict[str, Any]:
        """The result as plain data; `wer` is a fraction, `ci95` its bootstrap interval."""
        front = self.front
        return {
            "schema_version": REPORT_SCHEMA_VERSION,
            "kind": KIND,
            **asdict(envelope),
            "complete": self.complete,
            "budget": asdict(self.budget),
            "chosen": asdict(chosen.candidate) if chosen else None,
            "trials": [
                asdict(trial.candidate)
                | _figures(trial.measured)
                | {"on_front": trial in front, "given_up": trial.given_up}
                for trial in self.trials
            ],
            "skipped": [asdict(item) for item in self.skipped],
        }


def candidates(
    bundle: Bundle, threads: Iterable[int], chunks_ms: Iterable[int] = CHUNKS_MS
) -> tuple[Candidate, ...]:
    """Return all ways to run a bundle, those that the others are judged by first: one thread, the
    variants in the bundle's order."""
    chunks = sorted(chunks_ms)
    return tuple(
        Candidate(graphs.precision, graphs.engine, count, chunk_ms)
        for count in sorted(threads)
        for graphs in bundle.variants
        for chunk_ms in chunks
        if chunk_ms <= longest_chunk_ms(bundle, graphs.engine)
    )


def thread_counts(cpus: int) -> tuple[int, ...]:
    """Return the numbers of threads worth trying on so many CPUs: 1, 2, 4 ..., up to all."""
    return tuple(2**power for power in range(cpus.bit_length()) if 2**power <= cpus)


def start(model: Path | None, candidate: Candidate) -> RecognizerProcess:
    """Start a process that runs a model like this."""
    options = asdict(candidate) | {"model": str(model) if model else None}
    return Isolated("asr.evaluation.peers.earshot", options)


def search(
    space: Sequence[Candidate],
    utterances: Sequence[Utterance],
    budget: Budget,
    start: Callable[[Candidate], RecognizerProcess],
    *,
    watch: Callable[[Candidate], None] = lambda candidate: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Tuning:
    """Measure all candidates. `watch` is told before each recording whose turn it is; `stopped`
    ends it early, and then the figures are those of the rounds that all have finished.

    A recording that can't be read is left out. Raises AsrError if none can.
    """
    runs = [_Run(candidate) for candidate in space]
    for run in runs:
        if (wait_ms := run.candidate.wait_ms) > _limit(budget.latency_ms):
            run.given_up = f"its chunk alone makes a latency of {wait_ms:.0f} ms"
    readable: list[Utterance] = []
    skipped: list[Skipped] = []
    for number in range(min(ROUNDS, len(utterances))):
        usable = list(utterances[number::ROUNDS])
        for position, run in enumerate(runs):
            if run.given_up is not None:
                continue
            try:
                with start(run.candidate) as process:
                    run.take_turn(process, usable, skipped, watch, stopped)
            except _Stopped:
                return _found(budget, runs, readable, skipped, complete=False)
            except AsrError as error:
                run.given_up = str(error)
            else:
                rivals = [other for other in runs[:position] if other.has_fewer_threads(run)]
                run.give_up_if_hopeless(budget, rivals)
        readable += usable
    if not readable:
        raise AsrError(f"no recording could be read; the first: {skipped[0].reason}")
    return _found(budget, runs, readable, skipped, complete=True)


def tuned_point(trial: Trial) -> TunedPoint:
    """Return what is kept of a choice."""
    assert trial.measured is not None
    measured = trial.measured
    return TunedPoint(
        **asdict(trial.candidate),
        wer=measured.wer,
        rtf=measured.rtf,
        latency_ms=measured.latency_ms,
        memory_mb=measured.memory_mb,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def is_worse(
    errors: Sequence[WordErrors], best: Sequence[WordErrors], draws: int = 2000, seed: int = 0
) -> bool:
    """Whether more errors on the same recordings are no chance: a paired bootstrap over recordings,
    as in `asr.evaluation.accuracy.comparison`, one-sided at 5 %."""
    more = np.array([a.errors - b.errors for a, b in zip(errors, best, strict=True)])
    drawn = np.random.default_rng(seed).integers(len(more), size=(draws, len(more)))
    return bool((more[drawn].sum(axis=1) <= 0).mean() < 0.05)


class _Stopped(Exception):
    """Somebody has seen enough."""


class _Run:
    """A candidate on its way through the rounds."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.given_up: str | None = None
        self.heard: list[Recognition] = []
        self._loads_s: list[float] = []

    def take_turn(
        self,
        process: RecognizerProcess,
        usable: list[Utterance],
        skipped: list[Skipped],
        watch: Callable[[Candidate], None],
        stopped: Callable[[], bool],
    ) -> None:
        """Hear the recordings of a round; one that can't be read moves to `skipped`.

        Raises _Stopped, and AsrError for a process that fails.
        """
        self._loads_s.append(process.load().load_s)
        is_warm = False
        for utterance in tuple(usable):
            if stopped():
                raise _Stopped
            watch(self.candidate)
            try:
                if not is_warm:
                    process.recognize(utterance, self.candidate.chunk_ms)
                self.heard.append(process.recognize(utterance, self.candidate.chunk_ms))
            except AudioUnreadable as error:
                usable.remove(utterance)  # it is the same file for all
                skipped.append(Skipped(utterance.id, str(error)))
            else:
                is_warm = True

    def has_fewer_threads(self, other: "_Run") -> bool:
        """Whether this is the other one with fewer threads, and still in the race."""
        same = replace(self.candidate, threads=other.candidate.threads) == other.candidate
        return same and self.given_up is None

    def give_up_if_hopeless(self, budget: Budget, rivals: Sequence["_Run"]) -> None:
        """Give up what can't be chosen any more. `rivals` have fewer threads, and have heard the
        same."""
        memory_mb = self.memory_mb(len(self.heard))
        if memory_mb > _limit(budget.memory_mb):  # a peak only rises
            self.given_up = f"it needs {memory_mb:.0f} MB"
            return
        if sum(item.audio_s for item in self.heard) < JUDGED_AFTER_S:
            return
        rtf = _rtf(self.heard)
        if rtf > HOPELESS * _limit(budget.rtf):
            self.given_up = f"RTF {rtf:.4f} on the first {len(self.heard)} recordings"
        for rival in rivals:
            other = _rtf(rival.heard)
            if rtf >= other and memory_mb >= rival.memory_mb(len(rival.heard)):
                self.given_up = f"no faster than fewer threads: RTF {rtf:.4f}, not {other:.4f}"

    def memory_mb(self, heard: int) -> float:
        """Peak memory of its processes in so many recordings."""
        return max((item.peak_rss_mb for item in self.heard[:heard]), default=0.0)

    def measured(self, utterances: Sequence[Utterance]) -> Measured:
        """Return what it came to in the recordings that it has heard first, which are these."""
        heard = self.heard[: len(utterances)]
        blocks_s = [seconds for item in heard for seconds in item.block_s]
        errors = [
            WordErrors.between(normalize(utterance.text), normalize(item.text))
            for utterance, item in zip(utterances, heard, strict=True)
        ]
        return Measured(
            errors=tuple(errors),
            rtf=_rtf(heard),
            latency_ms=self.candidate.wait_ms + 1000 * float(np.quantile(blocks_s, 0.95)),
            memory_mb=self.memory_mb(len(heard)),
            load_s=median(self._loads_s),
        )


def _found(
    budget: Budget,
    runs: Sequence[_Run],
    readable: Sequence[Utterance],
    skipped: Sequence[Skipped],
    complete: bool,
) -> Tuning:
    trials = []
    for run in runs:
        if run.given_up is not None:
            trials.append(Trial(run.candidate, None, run.given_up))
        elif not readable:
            trials.append(Trial(run.candidate, None, "interrupted"))
        else:
            trials.append(Trial(run.candidate, run.measured(readable)))
    return Tuning(budget, tuple(trials), tuple(skipped), complete)


def _rtf(heard: Sequence[Recognition]) -> float:
    return sum(item.compute_s for item in heard) / sum(item.audio_s for item in heard)


def _costs(trial: Trial) -> tuple[float, float, float, float]:
    assert trial.measured is not None
    measured = trial.measured
    return measured.wer, measured.rtf, measured.memory_mb, measured.latency_ms


def _dominates(one: Trial, other: Trial) -> bool:
    pairs = list(zip(_costs(one), _costs(other), strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _excess(measured: Measured, budget: Budget) -> float:
    """How many times the budget it needs, by the worst of the three; 1 or less is within it."""
    return max(
        measured.rtf / _limit(budget.rtf),
        measured.memory_mb / _limit(budget.memory_mb),
        measured.latency_ms / _limit(budget.latency_ms),
    )


def _limit(value: float | None) -> float:
    return math.inf if value is None else value


def _figures(measured: Measured | None) -> dict[str, Any]:
    if measured is None:
        return dict.fromkeys(("wer", "ci95", "words", "rtf", "latency_ms", "memory_mb", "load_s"))
    return {
        "wer": measured.wer,
        "ci95": list(bootstrap_interval(measured.errors)),
        "words": WordErrors.total(measured.errors).words,
        "rtf": measured.rtf,
        "latency_ms": measured.latency_ms,
        "memory_mb": measured.memory_mb,
        "load_s": measured.load_s,
    }
