"""A machine at half its speed costs a stream under a budget no words."""

import os

import pytest

from tests.half_speed import evaluate_at_half_speed
from tests.soak import in_own_process


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no way to share one CPU")
def test_at_half_speed_the_words_stay_within_one_and_a_half_points() -> None:
    found = in_own_process(evaluate_at_half_speed, 60)  # 25 min of speech, 4000 words
    use = found.loaded.budget
    assert use is not None
    assert use.moves > 0, f"{found.budget} forces nothing: {found.costs}"
    assert found.loaded.skipped == found.unloaded.skipped == ()
    assert found.loaded.audio_s == found.unloaded.audio_s, "audio was lost"
    assert found.loaded.errors.rate <= found.unloaded.errors.rate + 0.015
