"""What an encoder step takes at least on this machine, and what of that a variant achieves.

The roofline of Williams, Waterman and Patterson (CACM 2009): a step has to read its weights and
caches, at the rate at which one thread copies a large array, and to do its multiply-accumulates, at
the rate that the engine reaches in one large matrix product. The larger of the two times is the
bound. A small model's weights may stay in a large cache and be read faster than that: then a step
can be quicker than the bound of memory, and says so by an achieved share above 1.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from asr.bundle import Bundle
from asr.errors import AsrError
from asr.evaluation.cost.costs import call_costs, weight_bytes

_COPY_BYTES = 1 << 26  # beyond most caches
_SIZE = 512  # of the matrices; a product is 0.13 GMAC
_REPEATS = 7  # the quickest counts: what else runs can only add


@dataclass(frozen=True, slots=True)
class MachineRates:
    """What one thread can do."""

    bandwidth_gb_s: float  # read and written, 10^9 bytes
    int8_gmac_s: float  # 10^9 multiply-accumulates
    fp32_gmac_s: float


@dataclass(frozen=True, slots=True)
class StepBound:
    """Of one encoder step."""

    mb_per_step: float  # weights read, caches read and written
    mmac_per_step: float
    memory_ms: float
    compute_ms: float

    @property
    def bound_ms(self) -> float:
        """It can't take less."""
        return max(self.memory_ms, self.compute_ms)

    @property
    def bound_by(self) -> str:
        """What it waits for."""
        return "memory" if self.memory_ms >= self.compute_ms else "arithmetic"

    def to_dict(self, step_ms: float) -> dict[str, Any]:
        """As plain data, beside what a step was measured to take."""
        return {
            **asdict(self),
            "bound_ms": self.bound_ms,
            "bound_by": self.bound_by,
            "achieved": self.bound_ms / step_ms,
        }


def measure_rates(threads: int = 1, clock: Callable[[], float] = time.perf_counter) -> MachineRates:
    """Measure, in about a second. Raises AsrError without the package onnx."""
    if find_spec("onnx") is None:
        raise AsrError("a roofline needs onnx, to make a graph: pip install 'earshot-asr[eval]'")
    source = np.ones(_COPY_BYTES // 8)
    target = np.empty_like(source)
    copy_s = _quickest(lambda: np.copyto(target, source), clock)
    gmac = _SIZE**3 / 1e9
    return MachineRates(
        bandwidth_gb_s=2 * source.nbytes / copy_s / 1e9,
        int8_gmac_s=gmac / _quickest(_matrix_product("int8", threads), clock),
        fp32_gmac_s=gmac / _quickest(_matrix_product("fp32", threads), clock),
    )


def step_bound(bundle: Bundle, precision: str, chunk_frames: int, rates: MachineRates) -> StepBound:
    """Return the bound of an encoder step. Raises ValueError for an unknown precision."""
    cost = call_costs(bundle, precision, chunk_frames)["encoder"]
    # 4 bit weights are multiplied as 8 bit ones.
    gmac_s = rates.int8_gmac_s if weight_bytes(precision) <= 1 else rates.fp32_gmac_s
    moved = cost.weight_bytes + cost.state_bytes
    return StepBound(
        mb_per_step=moved / 1e6,
        mmac_per_step=cost.macs / 1e6,
        memory_ms=moved / rates.bandwidth_gb_s / 1e6,
        compute_ms=cost.macs / gmac_s / 1e6,
    )


def _quickest(run: Callable[[], object], clock: Callable[[], float]) -> float:
    seconds = []
    for _ in range(_REPEATS):
        started = clock()
        run()
        seconds.append(clock() - started)
    return min(seconds)


def _matrix_product(precision: str, threads: int) -> Callable[[], object]:
    """Return what multiplies two square matrices in onnxruntime."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    from asr.engines.onnx import session_options

    operator, kinds, out = {
        "int8": ("MatMulInteger", (TensorProto.UINT8, TensorProto.INT8), TensorProto.INT32),
        "fp32": ("MatMul", (TensorProto.FLOAT, TensorProto.FLOAT), TensorProto.FLOAT),
    }[precision]
    weight_type = np.int8 if precision == "int8" else np.float32
    input_type = np.uint8 if precision == "int8" else np.float32
    generator = np.random.default_rng(0)
    weight = generator.integers(-100, 100, (_SIZE, _SIZE)).astype(weight_type)
    constant = helper.make_tensor("b", kinds[1], weight.shape, weight.tobytes(), raw=True)
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        precision,
        [helper.make_tensor_value_info("a", kinds[0], [_SIZE, _SIZE])],
        [helper.make_tensor_value_info("c", out, [_SIZE, _SIZE])],
        [constant],  # a constant, as weights are: the engine packs it beforehand
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    session = ort.InferenceSession(
        model.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"]
    )
    inputs = {"a": generator.integers(0, 200, (_SIZE, _SIZE)).astype(input_type)}
    session.run(None, inputs)
    return lambda: session.run(None, inputs)
