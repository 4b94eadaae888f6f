"""Endpoints fire when their rules say, once in a silence, and say why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.endpoint import DueEndpoint, EndpointDetector, EndpointRules, Segment
from asr.errors import AsrError


def detector(silence: float | None, pause: float | None, length: float | None) -> EndpointDetector:
    return EndpointDetector(EndpointRules(silence, pause, length), frame_s=0.04)


def test_the_defaults_are_those_that_users_of_the_field_know() -> None:
    assert EndpointRules() == EndpointRules(silence_s=2.4, pause_s=1.2, length_s=20.0)


def test_pause_needs_a_word() -> None:
    rule = detector(None, 1.2, None)
    assert rule.due(Segment(silent_from=0)) is None
    assert rule.due(Segment(silent_from=50, first_frame=40)) == DueEndpoint(80, "pause")


def test_silence_needs_none_and_fires_once() -> None:
    rule = detector(2.4, 1.2, 20.0)
    beginning = Segment(silent_from=0)
    assert rule.due(beginning) == DueEndpoint(60, "silence")
    rule.fired("silence", beginning)
    assert rule.due(beginning) is None
    speech = Segment(silent_from=100, first_frame=90)
    assert rule.due(speech) == DueEndpoint(130, "pause")
    rule.fired("pause", speech)
    closed = Segment(silent_from=100)
    assert rule.due(closed) == DueEndpoint(160, "silence"), "the same silence goes on"
    rule.fired("silence", closed)
    assert rule.due(closed) is None


def test_length_counts_from_the_first_token_and_waits_for_a_whole_word() -> None:
    rule = detector(None, None, 20.0)
    assert rule.due(Segment(silent_from=700, first_frame=100)) is None
    whole = Segment(silent_from=700, first_frame=100, has_whole_word=True)
    assert rule.due(whole) == DueEndpoint(600, "length")


def test_the_nearest_rule_comes_first_and_of_two_the_one_that_says_more() -> None:
    speech = Segment(silent_from=500, first_frame=10, has_whole_word=True)
    assert detector(2.4, 1.2, 20.0).due(speech) == DueEndpoint(510, "length")
    assert detector(2.4, 1.2, 60.0).due(speech) == DueEndpoint(530, "pause")
    assert detector(1.2, 1.2, None).due(speech) == DueEndpoint(530, "silence")


def test_without_rules_nothing_is_due() -> None:
    assert detector(None, None, None).due(Segment(9, 5, True)) is None
    assert detector(None, None, None).horizon(Segment(9, 5, True), 1000, at_most=64) == 64


def test_the_horizon_is_where_a_rule_may_fire_whatever_is_found() -> None:
    rules = detector(2.4, 1.2, 20.0)
    assert rules.horizon(Segment(silent_from=0), 0, at_most=8) == 8
    assert rules.horizon(Segment(silent_from=0), 56, at_most=8) == 4, "silence is due at 60"
    # A token in the first of these frames, and then nothing.
    assert rules.horizon(Segment(silent_from=0), 0, at_most=64) == 30
    speech = Segment(silent_from=100, first_frame=20, has_whole_word=True)
    assert rules.horizon(speech, 102, at_most=64) == 28
    endless_word = Segment(silent_from=600, first_frame=20)
    assert rules.horizon(endless_word, 602, at_most=64) == 1, "its end may be the next token"


@given(st.floats(0.001, 100.0))
def test_a_rule_never_fires_early_nor_a_frame_late(seconds: float) -> None:
    due = detector(seconds, None, None).due(Segment(silent_from=0))
    assert due is not None
    assert due.frame * 0.04 >= seconds - 1e-6
    assert (due.frame - 1) * 0.04 < seconds


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["silence_s", "pause_s", "length_s"])
def test_impossible_times_are_refused(name: str, seconds: float) -> None:
    with pytest.raises(AsrError, match=f"endpoint rule {name}=.*; expected seconds above 0"):
        EndpointRules(**{name: seconds})
