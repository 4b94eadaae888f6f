"""Where the time of the networks goes, operator by operator, as the engine's own profiler has it.

A function for each engine runs the graphs of a bundle with made-up input and returns what each node
took; merging is the same for all. Profiling itself costs about a microsecond a node, so the sums
are above what a step takes without it: read the shares.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.bundle import Bundle, GraphFiles
from asr.errors import AsrError

GRAPHS = ("encoder", "predictor", "joiner")
CALLS = 30
UNNAMED = "(unnamed)"

_KERNEL = "_kernel_time"
_LAYER = re.compile(r"\.\d+(?=\.|$)")


@dataclass(frozen=True, slots=True)
class NodeTime:
    """One node of a graph, as the engine runs it: after its own optimisation."""

    graph: str
    name: str
    op_type: str
    module: str  # of the model, layers merged: "blocks.*.attention"; "(unnamed)": not known
    calls: int
    seconds: float  # of all calls


@dataclass(frozen=True, slots=True)
class MergedTime:
    """Nodes that have something in common."""

    name: str
    calls: int  # kernels run, in one call of their graphs
    ms: float  # in one call of their graphs
    share: float  # of the time of all nodes


@dataclass(frozen=True, slots=True)
class OperatorProfile:
    """What each node took, in `calls` calls of every graph."""

    nodes: tuple[NodeTime, ...]
    calls: int

    def by_type(self) -> list[MergedTime]:
        """Merge the nodes of a type, the dearest first."""
        return self._merge(lambda node: node.op_type)

    def by_module(self) -> list[MergedTime]:
        """Merge the nodes of a part of the model, the dearest first."""
        return self._merge(lambda node: f"{node.graph}: {node.module}")

    def count(self, graph: str) -> int:
        """How many nodes one call of this graph runs."""
        return sum(node.calls for node in self.nodes if node.graph == graph) // self.calls

    def to_dict(self) -> dict[str, Any]:
        """The merged times as plain data."""
        return {
            "calls": self.calls,
            "by_type": [asdict(item) for item in self.by_type()],
            "by_module": [asdict(item) for item in self.by_module()],
            "graphs": [
                {"graph": graph, "nodes": self.count(graph), "ms": self._ms(graph)}
                for graph in GRAPHS
            ],
        }

    def _ms(self, graph: str) -> float:
        return 1000 * sum(n.seconds for n in self.nodes if n.graph == graph) / self.calls

    def _merge(self, key: Callable[[NodeTime], str]) -> list[MergedTime]:
        merged: dict[str, tuple[int, float]] = {}
        for node in self.nodes:
            calls, seconds = merged.get(key(node), (0, 0.0))
            merged[key(node)] = calls + node.calls, seconds + node.seconds
        total_s = sum(seconds for _, seconds in merged.values())
        times = [
            MergedTime(name, calls // self.calls, 1000 * seconds / self.calls, seconds / total_s)
            for name, (calls, seconds) in merged.items()
        ]
        return sorted(times, key=lambda item: -item.ms)


def profile_operators(
    bundle: Bundle,
    graphs: GraphFiles,
    threads: int,
    chunk_frames: int,
    *,
    names: Sequence[str] = GRAPHS,
    calls: int = CALLS,
) -> OperatorProfile:
    """Run the graphs `names` of a variant `calls` times and return what their nodes took.

    Raises AsrError for an engine without a profiler.
    """
    if graphs.engine == "executorch":
        raise AsrError(
            "ExecuTorch's wheels are built without its event tracer, so its operators can't be "
            "timed from Python; build it with EXECUTORCH_ENABLE_EVENT_TRACER=ON, and read its "
            "ETDump with executorch.devtools.Inspector"
        )
    if graphs.engine not in _PROFILERS:
        raise AsrError(
            f"no operator profile of the engine {graphs.engine!r}; known: {', '.join(_PROFILERS)}"
        )
    return _PROFILERS[graphs.engine](bundle, graphs, threads, chunk_frames, names, calls)


def _profile_onnx(
    bundle: Bundle,
    graphs: GraphFiles,
    threads: int,
    chunk_frames: int,
    wanted: Sequence[str],
    calls: int,
) -> OperatorProfile:
    import onnxruntime as ort

    from asr.engines.onnx import encoder_options, session_options

    nodes: list[NodeTime] = []
    for graph in wanted:
        file = getattr(graphs, graph)
        with tempfile.TemporaryDirectory(prefix="earshot-profile-") as folder:
            options = (encoder_options if graph == "encoder" else session_options)(threads)
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / graph)
            optimized = Path(folder) / "optimized.onnx"
            if graphs.engine == "onnx":
                options.optimized_model_filepath = str(optimized)
            content = bundle.file(file) or bundle.read(file)
            session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            names = [item.name for item in session.get_inputs()]
            for inputs in _inputs(bundle, graph, chunk_frames, calls + 1, session, names):
                session.run(None, inputs)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
            nodes += read_onnx_profile(events, graph, _modules(optimized))
    return OperatorProfile(tuple(nodes), calls)


def read_onnx_profile(
    events: Sequence[dict[str, Any]], graph: str, modules: dict[str, str]
) -> Iterator[NodeTime]:
    """Yield the nodes of an onnxruntime profile, without those of the first call: it warms up.

    `modules`: of which part of the model each node is, by the node's name.
    """
    runs = sorted(event["ts"] for event in events if event.get("name") == "model_run")
    begin = runs[1] if len(runs) > 1 else 0
    found: dict[tuple[str, str], list[float]] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(_KERNEL) and event["ts"] >= begin:
            key = name.removesuffix(_KERNEL), event["args"]["op_name"]
            found.setdefault(key, []).append(event["dur"] / 1e6)
    for (name, op_type), seconds in found.items():
        module = modules.get(name, UNNAMED)
        yield NodeTime(graph, name, op_type, module, len(seconds), sum(seconds))


def _inputs(
    bundle: Bundle,
    graph: str,
    chunk_frames: int,
    count: int,
    session: Any,
    names: Sequence[str],
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield inputs of a graph like those of a stream: noise, and a cache that is full of it."""
    generator = np.random.default_rng(0)
    shapes = {item.name: item.shape for item in session.get_inputs()}
    window = bundle.streaming.feature_frames(chunk_frames)
    for _ in range(count):
        arrays: list[NDArray[Any]]
        if graph == "encoder":
            caches = [[1 if not isinstance(n, int) else n for n in shapes[k]] for k in names[1:3]]
            sizes = [(1, window, bundle.features.num_mel_bins), *map(tuple, caches)]
            arrays = [generator.standard_normal(size, dtype=np.float32) for size in sizes]
            arrays[2][:, 0] = bundle.streaming.left_context_frames  # the count of valid frames
            arrays.append(np.array([10_000], dtype=np.int64))
        elif graph == "predictor":
            arrays = [generator.integers(2, bundle.model.vocab_size, (1, 2))]
        else:
            size = (chunk_frames, bundle.model.joiner_dim)
            arrays = [generator.standard_normal(size, dtype=np.float32) for _ in range(2)]
        yield dict(zip(names, arrays, strict=True))


