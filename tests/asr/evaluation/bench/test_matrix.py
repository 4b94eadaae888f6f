"""Variants side by side: the file that names them, the run, the table."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr.errors import AsrError
from asr.evaluation.bench import matrix
from asr.evaluation.bench.matrix_file import MatrixPlan, Variant, read_matrix
from asr.evaluation.bench.matrix_table import FIRST, LAST, check_markers, markdown, write_table
from asr.evaluation.bench.probe import ProbeError, ProbePlan, ProbeResult
from asr.evaluation.cost.roofline import MachineRates, measure_rates
from asr.evaluation.playback import Recording

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _file(folder: Path, text: str) -> Path:
    path = folder / "matrix.yaml"
    path.write_text(text)
    return path


def test_variants_and_a_grid(tmp_path: Path) -> None:
    text = """
manifest: sets/dev.jsonl
split: dev
limit: 40
repeat: 5
variants:
  - {name: baseline, model: bundles/plain, precision: int8, threads: 2, engine: onnx}
grid:
  precision: [int8, fp32]
  chunk_ms: [160, 320]
"""
    plan = read_matrix(_file(tmp_path, text))
    assert plan.manifest == tmp_path / "sets/dev.jsonl"
    assert (plan.split, plan.limit, plan.repeat, plan.baseline) == ("dev", 40, 5, 0)
    assert plan.variants[0] == Variant(
        name="baseline",
        model=tmp_path / "bundles/plain",
        precision="int8",
        engine="onnx",
        threads=2,
    )
    assert [variant.name for variant in plan.variants[1:]] == [
        "int8 160 ms",
        "int8 320 ms",
        "fp32 160 ms",
        "fp32 320 ms",
    ]
    assert plan.variants[4] == Variant(name="fp32 320 ms", precision="fp32", chunk_ms=320)


def test_the_baseline_is_the_one_of_that_name_else_the_first() -> None:
    names = [Variant(name=name) for name in ("a", "b", "baseline")]
    assert MatrixPlan(tuple(names), None).baseline == 2
    assert MatrixPlan(tuple(names[:2]), None).baseline == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected keys and values, got None"),
        ("[1, 2]", "expected keys and values"),
        ("a: [", "can't read the matrix"),
        ("split: 2020-13-45", "can't read the matrix"),
        ("a: " + 2000 * "[", "can't read the matrix"),
        ("repeat: 3", "nothing to compare"),
        ("varients: []", "unknown key 'varients'; did you mean 'variants'"),
        ("variants: 3", "variants is 3; expected a list"),
        ("variants: [{model: x}]", "a variant without a name"),
        ("variants: [{name: a, thread: 2}]", "unknown key 'thread'; did you mean 'threads'"),
        ("variants: [{name: a, threads: 0}]", "threads is 0; expected a number, 1 or more"),
        ("variants: [{name: a}, {name: a}]", "two variants are named 'a'"),
        ("grid: {chunk: [160]}", "unknown key 'chunk'; did you mean 'chunk_ms'"),
        ("variants: [{name: a}]\nrepeat: often", "repeat is 'often'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_key(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(AsrError, match="matrix") as error:
        read_matrix(_file(tmp_path, text))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("chunks", "slice_ms"),
    [([320], 320), ([320, 160], 320), ([240, 320], 960), ([2560, 1000, 680], 2560)],
)
def test_a_slice_holds_whole_chunks_of_all_unless_it_is_too_long(
    chunks: list[int], slice_ms: int
) -> None:
    assert matrix.slice_ms(chunks) == slice_ms


class TickingClock:
    """Goes on by a millisecond each time that it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def _probe(plan: ProbePlan) -> ProbeResult:
    return ProbeResult(1.0, 20.0, 3.0, 40.0, 50.0, 60.0, ())


def _runs(bundle: Path, *chunks: int) -> list[matrix.VariantRun]:
    variants = [
        Variant(name="baseline" if not number else f"{chunk} ms", model=bundle, chunk_ms=chunk)
        for number, chunk in enumerate(chunks)
    ]
    return [matrix.load_variant(variant) for variant in variants]


