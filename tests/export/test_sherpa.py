"""Unmodified sherpa-onnx runs the bundle and hears the same tokens at the same times."""

import pytest

import asr
from asr.bundle import Bundle
from tests.export.conftest import babble
from tests.export.sherpa import fill_chunks, last_token_time, recognize_with_sherpa


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sherpa_hears_the_same_tokens_at_the_same_times(bundle: Bundle, seed: int) -> None:
    samples = fill_chunks(babble(6, seed))
    stream = asr.load(bundle.path, precision="fp32").stream()
    stream.accept(samples)
    ours = [(token.piece, round(token.time_s, 3)) for token in stream.finish().result.tokens]
    theirs = recognize_with_sherpa(bundle, "fp32", samples)
    assert [token for token in theirs if token[1] <= last_token_time(samples)] == ours
    assert len(ours) >= 30 and len({piece for piece, _ in ours}) >= 8, "the comparison is empty"


def test_sherpa_runs_int8(bundle: Bundle) -> None:
    assert recognize_with_sherpa(bundle, "int8", babble(3, seed=1))
