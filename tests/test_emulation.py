"""Every variant of the shipped model on processors that are not at hand: an Arm, with the oldest
onnxruntime that the project supports, and an x86 without VNNI."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import asr
from asr.bundle import Bundle, builtin_bundle_path
from asr.evaluation.accuracy.wer import WordErrors
from export.bundle import write_bundle
from export.pipeline import verified_contents
from tests.emulation import EmulationError, prepare, run_arm64, run_haswell
from tests.exact_bundle import CHECKPOINT
from tests.samples import SAMPLES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ERRORS_MORE = 2
"""Word errors. Where two words are as likely as each other, another rounding may choose the other
one, and a word that falls apart costs two: the formats differ by as much on one machine. The
samples have 52 words, in which 0.3 points of WER can't be told; the numbers below can."""

_TRANSCRIBE = """
import json, sys, asr
model, precision, engine, *files = sys.argv[1:]
recognizer = asr.load(model, precision=precision, engine=engine, chunk_ms=320)
print(json.dumps([recognizer.transcribe(file).text for file in files]))
"""

# Mean errors of the encoder against float, by variant: here, and where the bundle was made.
_ERRORS = """
import io, json, sys
import numpy as np
from asr.bundle import open_bundle
from asr.engines import open_engine
from asr.engines.golden import encode_by_chunks

bundle = open_bundle(sys.argv[1])
golden = np.load(io.BytesIO(bundle.read(bundle.golden.file)))
errors = {}
for graphs in bundle.variants:
    engine = open_engine(bundle, graphs.precision, engine=graphs.engine)
    found = encode_by_chunks(engine, golden["features"], bundle.streaming)
    pair = found, golden[f"encoder_out.{graphs.precision}"]
    exact = golden["encoder_out.fp32"]
    errors[f"{graphs.precision} for {graphs.engine}"] = [float(abs(e - exact).mean()) for e in pair]
print(json.dumps(errors))
"""

Run = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def emulators() -> None:
    try:
        prepare()
    except EmulationError as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The shipped weights in each precision, for each engine, in one file."""
    contents = verified_contents(CHECKPOINT, "en", print, ("int8", "int4"))
    path = tmp_path_factory.mktemp("variants") / "en.zip"
    return write_bundle(path, replace(contents, engines=("onnx", "ort")))


def transcribe(run: Run, model: Path, precision: str, engine: str) -> list[str]:
    """Return the text of each sample. The self-test has passed, or this raises EmulationError."""
    files = [str(sample.path) for sample in SAMPLES]
    texts: list[str] = json.loads(run("-c", _TRANSCRIBE, str(model), precision, engine, *files))
    return texts


def transcribe_here(model: Path, precision: str, engine: str) -> list[str]:
    recognizer = asr.load(model, precision=precision, engine=engine, chunk_ms=320)
    return [recognizer.transcribe(sample.path).text for sample in SAMPLES]


def errors(texts: Sequence[str]) -> int:
    pairs = zip(SAMPLES, texts, strict=True)
    return sum(WordErrors.between(sample.text, text).errors for sample, text in pairs)


def test_arm_gives_the_same_text_in_float(variants: Bundle) -> None:
    expected = transcribe_here(variants.path, "fp32", "onnx")
    for engine in ("onnx", "ort"):
        assert transcribe(run_arm64, variants.path, "fp32", engine) == expected, engine


@pytest.mark.parametrize("run", [run_arm64, run_haswell])
def test_no_variant_is_further_from_float_elsewhere(variants: Bundle, run: Run) -> None:
    found = json.loads(run("-c", _ERRORS, str(variants.path)))
    assert len(found) == len(variants.variants) == 5
    for variant, (there, here) in found.items():
        assert there <= 1.1 * here + 1e-5, f"{variant}: {there}, here {here}"


@pytest.mark.parametrize("run", [run_arm64, run_haswell])
def test_int8_loses_no_words_elsewhere(variants: Bundle, run: Run) -> None:
    for model, engine in [(variants.path, "onnx"), (builtin_bundle_path(), "onnx")]:
        here = errors(transcribe_here(model, "int8", engine))
        there = errors(transcribe(run, model, "int8", engine))
        assert there <= here + ERRORS_MORE, f"{model}: {there} errors, here {here}"
