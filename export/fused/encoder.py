"""One step of the streaming encoder, node by node.

It computes what `training.model.ConformerEncoder` computes (`export.verify` holds each export
against it), but written for an engine whose time is nodes and memory traffic:

- queries, keys and values are one product, and a head's share of a constant is in its weights;
- the caches of all layers are laid out for attention at once, and extended at once, so that no
  layer concatenates or cuts its own;
- the depthwise convolution is a gather of its taps, a product and a sum: 7 us where onnxruntime's
  convolution takes 22 (128 channels, 15 taps, 8 frames, without the blocked layout that only some
  processors have).
"""

import numpy as np
from onnx import ModelProto
from torch import Tensor, nn

from asr.bundle import MAX_CHUNK_FRAMES, StreamingConfig
from export.fused.arithmetic import Arithmetic
from export.fused.builder import GraphBuilder, joined
from export.onnx import CONTRIB, interfaces
from training.model import ConformerEncoder, ModelConfig
from training.model.attention import MASKED, RotaryPositions, SelfAttention
from training.model.config import HEAD_DIM
from training.model.convolution import CausalConvolution
from training.model.encoder import ConformerBlock, FeedForward
from training.model.subsampling import Subsampling

_END = 2**31 - 1  # of a slice: as far as there is


def encoder_graph(
    encoder: ConformerEncoder, streaming: StreamingConfig, arithmetic: Arithmetic
) -> ModelProto:
    """Return the graph of a step. Layers are named `encoder.subsampling`, `encoder.blocks.0...`,
    `encoder.output`."""
    step = _EncoderStep(encoder, streaming, GraphBuilder(arithmetic))
    return step.graph.model(interfaces(encoder.config, streaming)["encoder"], step.write())


