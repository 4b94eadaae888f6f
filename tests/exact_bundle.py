"""The shipped weights in fp32: the built-in bundle has them in int8 alone."""

from pathlib import Path

from asr.bundle import Bundle, StreamingConfig
from export.bundle import BundleContents, write_bundle
from export.fused import export_graphs
from training.model import Transducer

CHECKPOINT = Path("data/model")


def write_exact_bundle(path: Path, model: Transducer, tokens: list[str]) -> Bundle:
    """Export a loaded checkpoint in float32."""
    graphs = {"fp32": export_graphs(model, StreamingConfig())}
    return write_bundle(path, BundleContents("en", model, tokens, graphs))
