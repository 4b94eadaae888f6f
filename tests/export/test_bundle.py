"""A bundle on disk is whole, opens with the runtime, and never replaces anything by surprise."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

import asr
from asr.bundle import Bundle, open_bundle
from asr.decoding.hypothesis import INITIAL_CONTEXT
from asr.engines import open_engine
from asr.engines.golden import verify_golden
from asr.errors import BundleError, ExportError
from asr.evaluation.accuracy.alignment import align
from asr.evaluation.accuracy.wer import WordErrors
from export.bundle import BundleContents, check_destination, write_bundle
from export.pipeline import verified_contents
from tests.asr.language_models import random_arrays
from tests.export.conftest import babble
from training.language_model import transcript_arrays


def test_the_runtime_opens_it(bundle: Bundle, contents: BundleContents) -> None:
    opened = open_bundle(bundle.path)
    config = contents.model.config
    assert opened == bundle
    assert opened.name == "tiny"
    assert opened.model.encoder_layers == config.layers
    assert opened.model.conv_kernel == config.conv_kernel
    assert opened.streaming.tail_padding_frames == 19
    assert opened.read_tokens() == tuple(contents.tokens)
    names = {path.name for path in bundle.path.iterdir()}
    assert names == {"bundle.json", *opened.files}


def test_the_language_model_of_a_checkpoint_goes_along(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "trained"
    shutil.copytree(checkpoint, folder)
    assert verified_contents(folder, "tiny", print).language_model is None
    arrays = random_arrays(30, seed=1)
    np.savez(folder / "language_model.npz", allow_pickle=False, **arrays)
    contents = verified_contents(folder, "tiny", print)
    bundle = write_bundle(tmp_path / "bundle", contents)
    of_words = bundle.language_model
    assert of_words is not None
    assert of_words.transcript_weight == 0
    assert asr.load(bundle.path).search == "two-pass"
    stream = asr.load(bundle.path, search="beam").stream()
    stream.accept(babble(8, seed=1))
    assert stream.finish().text
    arrays |= transcript_arrays([[2, 3], [4, 2, 3]], 30)
    np.savez(folder / "language_model.npz", allow_pickle=False, **arrays)
    weighted = write_bundle(tmp_path / "weighted", contents).language_model
    assert weighted is not None
    assert weighted.transcript_weight > 0
    assert weighted.internal_weight < of_words.internal_weight
    arrays |= transcript_arrays([[2, 3], [4, 2, 3]], 20)
    np.savez(folder / "language_model.npz", allow_pickle=False, **arrays)
    with pytest.raises(BundleError, match="transcripts of 20 tokens in n-grams of 2"):
        write_bundle(tmp_path / "other", contents)
    np.savez(folder / "language_model.npz", allow_pickle=False, tokens=np.zeros(3))
    with pytest.raises(BundleError, match="no language model for this bundle"):
        write_bundle(tmp_path / "other", contents)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("chunk_ms", [40, 160, 320, 640])
def test_it_recognises_at_every_chunk_size(bundle: Bundle, precision: str, chunk_ms: int) -> None:
    stream = asr.load(bundle.path, precision=precision, chunk_ms=chunk_ms).stream()
    stream.accept(babble(8, seed=1))
    assert stream.finish().text


def test_the_golden_test_tells_int8_from_a_broken_machine(bundle: Bundle) -> None:
    engine = open_engine(bundle, "int8")
    found, tolerance = verify_golden(bundle, engine, "int8"), bundle.golden.tolerance
    assert found.encoder_out <= tolerance["int8"].encoder_out
    assert found.log_probs <= tolerance["int8"].log_probs
    golden = np.load(bundle.path / "golden.npz", allow_pickle=False)
    assert golden["features"].shape == (67, 80)
    scale = golden["encoder_out.fp32"].std()
    assert tolerance["fp32"].encoder_out < tolerance["int8"].encoder_out < 0.5 * scale
    assert golden["log_probs.fp32"].shape == (16, bundle.model.vocab_size)
    np.testing.assert_allclose(np.exp(golden["log_probs.fp32"]).sum(axis=1), 1, atol=1e-5)
    assert tuple(golden["contexts"][0]) == INITIAL_CONTEXT
    scale = golden["log_probs.fp32"].std()
    assert tolerance["fp32"].log_probs < tolerance["int8"].log_probs < 0.5 * scale


def test_parameters_are_those_of_the_graphs(bundle: Bundle, contents: BundleContents) -> None:
    model = contents.model
    training_only = (model.ctc, model.phones, model.simple_encoder, model.simple_predictor)
    everything = sum(weight.numel() for weight in model.parameters())
    left_out = sum(weight.numel() for part in training_only for weight in part.parameters())
    assert bundle.model.parameters == everything - left_out


def test_the_same_model_gives_the_same_bytes(
    bundle: Bundle, contents: BundleContents, tmp_path: Path
) -> None:
    again = write_bundle(tmp_path / "again", contents)
    assert again.files == bundle.files
    zips = [write_bundle(tmp_path / name, contents).path for name in ("a.zip", "b.zip")]
    assert zips[0].read_bytes() == zips[1].read_bytes()


def test_every_variant_hears_the_same(contents: BundleContents, tmp_path: Path) -> None:
    """In one file, for each engine; what the formats do to a graph is less than int8 does."""
    both = write_bundle(tmp_path / "tiny.zip", replace(contents, engines=("onnx", "ort")))
    variants = {(graphs.precision, graphs.engine) for graphs in both.variants}
    assert variants == {(p, engine) for p in ("int8", "fp32") for engine in ("onnx", "ort")}
    assert both.graphs("int8").engine == "ort"
    for precision in both.precisions:
        heard = []
        for engine in ("onnx", "ort"):
            stream = asr.load(both.path, precision=precision, engine=engine).stream()
            stream.accept(babble(4, seed=2))
            heard.append([token.piece for token in stream.finish().result.tokens])
        assert heard[0], "the comparison is empty"
        assert WordErrors.of(align(*heard)).errors <= 0.2 * len(heard[0])
        if precision == "fp32":
            assert heard[0] == heard[1]


def test_an_existing_bundle_is_kept_unless_told(contents: BundleContents, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    small = replace(contents, graphs={"int8": contents.graphs["int8"]})
    write_bundle(out, contents)
    with pytest.raises(ExportError, match="--overwrite"):
        write_bundle(out, small)
    assert set(open_bundle(out).precisions) == {"int8", "fp32"}
    assert set(write_bundle(out, small, overwrite=True).precisions) == {"int8"}
    golden = np.load(out / "golden.npz", allow_pickle=False)
    outputs = {f"{name}.{p}" for name in ("encoder_out", "log_probs") for p in ("int8", "fp32")}
    assert set(golden) == {"features", "contexts", *outputs}
    assert not (out / "encoder.fp32.onnx").exists()
    assert list(tmp_path.iterdir()) == [out], "something temporary was left"


def test_a_zip_is_kept_unless_told_and_replaced_only_by_its_like(
    contents: BundleContents, tmp_path: Path
) -> None:
    out, small = tmp_path / "tiny.zip", contents.with_precisions(["int8"])
    write_bundle(out, contents)
    with pytest.raises(ExportError, match="--overwrite"):
        write_bundle(out, small)
    assert write_bundle(out, small, overwrite=True).precisions == ("int8",)
    assert list(tmp_path.iterdir()) == [out], "something temporary was left"
    out.write_bytes(b"years of work")
    with pytest.raises(ExportError, match="not a model bundle"):
        write_bundle(out, contents, overwrite=True)
    assert out.read_bytes() == b"years of work"


def test_what_is_not_a_bundle_is_never_overwritten(
    contents: BundleContents, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ExportError, match="not a model bundle"):
        write_bundle(tmp_path, contents, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


def test_a_bundle_json_of_another_program_protects_its_directory(
    contents: BundleContents, tmp_path: Path
) -> None:
    """As does anything else that lies in a bundle: the directory would be removed with it."""
    site, mine = tmp_path / "site", tmp_path / "mine"
    site.mkdir()
    for text in ('{"bundles": ["app.js"]}', "[]", "{"):
        (site / "bundle.json").write_text(text, encoding="utf-8")
        with pytest.raises(ExportError, match="site is not a model bundle"):
            check_destination(site, overwrite=True)
    write_bundle(mine, contents)
    check_destination(mine, overwrite=True)
    (mine / "notes.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ExportError, match=r"more in it than a model bundle \(notes\.txt\)"):
        write_bundle(mine, contents, overwrite=True)
    assert (mine / "notes.txt").exists()


def test_where_nothing_can_be_written_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for out in (".", "..", "/"):
        with pytest.raises(ExportError, match="is no name of a bundle"):
            check_destination(Path(out), overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="file is no directory"):
        check_destination(tmp_path / "file" / "new" / "bundle", overwrite=False)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # chmod does not stop root
    with pytest.raises(ExportError, match="no permission to write to"):
        check_destination(tmp_path / "new" / "bundle", overwrite=False)


def test_what_can_not_be_put_in_place_leaves_what_was_there(
    contents: BundleContents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bundle"
    write_bundle(out, contents)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(out, contents, overwrite=True)
    assert open_bundle(out).precisions == ("int8", "fp32")
    assert list(tmp_path.iterdir()) == [out]


def test_a_bundle_that_is_judged_badly_does_not_appear(
    contents: BundleContents, tmp_path: Path
) -> None:
    out = tmp_path / "bundle.zip"

    def refuse(bundle: Bundle) -> dict:
        raise ExportError("too many words")

    with pytest.raises(ExportError, match="too many words"):
        write_bundle(out, contents, judge=refuse)
    assert not list(tmp_path.iterdir())
    judged = write_bundle(out, contents, judge=lambda bundle: {"heard": len(bundle.variants)})
    assert judged.card["heard"] == 2


@pytest.mark.parametrize(("graph", "weight"), [("encoder", "encoder.output"), ("joiner", "joiner")])
def test_a_wrong_scale_is_refused(
    contents: BundleContents, tmp_path: Path, graph: str, weight: str
) -> None:
    """The self-test would tolerate it: its tolerance is the error that int8 has here."""
    wrong = copy.deepcopy(getattr(contents.graphs["int8"], graph))
    scale = next(item for item in wrong.graph.initializer if item.name == f"{weight}.scale")
    doubled = 2 * numpy_helper.to_array(scale)
    scale.CopyFrom(numpy_helper.from_array(doubled, scale.name))
    graphs = {"int8": replace(contents.graphs["int8"], **{graph: wrong})}
    with pytest.raises(ExportError, match=f"the {graph} in int8 for onnx is off by .* wrongly"):
        write_bundle(tmp_path / "bundle", replace(contents, graphs=graphs))
    assert not list(tmp_path.iterdir())


def test_a_bundle_that_fails_its_own_test_does_not_appear(
    contents: BundleContents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bundle"
    write_bundle(out, contents)
    before = json.loads((out / "bundle.json").read_text(encoding="utf-8"))

    def refuse(*_: object) -> float:
        raise ExportError("a broken machine")

    monkeypatch.setattr("export.bundle.verify_golden", refuse)
    with pytest.raises(ExportError, match="a broken machine"):
        write_bundle(out, replace(contents, name="new"), overwrite=True)
    assert json.loads((out / "bundle.json").read_text(encoding="utf-8")) == before
    assert list(tmp_path.iterdir()) == [out]
