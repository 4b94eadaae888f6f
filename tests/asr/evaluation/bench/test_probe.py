"""Loading and memory in a process of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.evaluation.bench.probe import ProbeError, ProbePlan, growth_mb_per_h, measure


def test_a_fresh_process_loads_hears_and_grows(
    tiny_bundle: Path,
    write_speech: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recording = str(write_speech("speech.wav", 6.0))
    plan = ProbePlan(
        model=str(tiny_bundle),
        precision="int8",
        engine="onnx",
        recordings=(recording,),
        growth_s=60,
    )
    found = measure(plan)
    assert found.import_ms > 1
    assert found.load_ms > 1
    assert found.first_chunk_ms is not None and found.first_chunk_ms > 0
    assert 10 < found.rss_import_mb < found.rss_load_mb <= found.rss_peak_mb < 1000
    assert len(found.memory_mb) == 10  # at the end of each recording, or of more than 5 s
    assert found.growth_mb_per_h is not None


def test_what_went_wrong_there_is_told_here(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"a fresh process failed: .*no such"):
        measure(ProbePlan(model=str(tmp_path / "none"), precision="int8", engine="onnx"))


@given(st.floats(-50, 50), st.floats(1, 500))
@settings(max_examples=50)
def test_growth_is_the_slope_without_the_beginning(slope: float, start_mb: float) -> None:
    samples = [(s, start_mb + slope * s / 3600) for s in range(300, 3600, 60)]
    beginning = [(s, 0.0) for s in range(0, 300, 60)]  # buffers that fill
    assert growth_mb_per_h([*beginning, *samples]) == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("samples", [[], [(0.0, 1.0)], [(0.0, 1.0), (30.0, 1.0), (60.0, 2.0)]])
def test_too_few_samples_have_no_slope(samples: list[tuple[float, float]]) -> None:
    assert growth_mb_per_h(samples) is None
