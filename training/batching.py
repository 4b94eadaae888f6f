"""Which utterances make up each step: a function of (seed, epoch, step) and nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch.utils.data import Sampler


@dataclass(frozen=True)
class Draw:
    """One utterance of one epoch; its augmentation is seeded by its numbers."""

    index: int
    epoch: int
    copy: int = 0  # how often the epoch has drawn it before
    batch: int = 0  # of the epoch, in the order of duration
    view: int = 0  # of the views of an utterance that a batch holds; they differ in sound, not time


@dataclass(frozen=True)
class BatchPlan:
    """Batches of utterances of like duration, the same on every machine and after every restart."""

    durations: Sequence[float]  # s, of each utterance
    weights: Sequence[float]  # how often an epoch holds each utterance
    batch_seconds: float  # audio in a batch, padding included
    seed: int
    world_size: int = 1  # batches of one step: one for each process
    views: int = 1  # of each utterance in its batch: first all of one view, then all of the next

    def epoch(self, epoch: int) -> list[list[list[Draw]]]:
        """Return the steps of an epoch; a step holds `world_size` batches.

        There are none where small weights leave out every utterance of a small corpus.
        """
        generator = np.random.default_rng([self.seed, epoch])
        weights = np.asarray(self.weights)
        copies = np.floor(weights + generator.random(len(weights))).astype(int)
        chosen = np.repeat(np.arange(len(weights)), copies)
        if not len(chosen):
            return []
        # Durations are jittered so that an utterance meets other neighbours in each epoch; by so
        # little that 8 % of the hours in short utterances are padding, and not 14 %.
        durations = np.asarray(self.durations)[chosen]
        order = np.argsort(durations * generator.uniform(0.98, 1.02, len(chosen)), kind="stable")
        draws = [
            Draw(index, epoch, copy)
            for index, count in enumerate(copies.tolist())
            for copy in range(count)
        ]
        batches = [self._with_views(b) for b in self._cut_into_batches([draws[i] for i in order])]
        steps = [batches[i : i + self.world_size] for i in range(0, len(batches), self.world_size)]
        if len(steps[-1]) < self.world_size:
            # Every process takes part in every step: the last one borrows batches of the first.
            steps[-1] += [
                batches[i % len(batches)] for i in range(self.world_size - len(steps[-1]))
            ]
        return [steps[i] for i in generator.permutation(len(steps))]

    def step_seconds(self) -> float:
        """Audio in one step of all processes, on average, without the padding."""
        expected = self.views * float(np.dot(self.durations, self.weights))
        return expected / max(1, len(self.epoch(0)))

    def _cut_into_batches(self, draws: list[Draw]) -> list[list[Draw]]:
        batches: list[list[Draw]] = [[]]
        longest = 0.0
        for draw in draws:
            duration = self.durations[draw.index]
            longest = max(longest, duration)
            if batches[-1] and longest * (len(batches[-1]) + 1) * self.views > self.batch_seconds:
                batches.append([])
                longest = duration
            batches[-1].append(replace(draw, batch=len(batches) - 1))
        return batches

    def _with_views(self, batch: list[Draw]) -> list[Draw]:
        return [replace(draw, view=view) for view in range(self.views) for draw in batch]


class StepSampler(Sampler[list[Draw]]):
    """The batches of one process from step `first_step` on, epoch after epoch."""

    def __init__(self, plan: BatchPlan, first_step: int, last_step: int, rank: int = 0) -> None:
        self.plan, self.rank = plan, rank
        self.first_step, self.last_step = first_step, last_step

    def __iter__(self) -> Iterator[list[Draw]]:
        step = epoch = 0
        while step < self.last_step:
            for batches in self.plan.epoch(epoch):
                if self.first_step <= step < self.last_step:
                    yield batches[self.rank]
                step += 1
            epoch += 1

    def __len__(self) -> int:
        return self.last_step  # of the whole run: Lightning counts the steps before a restart too
