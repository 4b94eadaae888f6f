"""asr-export: from the folder of a trained model to a bundle, or a clear refusal."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

import asr
from asr.errors import ExportError, ManifestError
from asr.evaluation.accuracy.wer import WordErrors
from asr.evaluation.corpora.manifest import Manifest, read_manifest
from asr.evaluation.evaluate import EvaluationReport
from export import cli
from export.bundle import BundleContents, write_bundle
from export.onnx import Graphs
from export.pipeline import ExportOptions, export_bundle
from export.verify import recognize_in_each, verify_words


def test_a_checkpoint_becomes_a_bundle(checkpoint: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    card = tmp_path / "card.json"
    card.write_text('{"data": "babble"}', encoding="utf-8")
    options = ExportOptions(checkpoint, tmp_path / "out", name="babble", card=card)
    bundle = export_bundle(options, steps.append)
    assert bundle.name == "babble"
    assert set(bundle.precisions) == {"int8"}
    assert bundle.card["data"] == "babble"
    assert bundle.card["export"]["max_abs_error"]["encoder"] <= 1e-4
    assert "wer" not in bundle.card["export"]
    assert len(steps) == 3
    assert asr.load(bundle.path).bundle == bundle


def test_the_weights_file_will_do_as_well_as_its_folder(checkpoint: Path, tmp_path: Path) -> None:
    weights = checkpoint / "model.safetensors"
    options = ExportOptions(weights, tmp_path / "out", precisions=("int8", "fp32"))
    assert set(export_bundle(options, print).precisions) == {"int8", "fp32"}


def test_a_precision_may_not_cost_words(bundle: asr.Bundle, manifest: Path) -> None:
    """A random model is all margins, so int8 makes many errors here, and that must be noticed."""
    reports = recognize_in_each(bundle, read_manifest(manifest))
    errors = {precision: report.errors for precision, report in reports.items()}
    with pytest.raises(ExportError, match=r"int8 costs too many words: .* deleted"):
        verify_words(errors, max_wer_delta=0.3)
    verify_words(errors, max_wer_delta=1000)


def test_nothing_is_written_where_words_were_lost(
    checkpoint: Path, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ExportError, match=r"--max-wer-delta"):
        export_bundle(ExportOptions(checkpoint, out, manifest=manifest), print)
    assert not out.exists()


def test_words_are_compared_when_a_manifest_is_given(
    checkpoint: Path, manifest: Path, tmp_path: Path
) -> None:
    options = ExportOptions(
        checkpoint, tmp_path / "out", manifest=manifest, limit=2, max_wer_delta=1000
    )
    checks = export_bundle(options, print).card["export"]
    assert checks["wer"]["fp32"] == 0.0
    assert checks["wer_utterances"] == 2


def test_every_variant_that_is_written_is_compared(
    checkpoint: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ExportOptions(
        checkpoint,
        tmp_path / "out",
        manifest=manifest,
        limit=1,
        max_wer_delta=1000,
        engines=("onnx", "ort"),
    )
    checks = export_bundle(options, print).card["export"]
    assert set(checks["wer"]) == {"int8", "int8 for ort", "fp32"}

    def lose_words(bundle: asr.Bundle, manifest: Manifest) -> dict[str, EvaluationReport]:
        """As if onnxruntime's own format alone came out wrong."""
        reports = recognize_in_each(bundle, manifest)
        if "int8 for ort" in reports:
            (score,) = reports["int8 for ort"].scores
            lost = WordErrors(deletions=score.errors.words)
            reports["int8 for ort"] = replace(
                reports["int8 for ort"], scores=(replace(score, errors=lost),)
            )
        return reports

    monkeypatch.setattr("export.pipeline.recognize_in_each", lose_words)
    with pytest.raises(ExportError, match="int8 for ort costs too many words"):
        export_bundle(replace(options, out=tmp_path / "other", max_wer_delta=90), print)
    assert not (tmp_path / "other").exists()


def test_a_manifest_without_a_usable_row_is_refused_before_the_work(
    checkpoint: Path, manifest: Path, tmp_path: Path
) -> None:
    rows = manifest.read_text(encoding="utf-8").replace(".wav", ".lost.wav")
    lost = manifest.with_name("lost.jsonl")
    lost.write_text(rows, encoding="utf-8")
    said: list[str] = []
    with pytest.raises(ManifestError, match="no usable row"):
        export_bundle(ExportOptions(checkpoint, tmp_path / "out", manifest=lost), said.append)
    assert len(said) == 1 and "rows left out: 3; the first: 0: no audio file" in said[0]


