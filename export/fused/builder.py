"""Collects the nodes and weights of one ONNX graph."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor, nn

from export.fused.arithmetic import (
    INT4_BLOCK,
    Arithmetic,
    pack_int4,
    quantize_int4,
    quantize_int8,
)
from export.onnx import CONTRIB, IR_VERSION, OPSETS, Interface

_INT64_INPUTS = ("processed_frames", "y")


class GraphBuilder:
    """Writes a graph in the order in which it is computed; values are known by their names."""

    def __init__(self, arithmetic: Arithmetic) -> None:
        """`arithmetic` says in what precision each linear layer computes."""
        self._arithmetic = arithmetic
        self._nodes: list[NodeProto] = []
        self._weights: dict[str, TensorProto] = {}

    def weight(self, name: str, value: Tensor | NDArray[Any]) -> str:
        """Store a weight under its name, once."""
        if name not in self._weights:
            array = value.detach().numpy() if isinstance(value, Tensor) else value
            self._weights[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def ints(self, *values: int) -> str:
        """Store a vector of int64, such as axes or a shape."""
        return self.weight(f"ints{list(values)}", np.array(values, dtype=np.int64))

    def nodes(
        self, operator: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs; return their names. An input "" is left out."""
        name = f"{operator}_{len(self._nodes)}"  # a profiler tells nodes apart by it
        names = [f"{name}.{number}" for number in range(outputs)]
        node = helper.make_node(operator, list(inputs), names, name, domain=domain, **attributes)
        self._nodes.append(node)
        return names

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; return its name."""
        (output,) = self.nodes(operator, *inputs, outputs=1, domain=domain, **attributes)
        return output

    def split(self, x: str, parts: int, axis: int) -> list[str]:
        """Cut `x` into equal parts."""
        return self.nodes("Split", x, outputs=parts, axis=axis, num_outputs=parts)

    def slice(self, x: str, start: str, end: str, axis: int) -> str:
        """Return `x[start:end]` along an axis; both are vectors of one int64."""
        return self.node("Slice", x, start, end, self.ints(axis))

    def linear(self, x: str, weight: Tensor, bias: Tensor, name: str) -> str:
        """Return `x @ weight.T + bias`, in the precision that the arithmetic has for `name`.

        `weight (out, in)` is laid out as in `torch.nn.Linear`.
        """
        matrix = weight.detach().numpy().T
        bias_name = self.weight(f"{name}.bias", bias)
        precision = self._arithmetic(name)
        if precision == "fp32":
            product = self.node("MatMul", x, self.weight(f"{name}.weight", matrix))
            return self.node("Add", product, bias_name)
        numbers, scale = (quantize_int8 if precision == "int8" else quantize_int4)(matrix)
        scale_name = self.weight(f"{name}.scale", scale)
        if precision == "int8":
            stored = self.weight(f"{name}.weight", numbers)
            parts = x, stored, scale_name, "", bias_name
            return self.node("DynamicQuantizeMatMul", *parts, domain=CONTRIB)
        stored = self.weight(f"{name}.weight", pack_int4(numbers))
        inputs, outputs = matrix.shape
        return self.node(
            "MatMulNBits",
            x,
            stored,
            scale_name,
            "",
            "",
            bias_name,
            domain=CONTRIB,
            K=inputs,
            N=outputs,
            bits=4,
            block_size=INT4_BLOCK,
            accuracy_level=4,
        )

    def layer(self, x: str, layer: nn.Linear, name: str) -> str:
        """Apply a linear layer."""
        return self.linear(x, layer.weight, layer.bias, name)

    def embedding(self, indices: str, table: Tensor, name: str) -> str:
        """Return the rows of `table (V, D)` at `indices`; int8 where layers are int4."""
        array = table.detach().numpy()
        if self._arithmetic(name) == "fp32":
            return self.node("Gather", self.weight(f"{name}.table", array), indices, axis=0)
        numbers, scale = quantize_int8(array)
        rows = self.node("Gather", self.weight(f"{name}.table", numbers), indices, axis=0)
        return self.node("DequantizeLinear", rows, self.weight(f"{name}.scale", scale), axis=-1)

    def norm(self, x: str, norm: nn.LayerNorm, name: str) -> str:
        """LayerNorm over the last dimension.

        onnxruntime's SkipLayerNormalization, which adds the residual too, takes four times as long
        as an addition and this.
        """
        weight = self.weight(f"{name}.weight", norm.weight)
        bias = self.weight(f"{name}.bias", norm.bias)
        return self.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=norm.eps)

    def silu(self, x: str) -> str:
        """Return `x * sigmoid(x)`, which is QuickGELU with a slope of 1."""
        return self.node("QuickGelu", x, domain=CONTRIB, alpha=1.0)

    def model(self, interface: Interface, results: list[str]) -> ModelProto:
        """Return the graph: the inputs of `interface`, `results` as its outputs, its metadata."""
        names = dict(zip(results, interface.outputs, strict=True))
        for node in self._nodes:
            for number, output in enumerate(node.output):
                node.output[number] = names.get(output, output)
        graph = helper.make_graph(
            self._nodes,
            "fused",
            [_declare(name, shape) for name, shape in interface.inputs.items()],
            [_declare(name, shape) for name, shape in interface.outputs.items()],
            list(self._weights.values()),
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        helper.set_model_props(model, interface.metadata)
        return model


def joined(*layers: nn.Linear) -> tuple[Tensor, Tensor]:
    """Return weight and bias of one layer whose output is that of all of them, side by side."""
    weight = torch.cat([layer.weight for layer in layers])
    return weight, torch.cat([layer.bias for layer in layers])


def _declare(name: str, shape: tuple[int | str, ...]) -> ValueInfoProto:
    kind = TensorProto.INT64 if name in _INT64_INPUTS else TensorProto.FLOAT
    return helper.make_tensor_value_info(name, kind, list(shape))
