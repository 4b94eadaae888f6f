"""The golden vectors are what this code gives: a change in it that other implementations lack shows
here, and `python -m export.golden_vectors write` is to be run when it is meant."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asr
from asr.bundle import Bundle, builtin_bundle_path, open_bundle
from asr.errors import AsrError
from asr.evaluation.accuracy.wer import WordErrors
from asr.features import compute_features
from export.golden_vectors.__main__ import texts
from export.golden_vectors.files import read_arrays, read_json
from export.golden_vectors.model import Scenario, encoder_output, made_of, run_stream
from export.golden_vectors.scripts import METERS, run_again, run_meters
from tests.exact_bundle import CHECKPOINT, write_exact_bundle
from training.checkpoint import load_model

GOLDEN = Path("data/golden")
LIMIT_BYTES = 2_000_000
WER_POINTS = 0.003
"""Of int8 on another machine or with another onnxruntime."""

STREAMS = read_json(GOLDEN / "model/streams.json")
NAMES = [name for name in STREAMS if name not in ("made_of", "onnxruntime", "references")]


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The shipped weights in fp32."""
    return write_exact_bundle(tmp_path_factory.mktemp("exact") / "en", *load_model(CHECKPOINT))


def recordings() -> dict[str, np.ndarray]:
    return read_arrays(GOLDEN / "model/recordings.npz")


def assert_same(expected: Any, found: Any, tolerance: float, where: str) -> None:
    """Hold plain data against what was read from JSON."""
    if isinstance(expected, dict):
        assert expected.keys() == found.keys(), where
        for key, value in expected.items():
            assert_same(value, found[key], tolerance, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(expected) == len(found), where
        for number, value in enumerate(expected):
            assert_same(value, found[number], tolerance, f"{where}[{number}]")
    elif isinstance(expected, float) and found is not None:
        assert math.isclose(expected, found, rel_tol=0, abs_tol=tolerance), f"{where}: {found}"
    else:
        assert expected == found, where


def root_mean_square(difference: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(difference))))


def test_they_are_small_and_of_the_built_in_model() -> None:
    files = [file for file in GOLDEN.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= LIMIT_BYTES
    found = made_of(open_bundle(builtin_bundle_path()))
    assert found == STREAMS["made_of"], "run `python -m export.golden_vectors write`"


def test_features() -> None:
    arrays = read_arrays(GOLDEN / "model/features.npz")
    names = [key.removesuffix(".samples") for key in arrays if key.endswith(".samples")]
    assert len(names) >= 6
    for name in names:
        found = compute_features(arrays[f"{name}.samples"])
        np.testing.assert_allclose(found, arrays[f"{name}.frames"], rtol=0, atol=1e-4)


def test_encoder_output(exact: Bundle) -> None:
    arrays = read_arrays(GOLDEN / "model/encoder.npz")
    found = encoder_output(exact, "fp32", arrays["features"])
    np.testing.assert_allclose(found, arrays["fp32"], rtol=0, atol=1e-3)
    # Rounding to int8 turns an error of 1e-7 into one of 0.03: the mean tells, not the worst.
    found = encoder_output(open_bundle(builtin_bundle_path()), "int8", arrays["features"])
    quantization = root_mean_square(arrays["int8"] - arrays["fp32"])
    assert root_mean_square(found - arrays["int8"]) <= 0.7 * quantization


def test_streams_in_fp32(exact: Bundle) -> None:
    speech, heard = recordings(), asr.load(exact.path, precision="fp32")
    assert len(NAMES) >= 9
    for name in NAMES:
        scenario = Scenario.from_json(STREAMS[name]["scenario"])
        golden = run_stream(heard, scenario, speech)
        found = {
            "events": golden.events,
            "skipped_s": golden.skipped_s,
            "segment_tokens": golden.segment_tokens,
        }
        expected = STREAMS[name]["golden"]["fp32"]
        assert_same(expected, json.loads(json.dumps(found)), 2e-3, name)


def test_streams_in_int8_make_as_many_word_errors() -> None:
    speech, heard = recordings(), asr.load(precision="int8", search="greedy")
    before, now = [], []
    for name, reference in STREAMS["references"].items():
        golden = run_stream(heard, Scenario.from_json(STREAMS[name]["scenario"]), speech)
        expected = STREAMS[name]["golden"]["int8"]["events"][-1]["result"]["text"]
        before.append(WordErrors.between(reference, expected))
        now.append(WordErrors.between(reference, golden.events[-1]["result"]["text"]))
    assert abs(WordErrors.total(now).rate - WordErrors.total(before).rate) <= WER_POINTS


@pytest.mark.parametrize(
    ("name", "count"), [("segments", 200), ("gate", 30), ("governor", METERS), ("admissions", 300)]
)
def test_scripts(name: str, count: int) -> None:
    expected, found = run_again(GOLDEN / "scripts", name)
    assert len(expected) == count
    assert_same(expected, json.loads(json.dumps(found)), 1e-9, name)


@pytest.mark.parametrize(("split", "of"), [("train", " of the split 'train'"), (None, "")])
def test_few_recordings_are_no_comparison(split: str | None, of: str, tmp_path: Path) -> None:
    row = {"audio": __file__, "duration": 1.0, "text": "one", "split": "train"}
    lines = [json.dumps(row | {"id": f"{number}"}) for number in range(29)]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    with pytest.raises(AsrError, match=rf"29 recordings{of}; expected 30 or more"):
        texts(tmp_path / "manifest.jsonl", tmp_path / "out", split=split)
    assert not (tmp_path / "out").exists()


def test_a_change_of_the_governor_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read_json(GOLDEN / "scripts/governor.json.gz")[:100]
    arrays = read_arrays(GOLDEN / "scripts/governor.npz")
    scripts = [row["script"] for row in rows]
    end = sum(script["steps"] for script in scripts)
    monkeypatch.setattr("asr.governor.UP_AT", 0.69)
    found = run_meters(scripts, arrays["load"][:end], arrays["queue"][:end])
    assert json.loads(json.dumps(found)) != [row["golden"] for row in rows]
