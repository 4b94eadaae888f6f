"""ONNX graphs in onnxruntime's own format, `.ort`: optimised here, so that a device need not.

Only what is the same on every processor is done to them: fusions, which the format's own nodes
express, but no layouts of weights for the registers of this machine (`ORT_ENABLE_ALL` has those).
What is written with onnxruntime 1.31 was loaded and gave the same words in 1.23 on an emulated Arm:
`tests/test_emulation.py`.
"""

import tempfile
from pathlib import Path

import onnxruntime as ort
from onnx import ModelProto

SUFFIX = ".ort"


def to_ort_format(graph: ModelProto) -> bytes:
    """Return the graph as an `.ort` file."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.save_model_format", "ORT")
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "graph" + SUFFIX)
        options.optimized_model_filepath = str(written)
        ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return written.read_bytes()
