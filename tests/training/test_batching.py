"""The order of training is a function of (seed, epoch, step)."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from training.batching import BatchPlan, Draw, StepSampler

DURATIONS = np.random.default_rng(0).uniform(0.5, 12, 300).tolist()


def seconds(batch: list[Draw]) -> list[float]:
    return [DURATIONS[draw.index] for draw in batch]


def indices(steps: list[list[list[Draw]]]) -> list[int]:
    return [draw.index for step in steps for batch in step for draw in batch]


def plan(world_size: int = 1, weight: float = 1.0, seed: int = 1) -> BatchPlan:
    return BatchPlan(DURATIONS, [weight] * 300, 40.0, seed, world_size)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_epoch_holds_every_utterance(world_size: int) -> None:
    steps = plan(world_size).epoch(0)
    assert all(len(step) == world_size for step in steps)
    counts = Counter(draw.index for step in steps for batch in step for draw in batch)
    assert set(counts) == set(range(300))
    borrowed = sum(counts.values()) - 300
    assert 0 <= borrowed < 40 * world_size, "only the last step may borrow"


def test_no_batch_is_longer_than_asked_padding_included() -> None:
    for step in plan(2).epoch(3):
        for batch in step:
            assert len(batch) == 1 or max(seconds(batch)) * len(batch) <= 40.0


def test_little_is_padding() -> None:
    batches = [batch for step in plan().epoch(0) for batch in step]
    padded = sum(max(seconds(batch)) * len(batch) for batch in batches)
    assert sum(DURATIONS) / padded > 0.9


def test_draws_know_their_batch() -> None:
    batches = [batch for step in plan().epoch(3) for batch in step]
    numbers = [{draw.batch for draw in batch} for batch in batches]
    assert all(len(of_batch) == 1 for of_batch in numbers)
    assert len(set.union(*numbers)) == len(batches)


def test_weights_repeat_and_thin_out() -> None:
    assert sum(len(b) for s in plan(weight=2.0).epoch(0) for b in s) == 600
    half = [d.index for s in plan(weight=0.5).epoch(0) for b in s for d in b]
    assert 110 < len(half) < 190
    assert half != [d.index for s in plan(weight=0.5).epoch(1) for b in s for d in b]


def test_copies_of_an_utterance_are_numbered() -> None:
    draws = [draw for step in plan(weight=2.0).epoch(3) for batch in step for draw in batch]
    assert sorted((draw.index, draw.epoch, draw.copy) for draw in draws) == [
        (index, 3, copy) for index in range(300) for copy in (0, 1)
    ]
    assert {d.copy for s in plan(weight=0.7).epoch(0) for b in s for d in b} == {0}


def test_views_of_an_utterance_share_a_batch() -> None:
    two = BatchPlan(DURATIONS, [1.0] * 300, 40.0, seed=1, views=2)
    batches = [batch for step in two.epoch(3) for batch in step]
    for batch in batches:
        first, second = batch[: len(batch) // 2], batch[len(batch) // 2 :]
        assert second == [replace(draw, view=1) for draw in first]
        assert {draw.view for draw in first} == {0}
        assert len(first) == 1 or max(seconds(batch)) * len(batch) <= 40.0
    assert sorted(draw.index for batch in batches for draw in batch) == sorted([*range(300)] * 2)
    assert two.step_seconds() == pytest.approx(2 * sum(DURATIONS) / len(two.epoch(0)))


def test_an_epoch_that_leaves_everything_out_is_passed_over() -> None:
    single = BatchPlan([3.0], [0.5], 40.0, seed=1)
    assert [] in [single.epoch(epoch) for epoch in range(8)]
    assert [[draw.index for draw in step] for step in StepSampler(single, 0, 4)] == [[0]] * 4
    assert single.step_seconds() > 0


def test_epochs_differ_and_repeat_exactly() -> None:
    assert plan().epoch(0) == plan().epoch(0)
    assert indices(plan().epoch(0)) != indices(plan().epoch(1))
    assert indices(plan().epoch(0)) != indices(plan(seed=2).epoch(0))


def test_a_sampler_started_late_goes_on_with_the_same_batches() -> None:
    whole = list(StepSampler(plan(2), 0, 130, rank=1))
    late = list(StepSampler(plan(2), 77, 130, rank=1))
    assert len(whole) == 130
    assert whole[-1][0].epoch > 0, "the test must cross an epoch"
    assert late == whole[77:]
    other = list(StepSampler(plan(2), 0, 130, rank=0))
    assert all(a != b for a, b in zip(whole, other, strict=True))