def test_the_same_bundle_twice_costs_the_same(tiny_bundle: Path, write_speech: Write) -> None:
    """On a clock that ticks alike for all, the ratio is exactly one; the other, with chunks of half
    the length, makes twice the calls for the same audio."""
    recordings = [Recording(write_speech(f"{n}.wav", 3.0), "so to me") for n in range(2)]
    runs = _runs(tiny_bundle, 320, 320, 160)
    clock = TickingClock()
    for run in runs:
        run.engine._clock = clock
    matrix.run_matrix(runs, recordings, repeat=2, clock=clock)
    results = [matrix.variant_result(run, runs[0], recordings, _probe) for run in runs]
    first, same, half = results
    assert (first["step_ratio"], same["step_ratio"]) == (1.0, pytest.approx(1.0))
    assert same["rtf_ratio"] == pytest.approx(1.0, rel=0.1)
    assert half["step_ratio"] == pytest.approx(2.0)
    assert first["wer"] == same["wer"]
    assert same["wer_delta"] == 0
    assert (first["load_ms"], first["peak_rss_mb"], first["reasons"]) == (20.0, 60.0, {})
    assert first["nodes"] > 5
    assert first["file_mb"] > 0
    assert first["chunk_ms"] == 320 and half["chunk_ms"] == 160
    assert runs[0].audio_s == pytest.approx(12.0)
    assert first["step_ms_p50"] == pytest.approx(1.0)


