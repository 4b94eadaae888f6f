"""The graphs that devices run, written node by node: few nodes, and large ones."""

from export.fused.arithmetic import PRECISIONS, Arithmetic, uniform
from export.fused.graphs import export_graphs

__all__ = ["PRECISIONS", "Arithmetic", "export_graphs", "uniform"]
