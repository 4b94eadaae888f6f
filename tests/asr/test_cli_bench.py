"""`asr bench` from arguments to report, picture and exit code, with a tiny model, under stress in
real time. Whether a real model keeps its budget is measured, not tested: here budgets are out of
reach on either side."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from asr.calibration import Admitted
from asr.cli import app
from asr.evaluation.bench.rows import figure, not_available
from asr.evaluation.under_load import hogs, stress

Write = Callable[..., Path]

QUICK = ["--seconds", "1", "--probe-seconds", "0.2"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def bench(tiny_bundle: Path, write_speech: Write) -> Callable[..., Result]:
    """Run the command with some recording and the tiny model."""
    recording = write_speech("speech.wav", 0.7)

    def run(*arguments: object) -> Result:
        # The variants of a matrix name their models themselves.
        model = [] if "--matrix" in arguments else ["--model", tiny_bundle]
        command = ["bench", recording, *model, *arguments]
        return CliRunner().invoke(app, [*map(str, command)])

    return run


def test_a_run_from_arguments_to_report_and_picture(
    bench: Callable[..., Result], tmp_path: Path
) -> None:
    report, plot = tmp_path / "out.json", tmp_path / "out.png"
    budget = ["--budget-rtf", 1000, "--hogs", 1]
    done = bench("--stress", *QUICK, *budget, "--report", report, "--plot", plot)
    assert done.exit_code == 0, done.output
    content = json.loads(report.read_text())
    assert (content["lost_audio_s"], content["moves"], content["overruns"]) == (0, 0, 0)
    assert 0 < content["rtf_last_min"] <= content["budget_rtf"] == 1000
    assert content["max_queue_s"] >= 0
    assert content["ungoverned_rtf"] > 0
    assert content["ended_at"] == content["best_point"] == {"chunk_ms": 320}
    assert (content["complete"], content["broken"], content["refused"]) == (True, [], None)
    assert (content["seconds"], content["probe_s"], content["hogs"]) == (1, 0.2, 1)
    assert content["audio_s"] == pytest.approx(1.19, abs=0.05)  # with the tail
    assert content["model"]["name"] == "tiny"
    assert [rung["measured_rtf"] is not None for rung in content["ladder"]] == [True] * 4
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "320 ms, the best point" in done.stdout
    assert "kept: no audio lost, the last minute within the budget" in done.stderr
    assert "320 ms, the best point, is within it without a governor too" in done.stderr


def test_a_broken_promise_is_exit_code_1(
    bench: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can compute in no time, so a budget that was admitted by mistake is broken."""
    monkeypatch.setattr(
        "asr.calibration.admit",
        lambda budget, profile, preferred, *_: Admitted(preferred, preferred, profile.rtf, 0.0),
    )
    report = tmp_path / "out.json"
    done = bench("--stress", *QUICK, "--hogs", 0, "--budget-rtf", "1e-9", "--report", report)
    assert done.exit_code == 1, done.output
    (line,) = json.loads(report.read_text())["broken"]
    assert line.endswith("over the budget of 1e-09")
    assert f"broken: {line}" in done.stderr
    assert "kept" not in done.stderr


def test_a_budget_out_of_reach_is_refused_and_the_report_says_what_fits(
    bench: Callable[..., Result], tmp_path: Path
) -> None:
    report, plot = tmp_path / "out.json", tmp_path / "out.png"
    done = bench("--stress", "--budget-rtf", "1e-9", "--report", report, "--plot", plot)
    assert done.exit_code == 2
    content = json.loads(report.read_text())
    assert content["refused"].startswith("rtf=1e-09 can't be held: the lowest operating point")
    assert "ask for that or more" in content["refused"]
    assert f"error: {content['refused']}" in done.stderr
    assert content["complete"] is False
    assert not plot.exists()
    assert f"no {plot}: the run with the budget did not begin" in done.stderr


