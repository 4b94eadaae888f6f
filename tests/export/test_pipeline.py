"""asr-export: from the folder of a trained model to a bundle, or a clear refusal."""

from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

import asr
from asr.errors import ExportError
from asr.evaluation.corpora.manifest import read_manifest
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
