"""The protocol: sherpa-onnx's fields with its meaning, one clock, nothing told that changes."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.bundle import StreamingConfig
from asr.decoding.endpoint import EndpointRules
from asr.decoding.greedy import GreedySearch
from asr.features import FeatureConfig
from asr.serving.protocol import (
    MessageWriter,
    ProtocolError,
    StreamRequest,
    parse_message,
    parse_request,
)
from asr.stream import Stream
from asr.supervisor import Supervisor
from tests.asr.fake_engine import LETTERS, BurstEngine
from tests.asr.signals import bursts

RULES = EndpointRules(silence_s=None, pause_s=0.4, length_s=None)


def open_stream(
    rules: EndpointRules | None = RULES, supervisor: Supervisor | None = None
) -> Stream:
    engine = BurstEngine()
    return Stream(
        engine,
        GreedySearch(engine),
        pieces=LETTERS,
        features=FeatureConfig(),
        streaming=StreamingConfig(chunk_frames=8),
        supervisor=supervisor,
        endpoints=rules,
    )


def told(samples: np.ndarray, block: int = 1600) -> list[dict]:
    """Return what a client is told, with a second between two blocks."""
    stream = open_stream()
    now_s = iter(range(10**6))
    writer = MessageWriter(stream, lambda: next(now_s))
    messages = []
    for start in range(0, len(samples), block):
        messages += writer.write(stream.accept(samples[start : start + block]))
    messages += writer.finish(stream.finish())
    return [json.loads(message.text) for message in messages]


def test_messages_have_the_fields_of_sherpa_onnx() -> None:
    *_, last = told(bursts([1600] * 3, 3200))
    fields = {"text", "tokens", "timestamps", "ys_probs", "segment", "start_time", "is_final"}
    assert fields | {"is_eof"} <= set(last)
    assert (last["text"], last["tokens"]) == ("a b c", [" a", " b", " c"])
    assert (last["segment"], last["is_final"], last["is_eof"]) == (0, True, True)
    assert last["timestamps"] == pytest.approx([0.0, 0.28, 0.6], abs=0.09)
    assert last["ys_probs"] == pytest.approx([-0.05] * 3)


def test_segments_count_those_with_words_and_times_are_absolute() -> None:
    words = bursts([1600] * 2, 3200)
    silence = np.zeros(32_000, np.float32)
    messages = told(np.concatenate([silence, words, silence, words, silence]))
    finals = [message for message in messages if message["is_final"]]
    assert [(m["segment"], m["text"], m["is_eof"]) for m in finals] == [
        (0, "a b", False),
        (1, "a b", False),
        (2, "", True),
    ]
    for final in finals[:2]:
        starts = [final["start_time"] + time_s for time_s in final["timestamps"]]
        assert starts == pytest.approx([word["start_s"] for word in final["timed_words"]])
        assert final["endpoint"]["rule"] == "pause"
    assert finals[1]["timed_words"][0]["start_s"] == pytest.approx(4.5, abs=0.2)
    assert all(time_s >= 0 for message in messages for time_s in message["timestamps"])


def test_partials_grow_and_their_stable_part_stays() -> None:
    messages = told(bursts([1600] * 6, 3200))
    partials = [message for message in messages if not message["is_final"]]
    assert partials
    for before, after in zip(partials, [*partials[1:], messages[-1]], strict=True):
        assert before["text"].startswith(before["stable_text"])
        assert after["text"].startswith(before["stable_text"])


def test_the_last_message_says_what_it_cost() -> None:
    *_, last = told(bursts([1600] * 3, 3200))
    status = last["status"]
    assert status["audio_s"] == pytest.approx(0.7)
    assert status["chunk_ms"] == 320
    assert status["budget"] == {"rtf": None, "memory_mb": None, "latency_ms": None}
    assert status["rtf"] > 0 and status["memory_mb"] > 1


def test_silence_is_told_once_a_second_and_not_more() -> None:
    stream, now = open_stream(), [0.0]
    writer = MessageWriter(stream, lambda: now[0])
    counts = []
    for _ in range(20):
        now[0] += 0.25
        counts.append(len(writer.write(stream.accept(np.zeros(4000, np.float32)))))
    assert sum(counts) == 5


def test_samples_come_as_they_were_sent() -> None:
    samples = np.linspace(-1, 1, 7).astype("<f4")
    assert np.array_equal(parse_message(samples.tobytes()), samples)
    assert parse_message(b"").shape == (0,)
    assert parse_message("Done") is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"abc", "a message of 3 bytes; expected float32"),
        (np.array([math.nan], "<f4").tobytes(), "bad samples: .*NaN"),
        (np.array([1e30], "<f4").tobytes(), "bad samples"),
        ("done", "the text 'done'; expected binary messages"),
        ("", "the text ''"),
    ],
)
def test_nonsense_is_refused_with_a_reason(message: str | bytes, expected: str) -> None:
    with pytest.raises(ProtocolError, match=expected):
        parse_message(message)


@given(st.one_of(st.binary(max_size=64), st.text(max_size=64)))
def test_any_message_is_audio_or_an_error(message: str | bytes) -> None:
    try:
        samples = parse_message(message)
    except ProtocolError:
        return
    assert samples is None or np.isfinite(samples).all()


def test_the_address_says_what_is_wanted() -> None:
    assert parse_request("") == StreamRequest(16_000, EndpointRules())
    request = parse_request("sample_rate=48000&endpoints=length&token=x")
    assert request.sample_rate == 48_000
    assert request.endpoints == EndpointRules(silence_s=None, pause_s=None)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sample_rate=0", "sample_rate=0; expected a rate in Hz, 1000 to"),
        ("sample_rate=-1", "sample_rate=-1"),
        ("sample_rate=16e3", "sample_rate=16e3"),
        ("sample_rate=٣", "sample_rate=٣"),
        ("sample_rate=192001", "sample_rate=192001; expected a rate in Hz, 1000 to 192000"),
        (f"sample_rate={'9' * 5000}", "sample_rate=99999999999999999999; expected"),
        ("endpoints=never", "endpoints=never; expected pause or length"),
        ("rate=8000", "unknown in the address: rate; expected sample_rate"),
    ],
)
def test_an_impossible_address(query: str, expected: str) -> None:
    with pytest.raises(ProtocolError, match=expected):
        parse_request(query)