def _modules(optimized: Path) -> dict[str, str]:
    """Return of which module each node of a graph is: that of its weights, or of what feeds it.

    Nothing without the package onnx, which reads graphs.
    """
    if find_spec("onnx") is None or not optimized.exists():
        return {}
    import onnx

    graph = onnx.load(optimized, load_external_data=False).graph
    weights = {item.name for item in graph.initializer}
    of_value: dict[str, str] = {}
    of_node: dict[str, str] = {}
    for node in graph.node:
        own = _first(module_of(name) for name in node.input if name in weights)
        module = own or _first(of_value.get(name) for name in node.input)
        if module:
            of_node[node.name] = module
            of_value.update(dict.fromkeys(node.output, module))
    return of_node


def module_of(weight: str) -> str | None:
    """Return the part of the model that a weight's name tells, None for a name that tells none:
    "encoder.blocks.3.attention.query.bias" is of "blocks.*.attention"."""
    parts = _LAYER.sub(".*", weight).split(".")
    if len(parts) < 3 or parts[0] not in GRAPHS:
        return None
    depth = 4 if "*" in parts else 2
    return ".".join(parts[1 : min(depth, len(parts) - 1)])


def _first(names: Iterable[str | None]) -> str | None:
    return next((name for name in names if name), None)


_PROFILERS: dict[str, Callable[..., OperatorProfile]] = {
    "onnx": _profile_onnx,
    "ort": _profile_onnx,
}
