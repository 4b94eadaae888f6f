"""The three graphs of a transducer."""

import torch

from asr.bundle import StreamingConfig
from asr.errors import ExportError
from export.fused.arithmetic import Arithmetic, uniform
from export.fused.encoder import encoder_graph
from export.fused.heads import joiner_graph, predictor_graph
from export.onnx import Graphs
from training.model import Transducer


def export_graphs(
    model: Transducer, streaming: StreamingConfig, arithmetic: Arithmetic | None = None
) -> Graphs:
    """Return the graphs of a model in evaluation mode, on the CPU; in float unless told otherwise.

    Raises ExportError if the model is in training mode, or a layer can't have the precision that
    `arithmetic` names.
    """
    if model.training:
        raise ExportError("the model is in training mode; call model.eval() before its export")
    arithmetic = arithmetic or uniform("fp32")
    with torch.no_grad():
        return Graphs(
            encoder_graph(model.encoder, streaming, arithmetic),
            predictor_graph(model.predictor, model.config, arithmetic),
            joiner_graph(model.joiner, model.config, arithmetic),
        )
