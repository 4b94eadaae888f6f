"""A plain benchmark with a tiny model: every row of the list has a value or a reason."""

from collections.abc import Callable
from pathlib import Path

import pytest

import asr
from asr.engines.onnx import OnnxEngine
from asr.errors import AsrError
from asr.evaluation.bench import untimed_rows
from asr.evaluation.bench.bench_rows import BenchSettings, collect_rows
from asr.evaluation.bench.benchmark import (
    Bench,
    BenchPlan,
    bench_result,
    chunk_histogram,
    speed_rows,
)
from asr.evaluation.bench.probe import ProbeError, ProbePlan, ProbeResult
from asr.evaluation.cost.energy import PowerRails
from asr.evaluation.envelope import describe_run
from asr.evaluation.playback import Recording

Write = Callable[..., Path]

# Of the list of rows that a recogniser's benchmark should have; energy per rail comes on top.
EXPECTED = """
wer ins del sub cer ci95_low ci95_high words
size_mb size_fp32_mb size_int8_mb bundle_mb params params_encoder params_predictor params_joiner
installed_mb dependencies rtf rtfx rtf_p95_chunk chunk_ms_p50 chunk_ms_p95 chunk_ms_p99
chunks_per_s tokens_per_s deadline_miss_percent
share_features share_encoder share_predictor share_joiner share_search
algorithmic_latency_ms first_partial_ms response_latency_ms_p50 response_latency_ms_p90
emission_latency_ms_p50 emission_latency_ms_p90 display_latency_ms_p50 display_latency_ms_p90
endpoint_latency_ms_p50 endpoint_latency_ms_p90 partial_revisions_per_word unstable_partial_wer
load_ms import_load_ms first_chunk_ms rss_load_mb rss_peak_mb growth_mb_per_h state_bytes
energy_mj_per_audio_s energy_raw_mj_per_audio_s mwh_per_audio_h mah_per_audio_h
energy_modelled_mj_per_audio_s energy_modelled_encoder_mj_per_audio_s
energy_modelled_predictor_mj_per_audio_s energy_modelled_joiner_mj_per_audio_s
dram_bytes_per_audio_s temp_max_c throttled_at_s rtf_first_min rtf_last_min
rtf_budget mem_budget_mb actions violations
""".split()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def bench(tiny_bundle: Path, write_speech: Write) -> Bench:
    recordings = [Recording(write_speech(f"{n}.wav", 2.0), "so to me") for n in range(2)]
    return Bench(asr.load(tiny_bundle), recordings)


def _probe(plan: ProbePlan) -> ProbeResult:
    memory_mb = tuple((float(s), 50.0) for s in range(0, 100, 5)) if plan.growth_s else ()
    return ProbeResult(100.0, 20.0 + len(plan.recordings), 3.0, 40.0, 50.0, 60.0, memory_mb)


def test_every_row_has_a_value_or_a_reason(bench: Bench, tmp_path: Path) -> None:
    source = PowerRails("rails", {"cpu": lambda: 2.0})
    rows = collect_rows(
        bench,
        BenchPlan(repeat=2, warmup=1),
        BenchSettings(idle_s=0.01),
        [],
        probe=_probe,
        source=source,
    )
    assert list(rows) == EXPECTED
    assert len(bench.passes) == 2
    assert rows["rtf"].n == 2
    assert rows["words"].value == 6
    assert rows["load_ms"].spread == pytest.approx((20.5, 21.5))
    assert rows["growth_mb_per_h"].value == pytest.approx(0)
    assert rows["energy_mj_per_audio_s"].source == "measured: rails"
    assert rows["rtf_budget"].reason == "this run has no budget; --stress has"
    bundle = bench.recognizer.bundle
    state = bundle.model.encoder_layers * (64 + 1 + 3) * 2 * bundle.model.encoder_dim * 4
    assert rows["state_bytes"].value == state
    shares = [rows[f"share_{stage}"].value or 0.0 for stage in ("features", "encoder", "search")]
    assert 0.3 < sum(shares) < 1
    histogram = chunk_histogram(bench.passes)
    assert sum(histogram["counts"]) == sum(len(one.chunks) for one in bench.passes)