def test_the_precisions_are_written_once_in_the_order_in_which_they_are_named(
    checkpoint: Path, tmp_path: Path
) -> None:
    """The first is what a recogniser loads."""
    options = ExportOptions(
        checkpoint,
        tmp_path / "out",
        precisions=("fp32", "int8", "fp32"),
        engines=("onnx", "onnx"),
    )
    bundle = export_bundle(options, print)
    assert bundle.precisions == ("fp32", "int8")
    assert len(bundle.variants) == 2
    assert asr.load(bundle.path).precision == "fp32"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"plain": True, "precisions": ("int8", "int4")}, "plain graphs have no precision 'int4'"),
        ({"plain": True, "engines": ("executorch",)}, "--plain and --engine executorch exclude"),
        ({"precisions": ("int4",), "engines": ("ort",)}, "int4 graphs are not written for the"),
    ],
)
def test_options_that_exclude_each_other_are_refused_before_the_work(
    tmp_path: Path, wrong: dict, message: str
) -> None:
    options = ExportOptions(tmp_path / "no checkpoint", tmp_path / "out", **wrong)
    with pytest.raises(ExportError, match=message):
        export_bundle(options, print)


@pytest.mark.parametrize("text", ["[1]", '{"a": NaN}', '{"a": "\\ud800"}', "[" * 10_000])
def test_a_card_that_no_bundle_can_hold_is_refused(tmp_path: Path, text: str) -> None:
    card = tmp_path / "card.json"
    card.write_text(text, encoding="utf-8")
    with pytest.raises(ExportError, match="the model card"):
        export_bundle(ExportOptions(tmp_path, tmp_path / "out", card=card), print)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-wer-delta", "0.1"], "--max-wer-delta is about words, and there are none"),
        (["--limit", "5"], "--limit is about words, and there are none"),
        (["--manifest", "m", "--max-wer-delta", "nan"], "--max-wer-delta nan; expected points"),
        (["--plain", "--precision", "int4"], "the plain graphs have no precision 'int4'"),
    ],
)
def test_what_would_not_be_what_was_asked_for_is_refused(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    """A gate without recordings, for one: the bundle would pass for one that was held to it."""
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["asr-export", str(checkpoint), str(out), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_equal_words_pass(
    contents: BundleContents, exact: Graphs, manifest: Path, tmp_path: Path
) -> None:
    """A bundle whose int8 graphs are the float ones loses nothing."""
    twins = BundleContents("twins", contents.model, contents.tokens, {"int8": exact, "fp32": exact})
    bundle = write_bundle(tmp_path / "twins", twins)
    reports = recognize_in_each(bundle, read_manifest(manifest))
    verify_words({name: report.errors for name, report in reports.items()}, max_wer_delta=0)
    assert reports["int8"].errors == reports["fp32"].errors


def test_the_baseline_is_written_when_asked_for(
    plain: Graphs, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From torch's own exporter, in more nodes."""
    monkeypatch.setattr("export.pipeline.plain_graphs", lambda *_: plain)
    baseline = export_bundle(ExportOptions(checkpoint, tmp_path / "plain", plain=True), print)
    fused = export_bundle(ExportOptions(checkpoint, tmp_path / "fused"), print)
    nodes = [
        len(onnx.load(each.path / "encoder.int8.onnx").graph.node) for each in (fused, baseline)
    ]
    assert nodes[0] < 0.5 * nodes[1]
    options = ExportOptions(checkpoint, tmp_path / "int4", precisions=("int4",), plain=True)
    with pytest.raises(ExportError, match="plain graphs have no precision 'int4'"):
        export_bundle(options, print)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "no such file"),
        ("truncated", "damaged"),
        ("tokens", "29 tokens"),
        ("card", "can't read the model card"),
        ("existing", "exists already"),
    ],
)
def test_what_the_user_can_mend_is_a_message_and_exit_code_2(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
    message: str,
) -> None:
    folder, out = tmp_path / "model", tmp_path / "out"
    folder.mkdir()
    for path in checkpoint.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights, tokens = folder / "model.safetensors", folder / "tokens.txt"
    extra: list[str] = []
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "tokens":
        kept = tokens.read_text(encoding="utf-8").splitlines()[:-1]
        tokens.write_text("\n".join(kept) + "\n", encoding="utf-8")
    elif damage == "card":
        extra = ["--card", str(tmp_path / "no-card.json")]
    else:
        out.mkdir()
    monkeypatch.setattr("sys.argv", ["asr-export", str(folder), str(out), *extra])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    printed = capsys.readouterr().err.splitlines()[-1]
    assert printed.startswith("asr-export: ") and message in printed
    assert out.exists() == (damage == "existing")


def test_the_command_exports(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [str(checkpoint), str(out), "--precision", "int8", "--precision", "fp32"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert f"{out}: int8 for onnx, fp32 for onnx; " in result.stdout
    assert (out / "joiner.fp32.onnx").is_file()


def test_an_unknown_precision_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    arguments = [str(checkpoint), str(tmp_path / "out"), "--precision", "int3"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert "int3" in result.output
