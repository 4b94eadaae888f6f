"""Graph passes change no result, and leave alone what they don't understand."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.graph_passes import fold_scales, widen_depthwise_convolutions

RNG = np.random.default_rng(0)


def build(nodes: list[NodeProto], shape: list[int | str], outputs: str, **weights: np.ndarray):  # type: ignore[no-untyped-def]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [
            numpy_helper.from_array(value.astype(np.float32), name)
            for name, value in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model: ModelProto, x: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options)
    outputs: list[np.ndarray] = session.run(None, {"x": x.astype(np.float32)})
    return outputs


def operators(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def scaled_linear(scale_first: bool, outputs: str) -> ModelProto:
    factors = ["c", "a"] if scale_first else ["a", "c"]
    return build(
        [
            helper.make_node("MatMul", ["x", "w"], ["m"]),
            helper.make_node("Add", ["m", "b"], ["a"]),
            helper.make_node("Mul", factors, ["y"]),
        ],
        ["N", 4],
        outputs,
        w=RNG.standard_normal((4, 3)),
        b=RNG.standard_normal(3),
        c=np.array(0.5),
    )


@pytest.mark.parametrize("scale_first", [True, False])
def test_a_scale_moves_into_the_layer_before_it(scale_first: bool) -> None:
    model = scaled_linear(scale_first, outputs="y")
    x = RNG.standard_normal((5, 4))
    before = run(model, x)
    fold_scales(model)
    assert operators(model) == ["MatMul", "Add"]
    assert [tensor.name for tensor in model.graph.initializer] == ["w", "b"]
    np.testing.assert_array_equal(run(model, x)[0], before[0])


def test_a_layer_that_is_used_without_the_scale_is_left_alone() -> None:
    model = scaled_linear(scale_first=False, outputs="ya")
    x = RNG.standard_normal((5, 4))
    before = run(model, x)
    fold_scales(model)
    assert operators(model) == ["MatMul", "Add", "Mul"]
    np.testing.assert_array_equal(run(model, x), before)


def test_a_shared_weight_is_left_alone() -> None:
    model = build(
        [
            helper.make_node("MatMul", ["x", "w"], ["m"]),
            helper.make_node("Add", ["m", "b"], ["a"]),
            helper.make_node("Mul", ["a", "c"], ["y"]),
            helper.make_node("MatMul", ["y", "w"], ["z"]),
        ],
        ["N", 4],
        "z",
        w=RNG.standard_normal((4, 4)),
        b=RNG.standard_normal(4),
        c=np.array(0.5),
    )
    before = run(model, np.ones((2, 4)))
    fold_scales(model)
    np.testing.assert_array_equal(run(model, np.ones((2, 4)))[0], before[0])


def convolution(channels_per_group: int, **attributes: object) -> ModelProto:
    return build(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv", **attributes)],
        ["N", 6, "T"],
        "y",
        w=RNG.standard_normal((6, channels_per_group, 5)),
        b=RNG.standard_normal(6),
    )


@pytest.mark.parametrize("frames", [5, 6, 12])
def test_a_depthwise_convolution_becomes_one_over_images(frames: int) -> None:
    model = convolution(1, group=6)
    x = RNG.standard_normal((2, 6, frames))
    before = run(model, x)
    widen_depthwise_convolutions(model)
    assert operators(model) == ["Unsqueeze", "Conv", "Squeeze"]
    np.testing.assert_allclose(run(model, x)[0], before[0], atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        convolution(2, group=3),
        convolution(1, group=6, strides=[2]),
        convolution(1, group=6, pads=[4, 0]),
        convolution(1, group=6, dilations=[2]),
    ],
    ids=["grouped", "strided", "padded", "dilated"],
)
def test_other_convolutions_are_left_alone(model: ModelProto) -> None:
    before = model.SerializeToString()
    widen_depthwise_convolutions(model)
    assert model.SerializeToString() == before
