"""The search measures all that could be chosen, gives up only what can't be, and chooses well."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from asr.budget import Budget
from asr.bundle import GraphFiles, open_bundle
from asr.errors import AsrError, BudgetError
from asr.evaluation.accuracy.wer import WordErrors
from asr.evaluation.corpora.manifest import Utterance
from asr.evaluation.isolated import (
    AudioUnreadable,
    LoadFacts,
    NotInstalled,
    ProcessEnded,
    Recognition,
)
from asr.evaluation.tuning import (
    ROUNDS,
    Candidate,
    Measured,
    Trial,
    Tuning,
    candidates,
    is_worse,
    search,
    thread_counts,
    tuned_point,
)

UTTERANCES = [
    Utterance(str(number), Path(f"{number}.wav"), "one two three four", 10.0, None, None)
    for number in range(8)
]
INT8, FP32 = Candidate("int8", "onnx", 1, 320), Candidate("fp32", "onnx", 1, 320)
UNLIMITED = Budget()
TWO_THREADS = replace(INT8, threads=2)
LONG = replace(INT8, chunk_ms=2560)


class FakeProcess:
    """A candidate whose block takes `block_s`, of a recording with two blocks and 10 s of audio."""

    def __init__(self, block_s: float = 0.01, memory_mb: float = 90, text: str = "") -> None:
        self.block_s, self.memory_mb, self.text = block_s, memory_mb, text
        self.refuses: AsrError | None = None
        self.fails: dict[str, AsrError] = {}
        self.heard: list[str] = []
        self.blocks_ms: set[int] = set()

    def load(self) -> LoadFacts:
        if self.refuses:
            raise self.refuses
        return LoadFacts("", "", None, 0.5, 30, 60)

    def recognize(self, utterance: Utterance, block_ms: int) -> Recognition:
        self.heard.append(utterance.id)
        self.blocks_ms.add(block_ms)
        if utterance.id in self.fails:
            raise self.fails[utterance.id]
        return Recognition(self.text, 10.0, (self.block_s,) * 2, 0.0, 0.0, self.memory_mb)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def run(
    fakes: dict[Candidate, FakeProcess], budget: Budget = UNLIMITED, **options: object
) -> Tuning:
    return search(list(fakes), UTTERANCES, budget, lambda candidate: fakes[candidate], **options)


def test_the_space(tiny_bundle: Path) -> None:
    space = candidates(open_bundle(tiny_bundle), [2, 1], [640, 320])
    assert space[:2] == (INT8, replace(INT8, chunk_ms=640))
    assert len(space) == len(set(space)) == 4
    assert [candidate.threads for candidate in space] == [1, 1, 2, 2]
    program = replace(
        open_bundle(tiny_bundle), variants=(GraphFiles("executorch", "int8", *"mmm"),)
    )
    assert [each.chunk_ms for each in candidates(program, [1])] == [160, 320, 640]
    assert [thread_counts(cpus) for cpus in (1, 2, 6)] == [(1,), (1, 2), (1, 2, 4)]
    assert str(TWO_THREADS) == "int8, 320 ms, 2 threads"
    assert str(replace(INT8, engine="ort")) == "int8 for ort, 320 ms, 1 thread"


def test_all_hear_the_same_in_rounds() -> None:
    turns: list[Candidate] = []
    fakes = {INT8: FakeProcess(text="one two three"), FP32: FakeProcess(0.02, 120)}
    result = run(fakes, watch=turns.append)
    assert result.complete
    assert turns == [candidate for _ in range(ROUNDS) for candidate in fakes for _ in range(2)]
    first_round = ["0", "0", "4"]  # the first one twice: it warms up
    assert fakes[INT8].heard[:3] == fakes[FP32].heard[:3] == first_round
    assert fakes[INT8].blocks_ms == {320}
    [int8, fp32] = [trial.measured for trial in result.trials]
    assert int8 is not None and fp32 is not None
    assert (int8.wer, fp32.wer) == (0.25, 1.0)
    assert (int8.rtf, fp32.rtf) == (pytest.approx(0.002), pytest.approx(0.004))
    assert int8.latency_ms == pytest.approx(320 + 38 + 10)
    assert (int8.memory_mb, int8.load_s) == (90, 0.5)


@pytest.mark.parametrize(
    ("candidate", "slow", "budget", "reason"),
    [
        (LONG, FakeProcess(), Budget(latency_ms=1000), "its chunk alone makes a latency of 2598"),
        (FP32, FakeProcess(memory_mb=130), Budget(memory_mb=100), "it needs 130 MB"),
        (FP32, FakeProcess(0.11), Budget(rtf=0.01), "RTF 0.0220 on the first 2 recordings"),
        (TWO_THREADS, FakeProcess(), Budget(), "no faster than fewer threads: RTF 0.0020"),
    ],
)
def test_what_can_not_be_chosen_is_given_up(
    candidate: Candidate, slow: FakeProcess, budget: Budget, reason: str
) -> None:
    result = run({INT8: FakeProcess(), candidate: slow}, budget)
    measured, given_up = result.trials
    assert measured.measured is not None
    assert given_up.measured is None and reason in (given_up.given_up or "")
    assert len(slow.heard) <= 3, "no later than after a round"


def test_what_only_might_be_too_slow_is_measured() -> None:
    [trial] = run({INT8: FakeProcess(0.099)}, Budget(rtf=0.01)).trials
    assert trial.measured is not None
    faster = {INT8: FakeProcess(), TWO_THREADS: FakeProcess(0.005)}
    assert all(trial.measured for trial in run(faster).trials)


def test_one_that_fails_is_given_up_with_its_reason() -> None:
    broken, absent = FakeProcess(), FakeProcess()
    broken.fails = {"5": ProcessEnded("Killed")}
    absent.refuses = NotInstalled("No module named 'executorch'")
    result = run({FP32: broken, LONG: absent, INT8: FakeProcess()})
    assert [trial.given_up for trial in result.trials] == [
        "Killed",
        "No module named 'executorch'",
        None,
    ]


def test_a_damaged_recording_is_left_out_for_all() -> None:
    damaged = {"5": AudioUnreadable("5.wav: damaged"), "0": AudioUnreadable("0.wav: damaged")}
    fakes = {INT8: FakeProcess(), FP32: FakeProcess()}
    fakes[INT8].fails = damaged
    result = run(fakes)
    assert {item.id for item in result.skipped} == {"0", "5"}
    assert not {"0", "5"} & set(fakes[FP32].heard)
    assert [len(trial.measured.errors) for trial in result.trials if trial.measured] == [6, 6]
    fakes[INT8].fails = {str(number): AudioUnreadable("damaged") for number in range(8)}
    with pytest.raises(AsrError, match="no recording could be read; the first: damaged"):
        run(fakes)


def test_an_interrupt_leaves_the_rounds_that_all_finished() -> None:
    asked = iter(range(100))
    result = run({INT8: FakeProcess(), FP32: FakeProcess()}, stopped=lambda: next(asked) >= 7)
    assert not result.complete
    assert [len(trial.measured.errors) for trial in result.trials if trial.measured] == [2, 2]
    early = run({INT8: FakeProcess()}, stopped=lambda: True)
    assert [trial.given_up for trial in early.trials] == ["interrupted"]


def trial(
    candidate: Candidate,
    errors: Sequence[int],
    rtf: float = 0.01,
    memory_mb: float = 90,
    latency_ms: float = 400,
) -> Trial:
    counts = tuple(WordErrors(hits=10 - n, deletions=n) for n in errors)
    return Trial(candidate, Measured(counts, rtf, latency_ms, memory_mb, 0.3))


def tuning(*trials: Trial, budget: Budget = UNLIMITED) -> Tuning:
    return Tuning(budget, trials, (), complete=True)


GOOD, WORSE = [1, 2, 1, 2] * 10, [3, 4, 3, 4] * 10
EQUAL = [2, 1, 2, 1] * 10


def test_the_front() -> None:
    best = trial(INT8, GOOD, latency_ms=700)
    quick = trial(FP32, WORSE, latency_ms=300)
    beaten = trial(LONG, WORSE, rtf=0.02, latency_ms=800)
    given_up = Trial(TWO_THREADS, None, "hopeless")
    assert tuning(best, beaten, given_up, quick).front == (quick, best)


def test_the_choice() -> None:
    assert is_worse(
        WORSE_COUNTS := trial(INT8, WORSE).measured.errors, trial(INT8, GOOD).measured.errors
    )
    assert not is_worse(trial(INT8, EQUAL).measured.errors, WORSE_COUNTS)
    best, cheap = trial(FP32, GOOD, rtf=0.03), trial(LONG, WORSE, rtf=0.001)
    assert tuning(best, cheap).choose() is best, "more words wrong is worse, however cheap"
    as_good = trial(INT8, EQUAL, rtf=0.02)
    assert tuning(best, cheap, as_good).choose() is as_good, "of the equally good the fastest"
    threads = trial(TWO_THREADS, EQUAL, rtf=0.0198, memory_mb=80)
    assert tuning(threads, as_good).choose() is as_good, "of the equally fast the fewest threads"
    tight = tuning(best, cheap, as_good, budget=Budget(rtf=0.015))
    assert tight.choose() is cheap
    point = tuned_point(as_good)
    assert (point.precision, point.engine, point.threads, point.chunk_ms) == (
        "int8",
        "onnx",
        1,
        320,
    )
    assert (point.wer, point.rtf) == (pytest.approx(0.15), 0.02)


def test_a_refusal_names_the_nearest() -> None:
    both = tuning(trial(INT8, GOOD, rtf=0.02), trial(LONG, GOOD, rtf=0.09), budget=Budget(rtf=0.01))
    with pytest.raises(BudgetError, match=r"nearest is int8, 320 ms, 1 thread: RTF 0\.0200"):
        both.choose()
    nothing = tuning(Trial(INT8, None, "it needs 92 MB"), Trial(FP32, None, "it needs 92 MB"))
    with pytest.raises(BudgetError, match=r"int8, 320 ms, 1 thread: it needs 92 MB$"):
        nothing.choose()