def test_an_interrupt_leaves_a_report_that_says_so(
    bench: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no hogs; Ctrl-C here comes before the first block."""

    @contextmanager
    def at_once() -> Iterator[Callable[[], bool]]:
        yield lambda: True

    started: list[hogs.Hogs] = []

    class Watched(hogs.Hogs):
        def __init__(self, count: int) -> None:
            super().__init__(count)
            started.append(self)

    monkeypatch.setattr("asr.cli.bench_stress.stop_on_signals", at_once)
    monkeypatch.setattr(stress, "Hogs", Watched)
    report = tmp_path / "out.json"
    done = bench("--stress", "--hogs", 1, "--report", report)
    assert done.exit_code == 130, done.output
    assert json.loads(report.read_text())["complete"] is False
    assert "interrupted: the figures are of a part only" in done.stderr
    assert [hog.pids for hog in started] == [()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stress", "--budget-rtf", 1, "--budget-factor", 2], "both --budget-rtf and --budget-f"),
        (["--stress", "--budget-rtf", 0], "budget_rtf=0.0; expected a positive number"),
        (["--stress", "--seconds", "nan"], "seconds"),
        (["--stress", "--hogs", -1], "--hogs"),
        (["--stress", "none.jsonl"], "can't read the manifest none.jsonl"),
        (["--stress", "none.wav"], "none.wav: no such file"),
        (
            ["--stress", "--report", "none/out.json"],
            "--report none/out.json: there is no directory",
        ),
        (["--stress", "--report", "."], "--report .: no plain file; expected a file name"),
        (["--stress", "--plot", "out.jpg"], "expected a name that ends in .png, .svg, .pdf"),
    ],
)
def test_what_can_not_be_done_is_said_before_anything_runs(
    bench: Callable[..., Result], arguments: list[object], message: str
) -> None:
    done = bench(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_recordings_of_different_rates(bench: Callable[..., Result], write_speech: Write) -> None:
    done = bench("--stress", write_speech("other.wav", 0.3, rate=8000))
    assert done.exit_code == 2
    assert "one stream takes one rate" in done.stderr


def test_a_picture_needs_matplotlib(
    bench: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.cli.bench_stress.find_spec", lambda name: None)
    done = bench("--stress", "--plot", "out.png")
    assert done.exit_code == 2
    assert "--plot needs matplotlib: pip install 'earshot-asr[eval]'" in done.stderr


@pytest.mark.parametrize("mode", [[], ["--stress"]])
def test_an_installed_package_asks_for_recordings(
    monkeypatch: pytest.MonkeyPatch, mode: list[str]
) -> None:
    monkeypatch.setattr("asr.cli.bench._SAMPLES", Path("no/such/manifest.jsonl"))
    done = CliRunner().invoke(app, ["bench", *mode])
    assert done.exit_code == 2
    assert "an installed package has no recordings; name some" in done.stderr


# --- without --stress --------------------------------------------------------------------------

PLAIN = ["--repeat", "1", "--warmup", "0", "--growth-minutes", "0"]


def test_a_plain_run_shows_and_writes_all_rows(
    bench: Callable[..., Result], tmp_path: Path
) -> None:
    report = tmp_path / "out.json"
    done = bench(*PLAIN, "--per-op", "--report", report)
    assert done.exit_code == 0, done.output
    content = json.loads(report.read_text())
    assert (content["kind"], content["complete"], content["threads"]) == ("bench", True, 1)
    assert content["machine"]["usable_cpus"] >= 1
    assert content["command"]
    assert content["model"]["name"] == "tiny"
    for name, row in content["rows"].items():
        assert (row["value"] is None) != (row["reason"] is None), name
        assert name in done.stdout
    assert content["rows"]["load_ms"]["value"] > 0
    assert content["rows"]["wer"]["reason"].startswith("what is said is not known")
    assert {item["name"] for item in content["operators"]["by_type"]} >= {"MatMul"}
    assert "operators" in done.stdout


def test_a_sustained_run(bench: Callable[..., Result], tmp_path: Path) -> None:
    report = tmp_path / "out.json"
    done = bench("--sustained", "0.03", "--report", report)
    assert done.exit_code == 0, done.output
    content = json.loads(report.read_text())
    assert (content["kind"], content["complete"]) == ("sustained", True)
    assert content["samples"]
    assert content["seconds"] >= 1.8
    assert "rtf_cv" in done.stdout


def test_a_sustained_run_that_is_interrupted(
    bench: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def at_once() -> Iterator[Callable[[], bool]]:
        yield lambda: True

    monkeypatch.setattr("asr.cli.bench_view.stop_on_signals", at_once)
    report = tmp_path / "out.json"
    done = bench("--sustained", "9", "--report", report)
    assert done.exit_code == 130, done.output
    assert json.loads(report.read_text())["complete"] is False


def test_a_matrix_of_the_same_bundle_twice(
    bench: Callable[..., Result], tiny_bundle: Path, tmp_path: Path
) -> None:
    matrix, report, table = tmp_path / "m.yaml", tmp_path / "out.json", tmp_path / "R.md"
    variants = "".join(f"  - {{name: {name}, model: {tiny_bundle}}}\n" for name in ("a", "b"))
    matrix.write_text(f"repeat: 1\nvariants:\n{variants}")
    table.write_text("<!-- matrix: made by asr bench --matrix -->\n<!-- /matrix -->\n")
    done = bench("--matrix", matrix, "--report", report, "--table", table)
    assert done.exit_code == 0, done.output
    content = json.loads(report.read_text())
    assert [variant["name"] for variant in content["variants"]] == ["a", "b"]
    assert content["variants"][1]["load_ms"] > 0
    assert content["roofline"]["bandwidth_gb_s"] > 0
    assert "| a |" in done.stdout
    assert "| b |" in table.read_text()


def test_a_matrix_that_is_interrupted_leaves_the_table_as_it_was(
    bench: Callable[..., Result],
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def at_once() -> Iterator[Callable[[], bool]]:
        yield lambda: True

    monkeypatch.setattr("asr.cli.bench_view.stop_on_signals", at_once)
    matrix, report, table = tmp_path / "m.yaml", tmp_path / "out.json", tmp_path / "R.md"
    matrix.write_text(f"repeat: 9\nvariants: [{{name: a, model: {tiny_bundle}}}]\n")
    before = "<!-- matrix: made by asr bench --matrix -->\nolder\n<!-- /matrix -->\n"
    table.write_text(before)
    done = bench("--matrix", matrix, "--report", report, "--table", table)
    assert done.exit_code == 130, done.output
    content = json.loads(report.read_text())
    assert content["complete"] is False
    assert content["audio_s"] < 1, "more than the first recording"
    assert table.read_text() == before


def test_a_device_gets_the_options_and_gives_its_rows(
    bench: Callable[..., Result],
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[str]] = []

    def run_on_device(transport: object, bundle: Path, *rest: object) -> dict:
        assert bundle == tiny_bundle.resolve(), "it is named there as its folder is here"
        asked.append(list(rest[1]))  # type: ignore[call-overload]
        rows = {"rtf": figure(0.25, "").to_dict(), "wer": not_available("", "no texts").to_dict()}
        machine = {"processor": "a board"}
        return {"device": "ssh board", "commit": None, "machine": machine, "rows": rows}

    monkeypatch.setattr("asr.evaluation.bench.devices.run_on_device", run_on_device)
    report = tmp_path / "out.json"
    monkeypatch.chdir(tiny_bundle)
    options = ("--ssh", "board", "--chunk-ms", 640, "--model", ".")
    done = bench(*PLAIN, *options, "--report", report)
    assert done.exit_code == 0, done.output
    (arguments,) = asked
    assert arguments[arguments.index("--chunk-ms") + 1] == "640"
    assert arguments[arguments.index("--repeat") + 1] == "1"
    content = json.loads(report.read_text())
    assert content["device"] == "ssh board"
    assert content["commit"] is not None  # of the sources that were pushed there
    assert done.stdout.splitlines() == ["on ssh board: a board", "rtf  0.25", "wer  n/a: no texts"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stress", "--sustained", 1], "--stress and --sustained: each is a run of its own"),
        (["--per-op", "--matrix", "m.yaml"], "--matrix and --per-op: each is a run of its own"),
        (["--adb", "R58", "--ssh", "board"], "--adb and --ssh don't go together"),
        (["--stress", "--ssh", "board"], "--stress and --ssh don't go together"),
        (["--table", "R.md"], "--table is written by --matrix only"),
        (
            ["--matrix", "m.yaml", "--chunk-ms", 640],
            "--matrix and --chunk-ms: each variant of m.yaml",
        ),
        (["--matrix", "none.yaml"], "can't read the matrix none.yaml"),
        (["--repeat", 0], "--repeat"),
        (["--threads", 0], "0 threads; expected one or more"),
        (["--sustained", "nan"], "--sustained nan; expected minutes"),
        (["--plot", "out.svg"], "--plot is drawn by --stress only"),
        (["none.wav"], "none.wav: no such file"),
        (["--report", "none/out.json"], "there is no directory none"),
    ],
)
def test_what_a_run_can_not_be_is_said_at_once(
    bench: Callable[..., Result], arguments: list[object], message: str
) -> None:
    done = bench(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
