"""The predictor and the joiner, node by node."""

import torch
from onnx import ModelProto

from asr.bundle import StreamingConfig
from export.fused.arithmetic import Arithmetic
from export.fused.builder import GraphBuilder, joined
from export.onnx import interfaces
from training.model import ModelConfig, StatelessPredictor
from training.model.joiner import FactorizedJoiner


def predictor_graph(
    predictor: StatelessPredictor, config: ModelConfig, arithmetic: Arithmetic
) -> ModelProto:
    """Return the graph of the predictor; its layers are named `predictor...`.

    The convolution is linear in the embedding of each token, so a table holds what it makes of each
    token in each place, and its bias. The first row of a place is that of -1, "no token yet".
    """
    graph = GraphBuilder(arithmetic)
    with torch.no_grad():
        taps = _place_tables(predictor)
    rows = taps.shape[1]
    first_rows = graph.ints(*(place * rows + 1 for place in range(len(taps))))
    indices = graph.node("Add", "y", first_rows)
    seen = graph.embedding(indices, taps.flatten(0, 1), "predictor.embedding")
    total = graph.node("ReduceSum", seen, graph.ints(1), keepdims=0)
    hidden = graph.node("Relu", total)
    out = graph.layer(hidden, predictor.output, "predictor.output")
    return graph.model(interfaces(config, StreamingConfig())["predictor"], [out])


def joiner_graph(
    joiner: FactorizedJoiner, config: ModelConfig, arithmetic: Arithmetic
) -> ModelProto:
    """Return the graph of the joiner; its layer is named `joiner`: blank and labels in one."""
    graph = GraphBuilder(arithmetic)
    hidden = graph.node("Tanh", graph.node("Add", "encoder_out", "predictor_out"))
    scores = graph.linear(hidden, *joined(joiner.blank, joiner.labels), "joiner")
    sizes = graph.ints(1, config.vocab_size - 1)
    blank, labels = graph.nodes("Split", scores, sizes, outputs=2, axis=1)
    # As in training.model.joiner: sigmoid(b) = softmax([b + logsumexp(labels), labels])[0].
    total = graph.node("ReduceLogSumExp", labels, graph.ints(1), keepdims=1)
    both = graph.node("Concat", graph.node("Add", blank, total), labels, axis=1)
    out = graph.node("LogSoftmax", both, axis=1)
    return graph.model(interfaces(config, StreamingConfig())["joiner"], [out])


def _place_tables(predictor: StatelessPredictor) -> torch.Tensor:
    """Return `(context_size, V + 1, joiner_dim)`: what a token adds to the convolution's output."""
    conv, embedded = predictor.convolution, predictor.embedding.weight
    tables = []
    for place in range(predictor.context_size):
        tap = torch.nn.functional.conv1d(
            embedded.unsqueeze(2), conv.weight[:, :, place : place + 1], groups=conv.groups
        ).squeeze(2)
        tables.append(torch.cat([torch.zeros(1, tap.size(1)), tap]))
    assert conv.bias is not None
    tables[-1] = tables[-1] + conv.bias
    return torch.stack(tables)
