"""What the transducer losses cost in training: time and memory of a forward and a backward pass.

`full` evaluates the joiner at every node of the lattice, (B, T, U+1, V); `pruned` is what training
uses, the joiner on a band. Inputs are random: the cost depends on the shapes alone. Each loss runs
in a process of its own, whose peak is its memory.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from asr.errors import AsrError
from asr.evaluation.bench.rows import BENCH_SCHEMA_VERSION
from asr.evaluation.envelope import describe_machine, describe_source

LOSSES = ("full", "pruned")


@dataclass(frozen=True)
class LossShape:
    """A batch, and how often."""

    batch: int = 8
    frames: int = 250  # encoder frames: 10 s
    tokens: int = 40
    vocab: int = 256
    dim: int = 256
    repeat: int = 3

    def __post_init__(self) -> None:
        """Raises AsrError for a shape without a lattice."""
        if min(asdict(self).values()) < 1 or self.vocab < 3 or self.tokens > self.frames:
            raise AsrError(
                f"{self}; expected 1 or more of each, 3 symbols, and no more tokens than frames"
            )


@dataclass(frozen=True)
class LossCost:
    """Of one forward and backward pass."""

    name: str
    seconds: float  # median
    spread: tuple[float, float]  # least and most
    peak_mb: float  # beyond the inputs


def benchmark_losses(
    shape: LossShape, names: Sequence[str] = LOSSES, watch: Callable[[str], None] = print
) -> list[LossCost]:
    """Measure each loss in a fresh process. Raises AsrError if one fails."""
    costs = []
    for name in names:
        watch(name)
        arguments = json.dumps({"name": name, "shape": asdict(shape)})
        command = [sys.executable, "-m", "training.loss_benchmark", arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            said = lines[-1] if lines else f"exit code {done.returncode}"
            raise AsrError(f"the {name} loss failed: {said}")
        answer = json.loads(done.stdout)
        costs.append(LossCost(**answer | {"spread": tuple(answer["spread"])}))
    return costs


def measure_loss(name: str, shape: LossShape) -> LossCost:
    """Measure one loss in this process."""
    import torch

    from asr.evaluation.meters import peak_rss_mb
    from asr.memory import resident_mb

    torch.manual_seed(0)
    torch.set_num_threads(1)
    run = _prepare(name, shape)
    before_mb = resident_mb()
    seconds = []
    for _ in range(shape.repeat + 1):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    counted = seconds[1:]  # the first one warms up
    return LossCost(
        name,
        statistics.median(counted),
        (min(counted), max(counted)),
        max(0.0, peak_rss_mb() - before_mb),
    )


def loss_result(shape: LossShape, costs: Sequence[LossCost]) -> dict[str, Any]:
    """Return what the JSON holds: kind "loss"."""
    return {
        "schema_version": BENCH_SCHEMA_VERSION,
        "kind": "loss",
        **describe_source(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(describe_machine()),
        "variants": [{**asdict(cost), **asdict(shape)} for cost in costs],
    }


def _prepare(name: str, shape: LossShape) -> Callable[[], None]:
    """Return one forward and backward pass of a loss."""
    import torch

    from training.loss import band_targets, gather_band, rnnt_loss, transducer_loss
    from training.model.config import ModelConfig
    from training.model.joiner import FactorizedJoiner

    joiner = FactorizedJoiner(ModelConfig(vocab_size=shape.vocab, joiner_dim=shape.dim))
    encoded = torch.randn(shape.batch, shape.frames, shape.dim, requires_grad=True)
    predicted = torch.randn(shape.batch, shape.tokens + 1, shape.dim, requires_grad=True)
    encoder_logits = torch.randn(shape.batch, shape.frames, shape.vocab, requires_grad=True)
    predictor_logits = torch.randn(shape.batch, shape.tokens + 1, shape.vocab, requires_grad=True)
    targets = torch.randint(1, shape.vocab, (shape.batch, shape.tokens))
    frames = torch.full((shape.batch,), shape.frames)
    tokens = torch.full((shape.batch,), shape.tokens)
    band = 5

    def join_band(starts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return joiner.arcs(
            encoded.unsqueeze(2),
            gather_band(predicted, starts, band),
            band_targets(targets, starts, band),
        )

    def full() -> None:
        log_probs = joiner(encoded.unsqueeze(2), predicted.unsqueeze(1))
        rnnt_loss(log_probs, targets, frames, tokens, reduction="sum").backward()

    def pruned() -> None:
        parts = transducer_loss(
            encoder_logits, predictor_logits, join_band, targets, frames, tokens, band=band
        )
        (parts.simple.sum() + parts.pruned.sum()).backward()

    return {"full": full, "pruned": pruned}[name]


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps(asdict(measure_loss(asked["name"], LossShape(**asked["shape"])))))
