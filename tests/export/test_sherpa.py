"""Unmodified sherpa-onnx runs every variant of a bundle and hears the same tokens at the same
times: `.ort` files, too."""

from dataclasses import replace
from pathlib import Path

import pytest

import asr
from asr.bundle import Bundle
from asr.evaluation.accuracy.alignment import align
from asr.evaluation.accuracy.wer import WordErrors
from export.bundle import BundleContents, write_bundle
from export.quantize import quantize
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


def test_sherpa_runs_every_variant(contents: BundleContents, tmp_path: Path) -> None:
    """int8 and int4 round otherwise in another version of onnxruntime: most tokens are the same."""
    model, streaming = contents.model, contents.streaming
    int4 = quantize(model, contents.graphs["fp32"], streaming, "int4")
    graphs = {**contents.graphs, "int4": int4}
    bundle = write_bundle(
        tmp_path / "all", replace(contents, graphs=graphs, engines=("onnx", "ort"))
    )
    samples = fill_chunks(babble(6, seed=1))
    assert len(bundle.variants) == 5  # int4 is not written for ort
    for variant in bundle.variants:
        precision, engine = variant.precision, variant.engine
        stream = asr.load(bundle.path, precision=precision, engine=engine).stream()
        stream.accept(samples)
        ours = [token.piece for token in stream.finish().result.tokens]
        heard = recognize_with_sherpa(bundle, precision, samples, engine)
        theirs = [piece for piece, time in heard if time <= last_token_time(samples)]
        assert len(ours) >= 30, "the comparison is empty"
        assert WordErrors.of(align(ours, theirs)).errors <= 0.2 * len(ours), variant