def test_what_fails_in_another_process_is_a_reason(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without flite

    def fail(plan: ProbePlan) -> ProbeResult:
        raise ProbeError("no memory")

    rows = collect_rows(bench, BenchPlan(1, 0), BenchSettings(), [], probe=fail, no_source="none")
    assert rows["load_ms"].reason == rows["rss_peak_mb"].reason == "no memory"
    assert "apt install flite" in (rows["emission_latency_ms_p50"].reason or "")
    assert rows["energy_mj_per_audio_s"].reason == "none"


def test_an_interrupt_keeps_the_passes_that_were_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = bench.once()

    def once() -> object:
        if bench.passes:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(bench, "once", once)
    rows = collect_rows(bench, BenchPlan(3, 0), BenchSettings(), [], probe=_probe)
    assert (len(bench.passes), rows["rtf"].n) == (1, 1)
    assert rows["emission_latency_ms_p50"].reason == "interrupted"


def test_a_late_interrupt_costs_the_rows_that_are_being_measured(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without flite

    def probe(plan: ProbePlan) -> ProbeResult:
        raise KeyboardInterrupt

    plan = BenchPlan(1, 0)
    rows = collect_rows(bench, plan, BenchSettings(), [], probe=probe)
    assert rows["load_ms"].reason == rows["growth_mb_per_h"].reason == "interrupted"
    assert rows["rtf"].value is not None
    result = bench_result(describe_run(bench.recognizer), bench, plan, rows, [], threads=1)
    assert result["complete"] is False


def test_an_interrupt_before_any_pass_is_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def once() -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "once", once)
    with pytest.raises(KeyboardInterrupt):
        collect_rows(bench, BenchPlan(1, 0), BenchSettings(), [], probe=_probe)


def test_rests_come_before_measured_passes_only(bench: Bench) -> None:
    rests: list[float] = []
    rested = Bench(bench.recognizer, bench.recordings[:1], sleep=rests.append)
    plan = BenchPlan(repeat=2, warmup=1, cooldown_s=7)
    rested.warm_up(plan)
    assert rests == []
    rested.measure(plan)
    assert rests == [7, 7]


def test_no_pass_remembers_the_one_before(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine keeps what it has predicted, and a pass has the same words as the one before."""
    calls: list[int] = []
    predict = OnnxEngine._predict_bytes

    def counted(self: OnnxEngine, context: bytes) -> object:
        calls[-1] += 1
        return predict(self, context)

    monkeypatch.setattr(OnnxEngine, "_predict_bytes", counted)
    fresh = Bench(asr.load(bench.recognizer.bundle.path), bench.recordings)
    for _ in range(2):
        calls.append(0)
        fresh.once()
    assert calls[0] == calls[1] > 0


def test_passes_make_the_same_calls(bench: Bench) -> None:
    one, other = bench.once(), bench.once()
    assert one.times.calls == other.times.calls
    assert one.tokens == other.tokens
    assert [p.final.text for p in one.played] == [p.final.text for p in other.played]


def test_recordings_without_a_chunk_are_refused(bench: Bench, write_speech: Write) -> None:
    short = Bench(bench.recognizer, [Recording(write_speech("short.wav", 0.001))])
    if not short.once().chunks:
        with pytest.raises(AsrError, match="shorter than a chunk"):
            speed_rows([short.once()], 320, 358)


@pytest.mark.parametrize(
    "plan", [{"repeat": 0}, {"warmup": -1}, {"cooldown_s": float("nan")}, {"cooldown_s": -1.0}]
)
def test_a_plan_that_can_not_be(plan: dict) -> None:
    with pytest.raises(AsrError, match="expected repeat >= 1"):
        BenchPlan(**plan)


def test_error_rates_leave_out_what_has_no_text() -> None:
    recordings = [Recording(Path("a"), "One two"), Recording(Path("b")), Recording(Path("c"), "is")]
    rows = untimed_rows.accuracy_rows(recordings, ["one too", "never mind", "is it"])
    assert (rows["wer"].value, rows["words"].value) == (pytest.approx(2 / 3), 3)
    assert [rows[name].value for name in ("ins", "del", "sub")] == [1, 0, 1]
    assert rows["cer"].value == pytest.approx((1 + 3) / (7 + 2))
    none = untimed_rows.accuracy_rows(recordings[1:2], ["never mind"])
    assert all("name a manifest" in (row.reason or "") for row in none.values())
