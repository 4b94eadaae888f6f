"""The graphs keep the contract and compute what the model computes."""

import copy
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import ModelProto, numpy_helper

from asr.bundle import MAX_CHUNK_FRAMES
from asr.errors import ExportError
from export.fused import export_graphs
from export.onnx import Graphs
from export.plain import plain_graphs
from export.verify import MAX_ERROR, verify_interface, verify_parity
from tests.export.conftest import STREAMING
from training.model import Transducer, initial_state


def test_the_graphs_keep_the_contract(exact: Graphs, quantized: Graphs, model: Transducer) -> None:
    verify_interface(exact, model.config, STREAMING)
    verify_interface(quantized, model.config, STREAMING)
    metadata = {item.key: item.value for item in exact.encoder.metadata_props}
    assert metadata == {
        "model_type": "conformer",
        "num_encoder_layers": "2",
        "T": "35",
        "decode_chunk_len": "32",
        "left_context": "64",
        "encoder_dim": "128",
        "pad_length": "3",
        "cnn_module_kernel": "5",
    }
    assert [value.name for value in exact.encoder.graph.input] == [
        "x",
        "attn_cache",
        "conv_cache",
        "processed_frames",
    ]
    for _, graph in (*exact.items(), *quantized.items()):
        onnx.checker.check_model(graph)
        # Said here again: onnx would write newer ones, which the oldest runtimes refuse.
        assert graph.ir_version <= 10
        versions = {item.domain: item.version for item in graph.opset_import}
        assert versions == {"": 18, "com.microsoft": 1}


@pytest.mark.parametrize("part", ["name", "metadata", "opset", "ir"])
def test_a_broken_contract_is_refused(exact: Graphs, model: Transducer, part: str) -> None:
    graph = copy.deepcopy(exact.predictor)
    if part == "name":
        graph.graph.output[0].name = "decoder_out"
    elif part == "metadata":
        graph.metadata_props[0].value = "31"
    elif part == "opset":
        graph.opset_import[0].version = 17
    else:
        graph.ir_version = 14
    with pytest.raises(ExportError, match="the predictor has"):
        verify_interface(replace(exact, predictor=graph), model.config, STREAMING)


def test_graphs_equal_the_model(exact: Graphs, model: Transducer) -> None:
    parity = verify_parity(model, exact, STREAMING)
    assert max(parity.encoder, parity.predictor, parity.joiner) <= MAX_ERROR / 10


@pytest.mark.parametrize("name", ["encoder", "predictor", "joiner"])
def test_a_graph_with_a_changed_weight_is_refused(
    exact: Graphs, model: Transducer, name: str
) -> None:
    graph = copy.deepcopy(getattr(exact, name))
    change_a_weight(graph)
    with pytest.raises(ExportError, match=f"graph of the {name}.* differs from the model"):
        verify_parity(model, replace(exact, **{name: graph}), STREAMING)


@torch.no_grad()
def test_any_chunk_size_gives_the_frames_of_the_model(exact: Graphs, model: Transducer) -> None:
    session = open_session(exact.encoder)
    for chunk in [1, 2, 7, 33, MAX_CHUNK_FRAMES]:
        features = torch.randn(1, 4 * chunk + 3, 80)
        state = initial_state(model.config, 1, STREAMING.left_context_frames)
        found = session.run(None, feeds(features, state))
        expected = model.encoder(features, state)
        assert found[0].shape == (1, chunk, model.config.joiner_dim)
        np.testing.assert_allclose(found[0], expected.frames, atol=MAX_ERROR)


def test_a_chunk_beyond_the_tables_is_an_error_and_not_wrong(
    exact: Graphs, model: Transducer
) -> None:
    features = torch.randn(1, 4 * (MAX_CHUNK_FRAMES + 1) + 3, 80)
    state = initial_state(model.config, 1, STREAMING.left_context_frames)
    with pytest.raises(Exception, match="RotaryEmbedding"):
        open_session(exact.encoder).run(None, feeds(features, state))


def test_a_decoder_that_zeroes_processed_frames_keeps_the_context(
    exact: Graphs, model: Transducer
) -> None:
    """sherpa-onnx does so when it resets a stream at an endpoint."""
    session = open_session(exact.encoder)
    features = torch.randn(1, 35, 80)
    state = initial_state(model.config, 1, STREAMING.left_context_frames)
    _, attention, conv = map(torch.from_numpy, session.run(None, feeds(features, state)))
    carried = state._replace(attention=attention, conv=conv)
    again = session.run(None, feeds(features, carried))
    counted = carried._replace(processed_frames=torch.tensor([32]))
    assert np.array_equal(again[0], session.run(None, feeds(features, counted))[0])
    fresh = session.run(None, feeds(features, state))
    assert not np.allclose(again[0], fresh[0], atol=1e-2)


def test_joined_log_probabilities_are_finite_and_normalised(
    exact: Graphs, model: Transducer
) -> None:
    """However sure the blank is: beam search adds these numbers up."""
    joiner = copy.deepcopy(exact.joiner)
    bias = next(tensor for tensor in joiner.graph.initializer if tensor.name == "joiner.bias")
    values = numpy_helper.to_array(bias).copy()
    for values[0] in (-500.0, 500.0):  # the blank's
        bias.CopyFrom(numpy_helper.from_array(values, bias.name))
        frame = np.random.default_rng(0).standard_normal((3, 256)).astype(np.float32)
        (scores,) = open_session(joiner).run(None, {"encoder_out": frame, "predictor_out": frame})
        assert np.isfinite(scores).all()
        np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, atol=1e-4)


def test_the_encoder_has_few_nodes(quantized: Graphs, model: Transducer) -> None:
    """Every node costs microseconds in each call."""
    nodes = [node.op_type for node in quantized.encoder.graph.node]
    assert len(nodes) <= 52 + 34 * model.config.layers
    assert not {"Identity", "Constant", "Where", "If", "Loop"} & set(nodes)


def test_the_baseline_equals_the_model(plain: Graphs, model: Transducer) -> None:
    verify_interface(plain, model.config, STREAMING)
    parity = verify_parity(model, plain, STREAMING)
    assert max(parity.encoder, parity.predictor, parity.joiner) <= MAX_ERROR / 10


def test_onnxruntime_needs_to_optimise_nothing(exact: Graphs, model: Transducer) -> None:
    """What it could fuse is fused already, so a device that skips that is as good."""
    state = initial_state(model.config, 1, STREAMING.left_context_frames)
    fed = feeds(torch.randn(1, 35, 80), state)
    found = open_session(exact.encoder).run(None, fed)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    bare = ort.InferenceSession(exact.encoder.SerializeToString(), options).run(None, fed)
    for one, other in zip(found, bare, strict=True):
        np.testing.assert_allclose(one, other, atol=MAX_ERROR)


def test_a_model_in_training_mode_is_not_exported(model: Transducer) -> None:
    for export in (export_graphs, plain_graphs):
        with pytest.raises(ExportError, match="training mode"):
            export(copy.deepcopy(model).train(), STREAMING)


def open_session(graph: ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(graph.SerializeToString(), options)


def feeds(features: torch.Tensor, state: tuple[torch.Tensor, ...]) -> dict[str, np.ndarray]:
    names = ["x", "attn_cache", "conv_cache", "processed_frames"]
    return dict(zip(names, [value.numpy() for value in (features, *state)], strict=True))


def change_a_weight(graph: ModelProto) -> None:
    """Add 0.1 to one number of the largest weight."""
    weight = max(graph.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    array = numpy_helper.to_array(weight).copy()
    array.flat[array.size // 2] += 0.1
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