class _EncoderStep:
    """Writes the graph; comments give the shapes of values."""

    def __init__(
        self, encoder: ConformerEncoder, streaming: StreamingConfig, graph: GraphBuilder
    ) -> None:
        self.graph = graph
        self._encoder = encoder
        self._config: ModelConfig = encoder.config
        self._left = streaming.left_context_frames
        self._positions = RotaryPositions(self._left + MAX_CHUNK_FRAMES)

    def write(self) -> list[str]:
        """Write all nodes; return the names of the outputs."""
        graph = self.graph
        x = self._subsample()
        self._frames = graph.node("Shape", x, start=1, end=2)  # [C]
        valid_left = self._valid_left()
        self._mask = self._attention_mask(valid_left)
        self._taps = self._convolution_taps()
        past = self._attention_past()
        conv_past = self._convolution_past()
        keys_values: list[str] = []
        gated: list[str] = []
        conv_pasts = graph.split(conv_past, self._config.layers, axis=0)
        for number, block in enumerate(self._encoder.blocks):
            assert isinstance(block, ConformerBlock)
            name = f"encoder.blocks.{number}"
            x = self._add_feed_forward(x, block.feedforward_in, f"{name}.feedforward_in")
            normed = graph.norm(x, block.attention.norm, f"{name}.attention.norm")
            attended, key, value = self._attend(normed, block.attention, past[number], name)
            x = graph.node("Add", x, attended)
            keys_values += [key, value]
            normed = graph.norm(x, block.convolution.norm, f"{name}.convolution.norm")
            convolved, gate = self._convolve(normed, block.convolution, conv_pasts[number], name)
            x = graph.node("Add", x, convolved)
            gated.append(gate)
            x = self._add_feed_forward(x, block.feedforward_out, f"{name}.feedforward_out")
            x = graph.norm(x, block.norm, f"{name}.norm")
        return [
            graph.layer(x, self._encoder.output, "encoder.output"),
            self._next_attention_cache(keys_values),
            self._next_conv_cache(gated, conv_past, valid_left),
        ]

    def _subsample(self) -> str:
        """Features `[N, T, F]` to `[N, C, D]`."""
        graph, encoder = self.graph, self._encoder
        part: Subsampling = encoder.subsampling
        x = graph.node("Sub", "x", graph.weight("feature_mean", encoder.feature_mean))
        scale = graph.weight("feature_inverse_std", encoder.feature_inverse_std)
        x = graph.node("Unsqueeze", graph.node("Mul", x, scale), graph.ints(1))
        x = graph.silu(self._conv2d(x, part.first, "first"))
        x = self._conv2d(x, part.depthwise, "depthwise")
        x = graph.silu(self._conv2d(x, part.pointwise, "pointwise"))
        x = graph.node("Transpose", x, perm=[0, 2, 1, 3])
        x = graph.node("Reshape", x, graph.ints(0, 0, -1))
        x = graph.layer(x, part.output, "encoder.subsampling")
        return graph.norm(x, part.norm, "encoder.subsampling.norm")

    def _conv2d(self, x: str, conv: nn.Conv2d, name: str) -> str:
        assert conv.bias is not None
        return self.graph.node(
            "Conv",
            x,
            self.graph.weight(f"encoder.subsampling.{name}.weight", conv.weight),
            self.graph.weight(f"encoder.subsampling.{name}.bias", conv.bias),
            kernel_shape=list(conv.kernel_size),
            strides=list(conv.stride),
            group=conv.groups,
        )

    def _valid_left(self) -> str:
        """How many rows of the attention cache are real, `[N, 1, 1, 1]`."""
        graph = self.graph
        first, last = graph.ints(0, 0, 0), graph.ints(1, 1, 1)
        row = graph.node("Slice", "conv_cache", first, last, graph.ints(0, 1, 3))
        return graph.node("Reshape", row, graph.ints(-1, 1, 1, 1))

    def _attention_mask(self, valid_left: str) -> str:
        """What each new frame may see, `[N, 1, C, left + C]`, to add to the scores."""
        graph, left = self.graph, self._left
        positions = np.arange(left + MAX_CHUNK_FRAMES, dtype=np.float32) - left
        table = graph.weight("key_positions", positions[None, None, None, :])
        rows = graph.node("Add", self._frames, graph.ints(left))
        keys = graph.slice(table, graph.ints(0), rows, axis=3)
        lowest = graph.weight("hidden", np.array(-1, np.float32))
        highest = graph.weight("visible", np.array(0, np.float32))
        visible = graph.node("Clip", graph.node("Add", keys, valid_left), lowest, highest)
        mask = graph.node("Mul", visible, graph.weight("masked", np.array(-MASKED, np.float32)))
        shape = graph.node("Concat", graph.ints(1, 1), self._frames, graph.ints(1), axis=0)
        return graph.node("Expand", mask, shape)

    def _convolution_taps(self) -> str:
        """The frames under each output of the depthwise convolution, `[C, k]`."""
        taps = np.arange(MAX_CHUNK_FRAMES)[:, None] + np.arange(self._config.conv_kernel)
        table = self.graph.weight("taps", taps)
        return self.graph.slice(table, self.graph.ints(0), self._frames, axis=0)

    def _attention_past(self) -> list[tuple[str, str]]:
        """Cached keys, rotated, and values of each layer, each `[N, H, left, HEAD_DIM]`."""
        graph, config, left = self.graph, self._config, self._left
        split = graph.ints(config.layers, left, -1, 2, config.heads, HEAD_DIM)
        rows = graph.node("Reshape", "attn_cache", split)
        heads = graph.node("Transpose", rows, perm=[0, 3, 2, 4, 1, 5])  # [L, 2, N, H, left, 32]
        flat = graph.node("Reshape", heads, graph.ints(-1, config.heads, left, HEAD_DIM))
        parts = graph.split(flat, 2 * config.layers, axis=0)
        keys = [self._rotate(key, 0, left) for key in parts[::2]]
        return list(zip(keys, parts[1::2], strict=True))

    def _rotate(self, x: str, first: int, rows: int) -> str:
        """Rotate by the positions `first`, ... of the window; more than `rows` are an error."""
        # The table of `training.model` has both halves, this operator wants one; and there the
        # sines of the first half have the minus.
        half = slice(HEAD_DIM // 2, None)
        window = slice(first, first + rows)
        cos = self.graph.weight(f"cos_{first}", self._positions.cos[window, half])
        sin = self.graph.weight(f"sin_{first}", self._positions.sin[window, half])
        return self.graph.node("RotaryEmbedding", x, self.graph.ints(0), cos, sin, domain=CONTRIB)

    def _add_feed_forward(self, x: str, part: FeedForward, name: str) -> str:
        """Half a feed-forward and its residual: `[N, C, D]` -> `[N, C, D]`."""
        graph = self.graph
        hidden = graph.layer(
            graph.norm(x, part.norm, f"{name}.norm"), part.expand, f"{name}.expand"
        )
        halved = 0.5 * part.project.weight, 0.5 * part.project.bias
        return graph.node("Add", x, graph.linear(graph.silu(hidden), *halved, f"{name}.project"))

    def _attend(
        self, x: str, part: SelfAttention, past: tuple[str, str], name: str
    ) -> tuple[str, str, str]:
        """`[N, C, D]` -> what attention gives, and the new keys, unrotated, and values."""
        graph = self.graph
        together = graph.linear(x, *joined(part.query, part.key_value), f"{name}.attention.qkv")
        query, key, value = graph.split(together, 3, axis=2)
        # Keys and values with the cached ones before them are outputs too: without these
        # outputs, onnxruntime does not read the cached ones.
        heads, _, _ = graph.nodes(
            "MultiHeadAttention",
            self._rotate(query, self._left, MAX_CHUNK_FRAMES),
            self._rotate(key, self._left, MAX_CHUNK_FRAMES),
            value,
            "",
            "",
            self._mask,
            *past,
            outputs=3,
            domain=CONTRIB,
            num_heads=self._config.heads,
        )
        return graph.layer(heads, part.output, f"{name}.attention.output"), key, value

    def _convolve(self, x: str, part: CausalConvolution, past: str, name: str) -> tuple[str, str]:
        """`[N, C, D]`, and the k-1 inputs before it -> the same, and the new inputs."""
        graph, name = self.graph, f"{name}.convolution"
        value, gate = graph.split(graph.layer(x, part.expand, f"{name}.expand"), 2, axis=2)
        gated = graph.node("Mul", value, graph.node("Sigmoid", gate))
        window = graph.node("Concat", past, gated, axis=1)  # [N, k-1+C, D]
        taps = graph.node("Gather", window, self._taps, axis=1)  # [N, C, k, D]
        kernel: Tensor = part.depthwise.weight[:, 0].T  # [k, D]
        products = graph.node("Mul", taps, graph.weight(f"{name}.depthwise.weight", kernel))
        total = graph.node("ReduceSum", products, graph.ints(2), keepdims=0)
        assert part.depthwise.bias is not None
        total = graph.node(
            "Add", total, graph.weight(f"{name}.depthwise.bias", part.depthwise.bias)
        )
        hidden = graph.silu(graph.norm(total, part.depthwise_norm, f"{name}.depthwise_norm"))
        return graph.layer(hidden, part.project, f"{name}.project"), gated

    def _convolution_past(self) -> str:
        """The last k-1 inputs of the convolutions, `[L N, k-1, D]`."""
        graph, config = self.graph, self._config
        rows = graph.slice("conv_cache", graph.ints(1), graph.ints(_END), axis=1)
        rows = graph.node("Transpose", rows, perm=[0, 2, 1, 3])  # [L, N, (k-1)/2, 2D]
        return graph.node("Reshape", rows, graph.ints(-1, config.conv_kernel - 1, config.dim))

    def _next_attention_cache(self, keys_values: list[str]) -> str:
        """`[L, left, N, 2D]`: the cache without its oldest C rows, and the new rows."""
        graph, frames = self.graph, self._frames
        layers, dim = self._config.layers, self._config.dim
        new = graph.node("Concat", *keys_values, axis=0)  # [L 2 N, C, D]
        shape = graph.node("Concat", graph.ints(layers, 2, -1), frames, graph.ints(dim), axis=0)
        new = graph.node("Reshape", new, shape)
        new = graph.node("Transpose", new, perm=[0, 3, 2, 1, 4])  # [L, C, N, 2, D]
        shape = graph.node("Concat", graph.ints(layers), frames, graph.ints(-1, 2 * dim), axis=0)
        new = graph.node("Reshape", new, shape)
        new = graph.slice(new, graph.ints(-self._left), graph.ints(_END), axis=1)
        old = graph.slice("attn_cache", frames, graph.ints(_END), axis=1)
        return graph.node("Concat", old, new, axis=1)

    def _next_conv_cache(self, gated: list[str], past: str, valid_left: str) -> str:
        """`[L, 1 + (k-1)/2, N, 2D]`: the count of real rows, and the last k-1 inputs."""
        graph, config = self.graph, self._config
        kept = config.conv_kernel - 1
        frames = graph.node("Concat", past, graph.node("Concat", *gated, axis=0), axis=1)
        frames = graph.slice(frames, graph.ints(-kept), graph.ints(_END), axis=1)
        rows = graph.ints(config.layers, -1, kept // 2, 2 * config.dim)
        inputs = graph.node("Transpose", graph.node("Reshape", frames, rows), perm=[0, 2, 1, 3])
        new = graph.node("Cast", self._frames, to=1)
        most = graph.weight("left", np.array(self._left, np.float32))
        count = graph.node("Min", graph.node("Add", valid_left, new), most)
        count = graph.node("Reshape", count, graph.ints(1, 1, -1, 1))
        count = graph.node("Expand", count, graph.ints(config.layers, 1, 1, 2 * config.dim))
        return graph.node("Concat", count, inputs, axis=1)
