"""Builds a bundle of real ONNX graphs in a tenth of a second, without torch."""

import json
from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper, save

from asr.bundle import (
    Bundle,
    FileEntry,
    Golden,
    GoldenErrors,
    GraphFiles,
    ModelConfig,
    file_entry,
    open_bundle,
)
from asr.engines import open_engine
from asr.engines.golden import encode_by_chunks

LAYERS, DIM, KERNEL, JOINER_DIM, MELS, LEFT = 2, 4, 7, 16, 80, 64
PIECES = ("<blk>", "<unk>", "▁so", "▁me", "▁word", "s", "▁to", "ing", "▁he", "ar", "'ll", "▁")
GRAPHS = ("encoder", "predictor", "joiner")


def build_tiny_bundle(path: Path) -> None:
    rng = np.random.default_rng(3)
    _save(path / "encoder.int8.onnx", *_encoder(rng))
    _save(path / "predictor.int8.onnx", *_predictor(rng))
    _save(path / "joiner.int8.onnx", *_joiner(rng))
    table = "".join(f"{piece} {number}\n" for number, piece in enumerate(PIECES))
    (path / "tokens.txt").write_text(table, encoding="utf-8")
    features = rng.standard_normal((67, MELS)).astype(np.float32)
    (path / "golden.npz").touch()
    write_manifest(path)
    bundle = open_bundle(path)
    engine = open_engine(bundle)
    contexts = rng.integers(0, len(PIECES), (16, 2))
    encoder_out = encode_by_chunks(engine, features, bundle.streaming)
    golden = {
        "features": features,
        "encoder_out.int8": encoder_out,
        "contexts": contexts,
        "log_probs.int8": engine.join(encoder_out, engine.predict(contexts)),
    }
    np.savez(path / "golden.npz", allow_pickle=False, **golden)
    write_manifest(path)


def write_manifest(path: Path) -> None:
    """Describe the files in `path` as they are now."""
    files: dict[str, FileEntry] = {
        file.name: file_entry(file) for file in path.iterdir() if file.name != "bundle.json"
    }
    bundle = Bundle(
        path=path,
        name="tiny",
        language="en",
        model=ModelConfig(LAYERS, DIM, KERNEL, JOINER_DIM, 2, len(PIECES), 12_345),
        variants=(GraphFiles("onnx", "int8", *(f"{graph}.int8.onnx" for graph in GRAPHS)),),
        files=files,
        golden=Golden("golden.npz", {"int8": GoldenErrors(1e-4, 1e-4)}),
        card={"wer": {"dev": 0.5}},
    )
    (path / "bundle.json").write_text(json.dumps(bundle.to_dict()), encoding="utf-8")


