"""Operator profiles: of the engine itself on a tiny model, and merged from events by hand."""

from pathlib import Path

import pytest

from asr.bundle import GraphFiles, open_bundle
from asr.errors import AsrError
from asr.evaluation.bench.operators import (
    UNNAMED,
    NodeTime,
    OperatorProfile,
    module_of,
    profile_operators,
    read_onnx_profile,
)


def test_every_node_of_a_real_session_is_counted_in_every_call(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    profile = profile_operators(bundle, bundle.graphs("int8"), 1, chunk_frames=8, calls=5)
    assert {node.graph for node in profile.nodes} == {"encoder", "predictor", "joiner"}
    assert all(node.calls == 5 for node in profile.nodes)
    assert profile.count("encoder") == sum(node.graph == "encoder" for node in profile.nodes)
    content = profile.to_dict()
    for merged in (content["by_type"], content["by_module"]):
        assert sum(item["share"] for item in merged) == pytest.approx(1)
    total_ms = sum(graph["ms"] for graph in content["graphs"])
    assert sum(item["ms"] for item in content["by_type"]) == pytest.approx(total_ms)


def test_one_graph_alone(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    graphs = bundle.graphs("int8")
    profile = profile_operators(bundle, graphs, 1, chunk_frames=4, names=["encoder"], calls=2)
    assert profile.count("encoder") > 5
    assert profile.count("joiner") == 0


def test_an_engine_without_a_profiler_is_named(tiny_bundle: Path) -> None:
    graphs = GraphFiles("abacus", "int8", "e", "p", "j")
    with pytest.raises(AsrError, match="no operator profile of the engine 'abacus'; known: onnx"):
        profile_operators(open_bundle(tiny_bundle), graphs, 1, 8)


def test_executorch_says_why_it_has_no_profile(tiny_bundle: Path) -> None:
    graphs = GraphFiles("executorch", "int8", "m", "m", "m")
    with pytest.raises(AsrError, match="EXECUTORCH_ENABLE_EVENT_TRACER=ON"):
        profile_operators(open_bundle(tiny_bundle), graphs, 1, 8)


def _event(name: str, op_type: str, ts: int, dur: int) -> dict:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "ts": ts,
        "dur": dur,
        "args": {"op_name": op_type},
    }


def test_the_first_call_is_left_out_and_nodes_get_their_modules() -> None:
    events = [
        {"cat": "Session", "name": "model_run", "ts": 0, "dur": 99},
        _event("a", "MatMul", 1, 90),
        {"cat": "Session", "name": "model_run", "ts": 100, "dur": 9},
        _event("a", "MatMul", 101, 5),
        _event("b", "Add", 106, 3),
        {"cat": "Node", "name": "b_fence_before", "ts": 106, "dur": 50, "args": {}},
    ]
    nodes = list(read_onnx_profile(events, "encoder", {"a": "blocks.*.attention"}))
    assert [(node.name, node.module, node.calls) for node in nodes] == [
        ("a", "blocks.*.attention", 1),
        ("b", UNNAMED, 1),
    ]
    assert [node.seconds for node in nodes] == pytest.approx([5e-6, 3e-6])


def test_merged_times_are_those_of_one_call_the_dearest_first() -> None:
    nodes = (
        NodeTime("encoder", "a", "Add", "x", 10, 0.010),
        NodeTime("encoder", "b", "MatMul", "x", 10, 0.030),
        NodeTime("joiner", "c", "Add", "y", 10, 0.010),
    )
    profile = OperatorProfile(nodes, calls=10)
    assert [(item.name, item.calls) for item in profile.by_type()] == [("MatMul", 1), ("Add", 2)]
    assert [item.ms for item in profile.by_type()] == pytest.approx([3.0, 2.0])
    assert [item.name for item in profile.by_module()] == ["encoder: x", "joiner: y"]


@pytest.mark.parametrize(
    ("weight", "module"),
    [
        ("encoder.blocks.3.attention.query.bias", "blocks.*.attention"),
        ("encoder.blocks.11.norm.weight", "blocks.*.norm"),
        ("encoder.subsampling.first.weight", "subsampling"),
        ("encoder.output.bias", "output"),
        ("predictor.embedding.weight", "embedding"),
        ("val_17_quantized", None),
        ("token_3.x.y", None),
    ],
)
def test_a_weight_tells_its_module(weight: str, module: str | None) -> None:
    assert module_of(weight) == module
