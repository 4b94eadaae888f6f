"""A model evaluated on half a CPU, under a budget that it can't hold there at its best point."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import asr
from asr.audio import Blocks
from asr.evaluation.corpora.manifest import Utterance
from asr.evaluation.evaluate import Evaluation, EvaluationReport
from asr.evaluation.under_load.hogs import Hogs
from tests.samples import SAMPLES, Sample, read_samples

RATE = 16_000
SENTENCES = 5
"""In an utterance, 25 s: the governor judges a point after 2 s at the soonest."""


@dataclass(frozen=True)
class HalfSpeed:
    """The same recordings, twice."""

    costs: dict[asr.OperatingPoint, float]  # the RTF of each point on a whole CPU
    budget: asr.Budget
    unloaded: EvaluationReport  # without a budget
    loaded: EvaluationReport


def evaluate_at_half_speed(utterances: int) -> HalfSpeed:
    """Pin this process to one CPU and evaluate there, alone and then beside a hog.

    The budget lies between the costs of the best and of the lowest point at half speed.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    recognizer = asr.load()
    unloaded = _evaluate(recognizer, utterances, None)
    costs = recognizer.calibrate()
    best, lowest = max(costs.values()), min(costs.values())
    # The second is what the best point must have to be admitted: the machine is idle as yet.
    budget = asr.Budget(rtf=max(2 * math.sqrt(best * lowest), 1.2 * best))
    with Hogs(1):  # on the same CPU, as it is of this process
        loaded = _evaluate(recognizer, utterances, budget)
    return HalfSpeed(costs, budget, unloaded, loaded)


def _evaluate(
    recognizer: asr.Recognizer, utterances: int, budget: asr.Budget | None
) -> EvaluationReport:
    evaluation = Evaluation(recognizer, budget=budget, read=_read)
    for number in range(utterances):
        text = " ".join(sample.text for sample, _ in _sentences(number))
        evaluation.add(Utterance(f"{number}", Path(f"{number}"), text, 25.0, None, None))
    return evaluation.report()


def _sentences(number: int) -> list[tuple[Sample, float]]:
    """Return the recordings of an utterance, and how loud each is."""
    rng = np.random.default_rng(number)
    return [(SAMPLES[rng.integers(len(SAMPLES))], rng.uniform(0.2, 1.0)) for _ in range(SENTENCES)]


def _read(utterance: Utterance) -> Blocks:
    for sample, gain in _sentences(int(utterance.id)):
        samples = (gain * read_samples(sample)).astype(np.float32)
        for block in np.split(samples, range(RATE // 2, len(samples), RATE // 2)):
            yield block, RATE