def _encoder(rng: np.random.Generator) -> tuple[list[NodeProto], dict, list, list]:
    """Every encoder frame: its seven feature frames averaged and projected, plus what the caches
    and the counter hold, so that a mistake in carrying the state changes the output."""
    constants = {
        "normal": np.float32(0.2),
        "project": rng.standard_normal((MELS, JOINER_DIM)).astype(np.float32),
        "keys": rng.standard_normal((JOINER_DIM, LAYERS * 2 * DIM)).astype(np.float32) / 16,
        "by_layer": np.array([0, LAYERS, 1, 2 * DIM]),
        "left": np.array([-LEFT]),
        "end": np.array([2**31]),
        "axis_left": np.array([1]),
        "all_axes": np.array([0, 1, 2, 3]),
        "count_scale": np.float32(1e-6),
        "half": np.float32(0.5),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["x_by_mel"], perm=[0, 2, 1]),
        helper.make_node("AveragePool", ["x_by_mel"], ["pooled"], kernel_shape=[7], strides=[4]),
        helper.make_node("Transpose", ["pooled"], ["frames"], perm=[0, 2, 1]),
        helper.make_node("Mul", ["frames", "normal"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "project"], ["projected"]),
        helper.make_node("ReduceMean", ["attn_cache", "all_axes"], ["seen"], keepdims=0),
        helper.make_node("ReduceMean", ["conv_cache", "all_axes"], ["calls"], keepdims=0),
        helper.make_node("Cast", ["processed_frames"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["count", "count_scale"], ["counted"]),
        helper.make_node("Sum", ["projected", "seen", "calls", "counted"], ["encoder_out"]),
        helper.make_node("MatMul", ["encoder_out", "keys"], ["new_keys"]),
        helper.make_node("Transpose", ["new_keys"], ["keys_by_frame"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["keys_by_frame", "by_layer"], ["keys_by_layer"]),
        helper.make_node("Transpose", ["keys_by_layer"], ["new_rows"], perm=[1, 0, 2, 3]),
        helper.make_node("Concat", ["attn_cache", "new_rows"], ["all_rows"], axis=1),
        helper.make_node("Slice", ["all_rows", "left", "end", "axis_left"], ["next_attn_cache"]),
        helper.make_node("Mul", ["conv_cache", "half"], ["fading"]),
        helper.make_node("Sum", ["fading", "normal"], ["next_conv_cache"]),
    ]
    attention = [LAYERS, LEFT, 1, 2 * DIM]
    convolution = [LAYERS, 1 + (KERNEL - 1) // 2, 1, 2 * DIM]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "T", MELS]),
        helper.make_tensor_value_info("attn_cache", TensorProto.FLOAT, attention),
        helper.make_tensor_value_info("conv_cache", TensorProto.FLOAT, convolution),
        helper.make_tensor_value_info("processed_frames", TensorProto.INT64, [1]),
    ]
    outputs = [
        helper.make_tensor_value_info("encoder_out", TensorProto.FLOAT, [1, "C", JOINER_DIM]),
        helper.make_tensor_value_info("next_attn_cache", TensorProto.FLOAT, attention),
        helper.make_tensor_value_info("next_conv_cache", TensorProto.FLOAT, convolution),
    ]
    return nodes, constants, inputs, outputs


def _predictor(rng: np.random.Generator) -> tuple[list[NodeProto], dict, list, list]:
    constants = {
        "one": np.array(1),
        "table": rng.standard_normal((len(PIECES) + 1, JOINER_DIM)).astype(np.float32),
        "weights": np.array([[0.3], [1.0]], np.float32),
        "axis_token": np.array([1]),
    }
    nodes = [
        helper.make_node("Add", ["y", "one"], ["rows"]),  # y may be -1
        helper.make_node("Gather", ["table", "rows"], ["embedded"]),
        helper.make_node("Mul", ["embedded", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axis_token"], ["out"], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("y", TensorProto.INT64, ["N", 2])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", JOINER_DIM])]
    return nodes, constants, inputs, outputs


def _joiner(rng: np.random.Generator) -> tuple[list[NodeProto], dict, list, list]:
    bias = np.zeros(len(PIECES), np.float32)
    bias[0] = 4.0  # mostly blank, as speech is
    constants = {
        "weight": rng.standard_normal((JOINER_DIM, len(PIECES))).astype(np.float32),
        "bias": bias,
    }
    nodes = [
        helper.make_node("Add", ["encoder_out", "predictor_out"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "weight"], ["scores"]),
        helper.make_node("Add", ["scores", "bias"], ["biased"]),
        helper.make_node("LogSoftmax", ["biased"], ["log_probs"], axis=1),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", JOINER_DIM])
        for name in ("encoder_out", "predictor_out")
    ]
    outputs = [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["N", len(PIECES)])]
    return nodes, constants, inputs, outputs


def _save(path: Path, nodes: list[NodeProto], constants: dict, inputs: list, outputs: list) -> None:
    weights = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 18)]
    save(helper.make_model(graph, ir_version=10, opset_imports=opsets), str(path))
