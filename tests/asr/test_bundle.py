"""A bundle that is not exactly what its exporter wrote is refused, and the message says where."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from asr.bundle import (
    SCHEMA_VERSION,
    StreamingConfig,
    _contain,
    builtin_bundle_path,
    open_bundle,
)
from asr.errors import BundleError
from tests.asr.tiny_bundle import PIECES, write_manifest

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def bundle_copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def edit_manifest(path: Path, edit: Edit) -> None:
    content = json.loads((path / "bundle.json").read_text())
    edit(content)
    (path / "bundle.json").write_text(json.dumps(content))


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    return str(caught.value)


def test_reads_back_what_was_written(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert bundle.to_dict() == json.loads((tiny_bundle / "bundle.json").read_text())
    assert bundle.to_dict()["schema_version"] == SCHEMA_VERSION
    assert bundle.read_tokens() == PIECES
    assert bundle.graphs("int8").joiner == "joiner.int8.onnx"


def test_streaming_geometry() -> None:
    streaming = StreamingConfig()
    assert streaming.feature_frames(8) == 35
    assert [streaming.encoder_frames(frames) for frames in (0, 6, 7, 34, 35)] == [0, 0, 1, 7, 8]


def test_no_bundle_there(tmp_path: Path) -> None:
    assert "no such directory or zip" in refusal(tmp_path / "nowhere")
    assert "no bundle.json in it" in refusal(tmp_path)
    (tmp_path / "file").touch()
    assert "neither the directory nor the whole zip of a model bundle" in refusal(tmp_path / "file")
    # As for a folder without access, Path.exists() raises then instead of answering.
    assert "can't be read: File name too long" in refusal(tmp_path / ("x" * 300))


def test_unreadable(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # chmod does not stop root
    assert "bundle.json: can't be read: Permission denied" in refusal(bundle_copy)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"", b"[" * 100_000])
def test_damaged_manifest(bundle_copy: Path, content: bytes) -> None:
    (bundle_copy / "bundle.json").write_bytes(content)
    assert "bundle.json: damaged" in refusal(bundle_copy)


def test_manifest_that_is_no_object(bundle_copy: Path) -> None:
    (bundle_copy / "bundle.json").write_text("[]")
    assert "expected a JSON object" in refusal(bundle_copy)


@pytest.mark.parametrize("version", [0, 4, 6, "5", None])
def test_other_schema_version(bundle_copy: Path, version: object) -> None:
    edit_manifest(bundle_copy, lambda content: content.update(schema_version=version))
    assert f"schema version {version!r}, but this version of asr reads 5" in refusal(bundle_copy)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(varaints={}), "unknown key 'varaints'; did you mean 'variants'?"),
        (lambda c: c.update(zzz=1), "unknown key 'zzz'; known: name, language,"),
        (
            lambda c: c["streaming"].update(chunk=8),
            "'streaming.chunk'; did you mean 'chunk_frames'",
        ),
        (lambda c: c["golden"].update(tolerence=1), "'golden.tolerence'; did you mean 'tolerance'"),
        (lambda c: c["files"]["tokens.txt"].update(sha1=""), "'files.tokens.txt.sha1'"),
        (lambda c: c.pop("tokens"), "missing key 'tokens'"),
        (lambda c: c["model"].pop("encoder_dim"), "missing key 'model.encoder_dim'"),
        (lambda c: c["model"].update(encoder_dim="4"), "model.encoder_dim: expected int, got '4'"),
        (
            lambda c: c["model"].update(encoder_dim=True),
            "model.encoder_dim: expected int, got True",
        ),
        (
            lambda c: c["golden"]["tolerance"]["int8"].update(log_probs=-1),
            "golden.tolerance.int8.log_probs: expected a positive number, got -1.0",
        ),
        (lambda c: c["golden"]["tolerance"].clear(), "golden.tolerance has no 'int8'"),
        (lambda c: c.update(name=3), "name: expected text, got 3"),
        (lambda c: c.update(files=[]), "files: expected an object"),
        (lambda c: c["golden"].update(file=[]), "golden.file: expected text"),
        (lambda c: c["streaming"].update(subsampling_factor=8), "expected subsampling_factor 4"),
        (lambda c: c["streaming"].update(chunk_frames=0), "chunk_frames: expected 1 to 256, got 0"),
        (
            lambda c: c["streaming"].update(tail_padding_frames=10**9),
            "streaming.tail_padding_frames: expected 1 to 1000, got 1000000000",
        ),
        (lambda c: c["model"].update(encoder_dim=-4), "model.encoder_dim: expected 1 or more"),
        (lambda c: c["features"].update(sample_rate=8000), "computes 16000, got 8000"),
        (lambda c: c["features"].update(frame_shift_ms=0), "computes 10.0, got 0.0"),
        (lambda c: c["features"].update(low_hz=float("nan")), "low_hz: expected float, got nan"),
        (lambda c: c["features"].update(low_hz=10**400), "low_hz: expected float, got 1000"),
        (
            lambda c: c["golden"]["tolerance"]["int8"].update(encoder_out=float("inf")),
            "golden.tolerance.int8.encoder_out: expected float, got inf",
        ),
        (
            lambda c: c["golden"]["tolerance"].update(int8=1e-3),
            "tolerance.int8: expected an object",
        ),
        (lambda c: c["variants"][0].pop("engine"), "missing key 'variants.0.engine'"),
        (lambda c: c["variants"][0].update(joiner="x.onnx"), "names 'x.onnx', which is not"),
        (
            lambda c: c["variants"][0].update(precision=8),
            "variants.0.precision: expected str, got 8",
        ),
        (
            lambda c: c["variants"].append(c["variants"][0]),
            "variants: int8 for onnx is there twice",
        ),
        (lambda c: c["variants"].clear(), "variants: expected a list of them, got []"),
        (lambda c: c.update(variants={}), "variants: expected a list of them, got {}"),
        (lambda c: c["files"]["tokens.txt"].update(bytes=-1), "tokens.txt.bytes: expected 0 to"),
        (lambda c: c["files"]["tokens.txt"].update(bytes=2**40), "tokens.txt.bytes: expected 0 to"),
        (lambda c: c.update(tokens="words.txt"), "tokens names 'words.txt', which is not listed"),
    ],
)
def test_wrong_manifest(bundle_copy: Path, edit: Edit, message: str) -> None:
    edit_manifest(bundle_copy, edit)
    found = refusal(bundle_copy)
    assert message in found
    assert "bundle.json" in found


def test_the_card_is_free_form(bundle_copy: Path) -> None:
    edit_manifest(bundle_copy, lambda content: content["card"].update(anything=[1, {"a": None}]))
    assert open_bundle(bundle_copy).card["anything"] == [1, {"a": None}]


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/passwd", "sub/file", "..\\x", "..", ""])
def test_files_outside_the_directory_are_refused(bundle_copy: Path, name: str) -> None:
    (bundle_copy.parent / "outside.onnx").write_bytes(b"x")
    entry = {"sha256": "0", "bytes": 1}
    edit_manifest(bundle_copy, lambda content: content["files"].update({name: entry}))
    assert "is not the name of a file in the bundle's own directory" in refusal(bundle_copy)


@pytest.mark.parametrize(
    "name", ["encoder.int8.onnx", "predictor.int8.onnx", "joiner.int8.onnx", "tokens.txt"]
)
def test_missing_truncated_and_altered_files_are_named(bundle_copy: Path, name: str) -> None:
    path = bundle_copy / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert f"{name}: {len(content) - 1} bytes, but {len(content)} were expected" in refusal(
        bundle_copy
    )
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert f"{name}: its content was changed" in refusal(bundle_copy)
    path.unlink()
    assert f"{name}: missing from the bundle" in refusal(bundle_copy)


def test_swapped_files_are_noticed(bundle_copy: Path) -> None:
    (bundle_copy / "encoder.int8.onnx").replace(bundle_copy / "spare")
    (bundle_copy / "joiner.int8.onnx").replace(bundle_copy / "encoder.int8.onnx")
    (bundle_copy / "spare").replace(bundle_copy / "joiner.int8.onnx")
    assert "onnx: " in refusal(bundle_copy)


def test_a_link_is_refused(bundle_copy: Path) -> None:
    (bundle_copy / "tokens.txt").rename(bundle_copy.parent / "elsewhere")
    (bundle_copy / "tokens.txt").symlink_to(bundle_copy.parent / "elsewhere")
    assert "tokens.txt: a symbolic link" in refusal(bundle_copy)


@pytest.mark.parametrize("where", ["../outside", "{outside}", "inside", "*/_ORT_MEM_ADDR_/*"])
@pytest.mark.parametrize("packed", [False, True])
def test_weights_in_another_file_are_refused(bundle_copy: Path, where: str, packed: bool) -> None:
    """ONNX allows any path for them, and onnxruntime 1.23 reads what is there. A file in the bundle
    is refused as well: it need not be listed, and so may be anything."""
    outside = bundle_copy.parent / "outside"
    graph = onnx.load(bundle_copy / "joiner.int8.onnx")
    weight = next(tensor for tensor in graph.graph.initializer if tensor.name == "weight")
    outside.write_bytes(numpy_helper.to_array(weight).tobytes())
    onnx.external_data_helper.set_external_data(weight, where.format(outside=outside))
    weight.ClearField("raw_data")
    (bundle_copy / "joiner.int8.onnx").write_bytes(graph.SerializeToString())
    write_manifest(bundle_copy)
    shutil.copy(outside, bundle_copy / "inside")
    path = bundle_copy
    if packed:
        path = Path(shutil.make_archive(str(bundle_copy.parent / "packed"), "zip", bundle_copy))
    assert "joiner.int8.onnx: its weights are in another file" in refusal(path)


def test_bytes_are_found_in_one_block_and_across_blocks() -> None:
    whole = b"a graph with a location in it"
    for length in range(1, len(whole) + 1):
        blocks = [whole[start : start + length] for start in range(0, len(whole), length)]
        assert _contain(blocks, b"location")
        assert not _contain(blocks, b"Location")


def test_what_is_read_later_is_checked_again(bundle_copy: Path) -> None:
    bundle = open_bundle(bundle_copy)
    (bundle_copy / "tokens.txt").write_bytes(bundle.read("tokens.txt").swapcase())
    with pytest.raises(BundleError, match=r"tokens\.txt: its content was changed"):
        bundle.read_tokens()


def test_missing_variants(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="no precision 'fp32'; it has int8"):
        open_bundle(tiny_bundle).graphs("fp32")
    with pytest.raises(BundleError, match=r"no int8 graphs for the engine 'ort'; .* for onnx"):
        open_bundle(tiny_bundle).graphs("int8", "ort")


def test_the_variant_that_loads_fastest_is_the_default(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    (int8,) = bundle.variants
    ort, later = replace(int8, engine="ort"), replace(int8, engine="executorch")
    fp32 = replace(int8, precision="fp32")
    many = replace(bundle, variants=(later, int8, ort, fp32))
    assert many.graphs() == ort
    assert many.graphs("int8", "onnx") == int8
    assert many.graphs("fp32") == fp32
    assert many.precisions == ("int8", "fp32")
    assert replace(bundle, variants=(later, int8)).graphs() == int8
    assert replace(bundle, variants=(later,)).graphs() == later


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("<blk> 0\n<unk> 1\n", "expected 12 tokens, <blk> and <unk> first; got 2 tokens"),
        ("<blk> 0\n<unk> 2\n", "tokens.txt:2: expected 'symbol 1', got '<unk> 2'"),
        ("<blk>\n", "tokens.txt:1: expected 'symbol 0'"),
    ],
)
def test_wrong_token_table(bundle_copy: Path, table: str, message: str) -> None:
    (bundle_copy / "tokens.txt").write_text(table, encoding="utf-8")
    write_manifest(bundle_copy)
    with pytest.raises(BundleError, match=message.replace("(", r"\(")):
        open_bundle(bundle_copy).read_tokens()


def test_no_builtin_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("asr.bundle._MODELS", tmp_path)
    with pytest.raises(BundleError, match="the built-in model is not at"):
        builtin_bundle_path()
