"""make release-model: a better model is put in place whole, anything else changes nothing."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
from rich.console import Console

import asr
from asr.bundle import open_bundle
from asr.errors import AsrError, BundleError, ExportError
from asr.evaluation.accuracy.wer import WordErrors
from asr.evaluation.corpora.manifest import Manifest, read_manifest
from asr.evaluation.evaluate import EvaluationReport, evaluate
from asr.evaluation.noise import is_held_out
from asr.evaluation.speechless import SILENCE, Speechless
from export.bundle import BundleContents, write_bundle
from export.onnx import Graphs
from export.release import documents, pipeline
from export.release.curve import Point, extended, picture, read_curve, thinned
from export.release.judgement import objections
from export.release.measurement import MEASURED, measure
from export.release.pipeline import BUNDLE, CURVE, PICTURE, WEIGHTS, ReleaseOptions, release
from tests.asr.evaluated import scored
from tests.export.conftest import babble
from training.checkpoint import TrainedModel, save_model

QUIET = Console(quiet=True)
SETS = ("near", "far")
WORDS = 1000


def report(errors: int, words: int = WORDS) -> EvaluationReport:
    """Of one utterance with so many substitutions."""
    counts = WordErrors(hits=words - errors, substitutions=errors)
    return EvaluationReport((replace(scored("a", "word", "word"), errors=counts),), ())


def figures(int8: tuple[int, int], fp32: tuple[int, int] | None = None) -> dict[str, Any]:
    """Errors on `near` and `far`, of 1000 words each."""
    return {
        name: dict(zip(SETS, map(report, errors), strict=True))
        for name, errors in (
            ("int8", int8),
            ("fp32", fp32 or int8),
            ("one pass", int8),
            ("greedy", int8),
        )
    }


def row(wer: float, description: str = "") -> dict[str, Any]:
    return {"wer": wer, "ci95": [wer, wer], "words": WORDS, "description": description}


CARD = {"wer": {"near": row(0.5, "a quiet room"), "far": row(0.7)}, "training_data": "babble"}


@pytest.fixture(autouse=True)
def graphs_exported_before(exact: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint's own graphs, because tracing takes seconds."""
    monkeypatch.setattr("export.pipeline.export_graphs", lambda *_: exact)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two corpora, each with two recordings."""
    folder = tmp_path_factory.mktemp("data")
    for name in SETS:
        (folder / name).mkdir()
        rows = []
        for seed in range(2):
            soundfile.write(folder / name / f"{seed}.flac", babble(1, seed), 16_000)
            row = {"id": f"{name}{seed}", "audio": f"{seed}.flac", "duration": 1.0, "split": "dev"}
            rows.append(json.dumps({**row, "text": "the rain in spain"}) + "\n")
        (folder / name / "manifest.jsonl").write_text("".join(rows), encoding="utf-8")
    (folder / "noise").mkdir()
    for number in range(20):
        soundfile.write(folder / f"noise/{number}.wav", babble(1, number), 16_000)
    return folder


@pytest.fixture
def root(tmp_path: Path, contents: BundleContents, data: Path) -> Path:
    """A checkout with a bad model."""
    root = tmp_path / "checkout"
    old = replace(contents.with_precisions(["int8"]), card=CARD, name="en")
    write_bundle(root / BUNDLE, old)
    (root / WEIGHTS).mkdir(parents=True)
    (root / WEIGHTS / "model.safetensors").write_text("old weights")
    (root / CURVE).write_text('{"hours": 20, "sets": {"near": 0.9, "far": 0.95}}\n')
    (root / "data/samples").mkdir()
    shutil.copy(data / "near/0.flac", root / "data/samples/a.flac")
    sample = {"id": "a", "audio": "a.flac", "duration": 1.0, "text": "the rain in spain"}
    (root / "data/samples/manifest.jsonl").write_text(json.dumps(sample), encoding="utf-8")
    for name, parts in documents.PARTS_OF_DOCUMENTS.items():
        text = "".join(
            f"<!-- {part}: made by make release-model -->\nold {part}\n<!-- /{part} -->\n"
            for part in parts
        )
        (root / name).write_text(f"By hand.\n\n{text}\nBy hand too.\n", encoding="utf-8")
    return root


@pytest.fixture
def options(root: Path, tmp_path: Path, checkpoint: Path, data: Path) -> ReleaseOptions:
    """A run that went on at 25 hours and heard 50 more."""
    run = tmp_path / "run"
    trained = TrainedModel.load(checkpoint)
    save_model(run / "final", trained.model, trained.tokenizer, heard_hours=75)
    rows: list[dict[str, Any]] = [
        {"hours": 40.0, "sets": {"near": 0.4, "far": 0.6}, "wer": 0.5, "step": 80},
        {"hours": 50.0, "loss": 1.0, "step": 100},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "journal.jsonl").write_text(lines, encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    dev = ", ".join(f"{{name: {name}, manifests: {name}/manifest.jsonl}}" for name in SETS)
    recipe.write_text(
        "name: tiny\ntrain: {hours: 50}\n"
        f"data: {{train: [{{manifests: none}}], noise: noise/*, dev: [{dev}]}}\n"
    )
    return ReleaseOptions(run, data, recipe, commit="abc1234", root=root)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, Any]], None]:
    """Make `release` find given figures: those of a random model are as they are."""

    def hear_two_words(_: asr.Recognizer, noises: Iterable[Path]) -> Speechless:
        return Speechless(300.0, {SILENCE: "", **{noise.name: "oh no" for noise in noises}}, ())

    def find(reports: Mapping[str, Any]) -> None:
        monkeypatch.setattr(pipeline, "measure", lambda *_: reports)
        monkeypatch.setattr(pipeline, "hear_speechless", hear_two_words)

    find(figures((400, 600)))
    return find


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.usefixtures("measured")
def test_a_better_model_is_put_in_place_with_all_that_is_said_of_it(
    options: ReleaseOptions, root: Path
) -> None:
    release(options, QUIET)
    bundle = open_bundle(root / BUNDLE)
    assert list(bundle.precisions) == ["int8"]
    assert bundle.name == "en"
    card = bundle.card
    assert card["training_data"] == "babble"
    assert card["training_hours_seen"] == 75
    assert card["commit"] == "abc1234"
    assert card["export"]["max_abs_error"]["encoder"] <= 1e-4
    near = card["wer"]["near"]
    assert near["wer"] == near["fp32_wer"] == near["one_pass_wer"] == near["greedy_wer"] == 0.4
    assert (near["substitutions"], near["words"], near["utterances"]) == (400, WORDS, 1)
    assert near["description"] == "a quiet room"
    alone = card["speechless"]
    held_out = [noise.name for noise in (options.data / "noise").iterdir() if is_held_out(noise)]
    assert held_out
    assert alone["texts"] == dict.fromkeys(held_out, "oh no")
    weights = TrainedModel.load(root / WEIGHTS)
    assert weights.heard_hours == 75
    assert {path.stat().st_mode & 0o044 for path in (root / WEIGHTS).iterdir()} == {0o044}
    assert {path.name for path in (root / WEIGHTS).iterdir()} == {
        "model.safetensors",
        "tokens.txt",
        "bpe.model",
    }
    assert [point.hours for point in read_curve(root / CURVE)] == [20, 65]
    assert (root / PICTURE).read_text().count("<polyline") == 2
    readme = (root / "README.md").read_text()
    assert readme.startswith("By hand.\n\n<!-- demo:") and readme.endswith("\nBy hand too.\n")
    assert "| near (a quiet room) | 40.0 % |" in readme
    text = asr.load(root / BUNDLE).transcribe(root / "data/samples/a.flac").text
    assert f"data/samples/a.flac: {text}\n" in readme
    assert "| 65 | 40.0 % | 60.0 % |" in (root / "data/MODEL_CARD.md").read_text()
    results = (root / "data/RESULTS.md").read_text()
    assert "old results\n| WER, near | 40.0 %" in results
    words = 2 * len(held_out)
    assert f"| words heard where nobody speaks | {words} in 5.0 minutes |" in results
    assert f"nobody speaks it hears {words} words: {len(held_out)} noises" in readme
    assert not any("old summary" in text for text in documents.read_documents(root).values())
    assert not list(root.glob(".release-*"))


@pytest.mark.usefixtures("measured")
def test_a_second_release_of_the_same_run_is_no_better(options: ReleaseOptions, root: Path) -> None:
    release(options, QUIET)
    before = snapshot(root)
    with pytest.raises(ExportError, match=r"no better: mean WER 50\.00%"):
        release(options, QUIET)
    assert snapshot(root) == before


def test_a_worse_model_is_refused_with_the_figures_of_each_set(
    options: ReleaseOptions, root: Path, measured: Callable[[Mapping[str, Any]], None]
) -> None:
    before = snapshot(root)
    measured(figures((501, 700)))
    with pytest.raises(ExportError) as refused:
        release(options, QUIET)
    message = str(refused.value)
    assert "mean WER 60.05%, the card has 60.00%" in message
    assert "near: 50.10% in int8, 50.10% in fp32; on the card 50.00%" in message
    assert "far: 70.00%" in message
    assert snapshot(root) == before


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        (figures((400, 600)), []),
        (figures((499, 700)), []),
        (figures((500, 700)), ["it is no better"]),
        (figures((403, 600), (400, 600)), []),
        (figures((404, 600), (400, 600)), ["near: int8 costs more than 0.3 points of WER"]),
        (figures((400, 604), (400, 600)), ["far: int8 costs more than 0.3 points of WER"]),
    ],
)
def test_what_speaks_against_a_model(reports: Any, expected: list[str]) -> None:
    found = objections(CARD, reports)
    assert len(found) == len(expected)
    assert all(part in line for part, line in zip(expected, found, strict=True))


def test_rounding_is_not_a_cost_on_a_small_set_but_it_is_over_all() -> None:
    """int8 changes words here and there, for the better and for the worse."""
    changes = [3, -3, 2, -2, 4] * 4  # 16 more errors in 1,000 words, 1.6 points

    def set_of(changes: list[int]) -> EvaluationReport:
        return EvaluationReport(
            tuple(
                replace(
                    scored(str(number), "word", "word"),
                    errors=WordErrors(hits=30 - change, substitutions=20 + change),
                )
                for number, change in enumerate(changes)
            ),
            (),
        )

    exact, noisy, better = (
        set_of([0] * 20),
        set_of(changes),
        set_of([-change for change in changes]),
    )
    reports = {"int8": {"near": noisy, "far": better}, "fp32": {"near": exact, "far": exact}}
    assert objections({"wer": {}}, reports) == []
    reports = {"int8": {"near": noisy, "far": exact}, "fp32": {"near": exact, "far": exact}}
    (objection,) = objections({"wer": {}}, reports)
    assert objection == "all sets: int8 costs more than 0.3 points of WER"


def test_figures_of_other_recordings_are_not_compared() -> None:
    """A data folder with recordings missing would make a model look better or worse."""
    short = {name: {"near": report(1, words=900)} for name in ("int8", "fp32")}
    found = objections(CARD, short)
    assert "near: 900 words were measured" in found[0]
    assert "far: 0 words were measured" in found[1]


@pytest.mark.usefixtures("measured")
def test_nothing_changes_before_everything_is_complete(
    options: ReleaseOptions, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a kill, which runs no handlers, leaves the old model up to the last step."""
    before = snapshot(root)

    def killed(names: list[str], staging: Path, *_: Path) -> None:
        now = {n: d for n, d in snapshot(root).items() if not n.startswith(".release-")}
        assert now == before
        assert all((staging / name).exists() for name in names)
        raise SystemExit(143)

    monkeypatch.setattr(pipeline, "put_all_in_place", killed)
    with pytest.raises(SystemExit):
        release(options, QUIET)
    assert snapshot(root) == before


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("renames", [0, 1, 2, 5, 9])
def test_a_failed_rename_takes_the_ones_before_back(
    options: ReleaseOptions, root: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    before = snapshot(root)
    put_all_in_place, rename = pipeline.put_all_in_place, Path.rename

    def breaking(*arguments: Any) -> None:
        calls = iter(range(100))

        def rename_or_fail(path: Path, to: Path) -> Path:
            if next(calls) == renames:
                raise OSError("the disk is gone")
            return rename(path, to)

        monkeypatch.setattr(Path, "rename", rename_or_fail)
        put_all_in_place(*arguments)

    monkeypatch.setattr(pipeline, "put_all_in_place", breaking)
    with pytest.raises(OSError, match="the disk is gone"):
        release(options, QUIET)
    assert snapshot(root) == before


@pytest.mark.usefixtures("measured")
def test_a_rehearsal_writes_nothing(options: ReleaseOptions, root: Path) -> None:
    before = snapshot(root)
    console = Console(record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    release(replace(options, limit=1), console)
    assert "nothing was written" in console.export_text()
    assert snapshot(root) == before


def test_what_is_missing_is_said_before_the_measurement(
    options: ReleaseOptions, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(pipeline, "measure")
    unknown = TrainedModel.load(options.run / "final")
    with pytest.raises(ExportError, match=r"heard 50\.0 h.*heard 30\.0 h in all"):
        release(replace(options, heard_hours=30), QUIET)
    with pytest.raises(ExportError, match=r"no manifest near/manifest\.jsonl"):
        release(replace(options, data=root), QUIET)
    save_model(options.run / "final", unknown.model, unknown.tokenizer)
    with pytest.raises(ExportError, match="how many hours"):
        release(options, QUIET)
    (root / "README.md").write_text("rewritten")
    with pytest.raises(ExportError, match=r"README\.md: expected one part <!-- demo"):
        release(replace(options, heard_hours=75), QUIET)


def test_processes_measure_what_one_measures(bundle: asr.Bundle, data: Path) -> None:
    sets = {name: read_manifest(data / name / "manifest.jsonl", "dev") for name in SETS}
    found = measure(bundle.path, sets, QUIET)
    assert set(found) == {"int8", "fp32", "one pass", "greedy"}
    for measured, (precision, search) in MEASURED.items():
        recognizer = asr.load(bundle.path, precision=precision, search=search)
        for name, manifest in sets.items():
            expected = evaluate(recognizer, manifest.utterances)
            assert found[measured][name].errors == expected.errors
            for one, other in zip(found[measured][name].scores, expected.scores, strict=True):
                assert (one.id, one.hypothesis) == (other.id, other.hypothesis)


def test_an_error_in_a_process_ends_the_measurement(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such directory"):
        measure(tmp_path / "none", {"near": Manifest((), ())}, QUIET)


def test_the_curve_has_each_point_once(options: ReleaseOptions) -> None:
    """What lies behind the start of the run is of the same run released before, or of another."""
    journal = options.run / "journal.jsonl"
    old = [Point(20, {}), Point(25, {}), Point(65, {}), Point(300, {})]
    curve = extended(old, journal, heard_hours=75)
    assert [point.hours for point in curve] == [20, 25, 65]
    assert extended(curve, journal, heard_hours=75) == curve
    assert [point.hours for point in extended(curve, journal, heard_hours=50)] == [40]


def test_a_journal_without_validations_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text('{"hours": 1.0}\n')
    with pytest.raises(AsrError, match="no validation in it"):
        extended([], journal, 1.0)


def test_a_long_curve_is_thinned_to_its_shape() -> None:
    curve = [Point(hours, {"near": 0.5}) for hours in range(100)]
    few = thinned(curve, 12)
    assert len(few) == 12
    assert (few[0], few[-1]) == (curve[0], curve[-1])
    assert thinned(curve[:12], 12) == curve[:12]


def test_a_set_that_came_later_has_a_line_from_there_on() -> None:
    curve = [Point(20, {"near": 1.3}), Point(40, {"near": 0.5, "far": 0.6})]
    lines = [line for line in picture(curve, SETS).splitlines() if "<polyline" in line]
    assert [line.count(",") for line in lines] == [2, 1]
