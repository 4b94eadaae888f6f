"""Muon for the matrices inside the encoder, AdamW for everything else, as one optimiser."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, distributed

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration that pushes singular values towards one, and its length."""
NEWTON_SCHULZ_STEPS = 5

ADAM_RMS = 0.2
"""Size of AdamW's usual update, to which Muon's is scaled: both take the same learning rate."""


class MuonAdamW(torch.optim.AdamW):
    """AdamW, except that parameters of groups with `orthogonal: True` are matrices for Muon.

    Muon replaces the momentum of a matrix by the nearest orthogonal matrix, so that rare
    directions are learned as fast as frequent ones (Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon/; scaled as in arXiv 2502.16982).
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.98),
        momentum: float = 0.95,
    ) -> None:
        groups = [{"orthogonal": False, "momentum": momentum, **group} for group in groups]
        super().__init__(groups, lr=lr, weight_decay=weight_decay, betas=betas, fused=True)
        # Lightning takes every fused optimiser for one that unscales gradients itself, and then
        # refuses to clip them. There is nothing to unscale: bfloat16 has the range of float32.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["orthogonal"]:
                self._step_orthogonal(group)
        super().step()  # passes over the parameters whose gradient has been used
        return loss

    def _step_orthogonal(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_shape[parameter.shape].append(parameter)
        for shape, parameters in by_shape.items():
            directions = [self._nesterov(parameter, group["momentum"]) for parameter in parameters]
            updates = _orthogonalized_together(torch.stack(directions))
            scale = ADAM_RMS * max(shape) ** 0.5
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, list(updates), alpha=-group["lr"] * scale)
            for parameter in parameters:
                parameter.grad = None

    def _nesterov(self, parameter: Tensor, momentum: float) -> Tensor:
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            # AdamW looks for the first when it is loaded from a checkpoint.
            state["step"] = torch.zeros(())
            state["momentum"] = torch.zeros_like(parameter)
        state["step"] += 1
        average: Tensor = state["momentum"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(average, momentum)


def _orthogonalized_together(matrices: Tensor) -> Tensor:
    """`orthogonalized`, where each process works on its share of what all of them have."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return orthogonalized(matrices)
    size, rank = distributed.get_world_size(), distributed.get_rank()
    share = -(-len(matrices) // size)
    # Matrices of zeros where the last shares would be short: all processes gather alike.
    mine = matrices.new_zeros(share, *matrices.shape[1:])
    own = matrices[rank * share : (rank + 1) * share]
    mine[: len(own)] = orthogonalized(own)
    shares = [torch.empty_like(mine) for _ in range(size)]
    distributed.all_gather(shares, mine)
    return torch.cat(shares)[: len(matrices)]


def orthogonalized(matrices: Tensor) -> Tensor:
    """Return about the orthogonal matrices nearest to `(N, A, B)`: singular values near one.

    In bfloat16, which is exact enough for a direction and fast where training is.
    """
    wide = matrices.size(1) <= matrices.size(2)
    x = (matrices if wide else matrices.mT).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x if wide else x.mT).to(matrices.dtype)