def test_every_slice_begins_with_another_variant(
    tiny_bundle: Path, write_speech: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes first finds other caches: no variant may always be it."""
    played: list[matrix.Playing] = []
    accept = matrix.Playing.accept

    def noting(self: matrix.Playing, samples: np.ndarray, rate: int) -> None:
        played.append(self)
        accept(self, samples, rate)

    monkeypatch.setattr(matrix.Playing, "accept", noting)
    recordings = [Recording(write_speech("speech.wav", 1.6))]
    matrix.run_matrix(_runs(tiny_bundle, 320, 320, 320), recordings, repeat=1)
    measured = played[len(played) // 2 :]  # the first half was the warm-up
    slices = [measured[start : start + 3] for start in range(0, len(measured), 3)]
    assert len(slices) >= 5
    for one, following in pairwise(slices):
        assert following == [*one[1:], one[0]]
        assert len(set(map(id, one))) == 3


def test_what_a_variant_lacks_has_a_reason(tiny_bundle: Path, write_speech: Write) -> None:
    def fail(plan: ProbePlan) -> ProbeResult:
        raise ProbeError("no memory")

    recordings = [Recording(write_speech("speech.wav", 2.0))]
    (run,) = _runs(tiny_bundle, 320)
    matrix.run_matrix([run], recordings, repeat=1)
    result = matrix.variant_result(run, run, recordings, fail)
    assert (result["load_ms"], result["wer"], result["wer_delta"]) == (None, None, None)
    assert result["reasons"] == {
        "load_ms": "no memory",
        "peak_rss_mb": "no memory",
        "wer": "the recordings have no texts",
        "wer_delta": "the recordings have no texts",
    }


def test_chunks_longer_than_the_recordings_have_no_ratio(
    tiny_bundle: Path, write_speech: Write
) -> None:
    recordings = [Recording(write_speech("speech.wav", 2.0))]
    short, long = runs = _runs(tiny_bundle, 320, 2560)
    matrix.run_matrix(runs, recordings, repeat=1)
    result = matrix.variant_result(long, short, recordings, _probe)
    assert (result["step_ratio"], result["rtf_ratio"]) == (None, None)
    assert result["reasons"]["rtf_ratio"] == "no recording is as long as the chunks of both"


def test_a_wish_to_stop_leaves_the_recordings_that_were_heard(
    tiny_bundle: Path, write_speech: Write
) -> None:
    recordings = [Recording(write_speech(f"{n}.wav", 2.0), "so to me") for n in range(2)]
    (run,) = _runs(tiny_bundle, 320)
    assert not matrix.run_matrix([run], recordings, repeat=3, stopped=lambda: True)
    assert (run.audio_s, run.errors.words) == (pytest.approx(2.0), 3)


def test_recordings_shorter_than_a_chunk_are_refused(
    tiny_bundle: Path, write_speech: Write
) -> None:
    (run,) = _runs(tiny_bundle, 320)
    short = write_speech("short.wav", 0.001)
    with pytest.raises(AsrError, match="shorter than a chunk"):
        matrix.run_matrix([run], [Recording(short)], repeat=0)


def test_graphs_that_a_bundle_has_not(tiny_bundle: Path) -> None:
    with pytest.raises(AsrError, match=r"variant 'four': .*int4"):
        matrix.load_variant(Variant(name="four", model=tiny_bundle, precision="int4"))
    with pytest.raises(AsrError, match="executorch"):
        matrix.load_variant(Variant(name="pte", model=tiny_bundle, engine="executorch"))


def test_rates_of_this_machine_are_plausible() -> None:
    """A clock that stands for time is enough: the graphs must be ones that the engine runs."""
    rates = measure_rates()
    assert 0.1 < rates.bandwidth_gb_s < 2000
    assert 0.1 < rates.fp32_gmac_s < 20_000
    assert 0.1 < rates.int8_gmac_s < 20_000


def test_a_roofline_needs_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.evaluation.cost.roofline.find_spec", lambda name: None)
    assert "pip install 'earshot-asr[eval]'" in matrix.roofline_result([], measure_rates)["reason"]


def _content(roofline: dict[str, Any]) -> dict[str, Any]:
    variant = {"name": "a|b", "file_mb": 5.5, "step_ms_p50": 4.07, "wer": 0.1538}
    return {
        "variants": [variant | {"wer_delta": 0.001, "nodes": 886, "load_ms": None}],
        "roofline": roofline,
        "engine": "onnxruntime 1",
        "machine": {"processor": "a CPU"},
        "date": "2026-11-21T10:00:00",
        "commit": None,
        "version": "0.1.0",
        "command": "asr bench --matrix m.yaml",
    }


def test_the_table_stands_between_its_markers(tmp_path: Path) -> None:
    path = tmp_path / "R.md"
    path.write_text(f"before\n{FIRST}old\n{LAST}after\n")
    rates = {"bandwidth_gb_s": 20.0, "int8_gmac_s": 200.0, "fp32_gmac_s": 50.0}
    bound = {"name": "baseline", "mb_per_step": 6.5, "mmac_per_step": 39.4, "bound_ms": 0.3}
    roofline = {**rates, "variants": [bound | {"bound_by": "memory", "achieved": 0.07}]}
    for _ in range(2):  # writing it again changes nothing
        write_table(path, _content(roofline))
    text = path.read_text()
    assert text.startswith(f"before\n{FIRST}| variant | MB |")
    assert text.endswith(f"{LAST}after\n")
    assert "| a\\|b | 5.5 | 4.07 | n/a | n/a | n/a | n/a | n/a | 15.38 | +0.10 | 886 |" in text
    assert "| baseline | 6.5 | 39.4 | 0.3 | memory | 0.07 |" in text
    assert "old" not in text


def test_a_roofline_that_is_not_there_says_why() -> None:
    assert "No roofline: no onnx.\n" in markdown(_content({"reason": "no onnx"}))


@pytest.mark.parametrize("text", ["", FIRST, LAST + FIRST, FIRST + LAST + FIRST + LAST])
def test_a_file_without_one_pair_of_markers_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "R.md"
    path.write_text(text)
    with pytest.raises(AsrError, match=r"--table .*R\.md: expected one line"):
        check_markers(path)


def test_rates_are_asked_for_once_for_all_variants(tiny_bundle: Path) -> None:
    runs = _runs(tiny_bundle, 320, 160)
    for run in runs:
        run.steps_s.append(0.001)
    found = matrix.roofline_result(runs, lambda: MachineRates(10.0, 100.0, 50.0))
    assert [item["name"] for item in found["variants"]] == ["baseline", "160 ms"]
    assert all(item["achieved"] > 0 for item in found["variants"])
    assert json.dumps(found)
