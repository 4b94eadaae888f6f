"""The transducer lattice: all-paths log-probability and arc occupation, on any device.

A transducer loss sums the probability of every path through a lattice of nodes (t, u): t frames
consumed, u targets emitted. A blank arc leads from (t, u) to (t + 1, u), a label arc to (t, u + 1),
and the path ends with the blank out of (T - 1, U). (Graves 2012, arXiv 1211.3711.)

This module sees only the log-probabilities of the arcs; `training.loss` makes them. The recursion
runs over the anti-diagonals n = t + u, all nodes of a diagonal and all utterances at once. The
letters in shapes: B utterances, T frames, U targets, N = T + U diagonals.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Stands for log(0). Finite, so that the difference of two impossible arcs is 0 and not NaN; small
# enough to be lost against, and far enough from float32's limit to be added up along a path.
LOG_ZERO = -1e30


@dataclass(frozen=True)
class Lattice:
    """What all paths through a batch of lattices add up to."""

    loss: Tensor  # (B,) nats, minus their log-probability; differentiable
    blank_occupation: Tensor  # (B, T, U+1) probability that a path takes the arc; no gradient
    label_occupation: Tensor  # (B, T, U) likewise


def run_lattice(
    blank_log_prob: Tensor,
    label_log_prob: Tensor,
    frame_lengths: Tensor,
    target_lengths: Tensor,
    fastemit: float = 0.0,
) -> Lattice:
    """Loss and occupation of each lattice, from the log-probabilities of its arcs.

    The recursion runs in float32, or float64 for float64 arcs, whatever autocast says.

    Args:
        blank_log_prob: (B, T, U+1) of the blank arc out of each node.
        label_log_prob: (B, T, U) of the label arc out of each node.
        frame_lengths: (B,) 1 to T; arcs past them are ignored, whatever they hold.
        target_lengths: (B,) 0 to U; likewise.
        fastemit: lambda of FastEmit (Yu et al. 2021, arXiv 2010.11148): the gradient of the label
            arcs is scaled by 1 + lambda, which favours early emission; the value is not changed.

    Returns:
        The loss is +inf, its gradient and the occupation 0, for an utterance without any path.

    Raises:
        ValueError: the shapes or lengths do not fit together.
    """
    batch, num_frames, num_rows = blank_log_prob.shape
    if label_log_prob.shape != (batch, num_frames, num_rows - 1):
        raise ValueError(
            f"blank arcs {tuple(blank_log_prob.shape)} need label arcs "
            f"{(batch, num_frames, num_rows - 1)}, got {tuple(label_log_prob.shape)}"
        )
    _check_lengths("frame_lengths", frame_lengths, batch, 1, num_frames)
    _check_lengths("target_lengths", target_lengths, batch, 0, num_rows - 1)
    device = blank_log_prob.device
    return Lattice(
        *_LatticeLoss.apply(
            full_precision(blank_log_prob),
            full_precision(label_log_prob),
            frame_lengths.to(device),
            target_lengths.to(device),
            fastemit,
        )
    )


def full_precision(values: Tensor) -> Tensor:
    """At least float32: the recursion adds hundreds of terms."""
    return values if values.dtype == torch.float64 else values.float()


class _LatticeLoss(torch.autograd.Function):
    """Loss of the lattices; its gradient by an arc is minus the probability of taking that arc."""

    @staticmethod
    def forward(
        ctx: Any,
        blank: Tensor,
        label: Tensor,
        frame_lengths: Tensor,
        target_lengths: Tensor,
        fastemit: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        loss, blank_occupation, label_occupation = _forward_backward(
            blank, label, frame_lengths, target_lengths
        )
        ctx.save_for_backward(blank_occupation, label_occupation)
        ctx.mark_non_differentiable(blank_occupation, label_occupation)
        ctx.fastemit = fastemit
        return loss, blank_occupation, label_occupation

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_loss: Tensor, *_: Tensor
    ) -> tuple[Tensor, Tensor, None, None, None]:
        blank_occupation, label_occupation = ctx.saved_tensors
        grad = -grad_loss[:, None, None]
        return (
            grad * blank_occupation,
            (1 + ctx.fastemit) * grad * label_occupation,
            None,
            None,
            None,
        )


def _forward_backward(
    blank: Tensor, label: Tensor, frame_lengths: Tensor, target_lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss (B,) and occupation of the arcs, (B, T, U+1) and (B, T, U).

    Works on diagonals: tensors (N, U+1, B) indexed by n = t + u, u and utterance, so that each step
    is a few element-wise operations on contiguous memory.
    """
    batch, num_frames, num_rows = blank.shape
    device = blank.device
    frame = torch.arange(num_frames, device=device)[:, None]
    row = torch.arange(num_rows, device=device)
    # Arcs of the padding are impossible, whatever they hold (NaN included).
    in_frames = (frame < frame_lengths[:, None, None]).expand(-1, -1, num_rows)  # (B, T, U+1)
    in_blank = in_frames & (row <= target_lengths[:, None, None])
    in_label = in_frames & (row < target_lengths[:, None, None])
    blank_arc = _to_diagonals(blank.where(in_blank, LOG_ZERO))
    label_arc = _to_diagonals(F.pad(label, (0, 1)).where(in_label, LOG_ZERO))

    alpha, by_label = _forward(blank_arc, label_arc)

    utterance = torch.arange(batch, device=device)
    last = (frame_lengths - 1 + target_lengths, target_lengths, utterance)
    total = alpha[last] + blank_arc[last]
    possible = ~(total < LOG_ZERO / 2)  # NaN is kept, to be seen
    visits = torch.zeros_like(alpha)
    visits[last] = possible.to(visits.dtype)  # every path visits the last node
    blank_visits, label_visits = _backward(visits, by_label)
    blank_visits[last] = possible.to(visits.dtype)  # and leaves by its blank

    loss = torch.where(possible, -total, torch.inf)
    return (
        loss,
        _from_diagonals(blank_visits, num_frames),
        _from_diagonals(label_visits, num_frames)[:, :, :-1],
    )


def _forward(blank_arc: Tensor, label_arc: Tensor) -> tuple[Tensor, Tensor]:
    """Forward pass over diagonals.

    Args:
        blank_arc, label_arc: (N, U+1, B) log-probabilities of the arcs out of each node.

    Returns:
        alpha: (N, U+1, B) log-probability of reaching each node.
        by_label: (N, U+1, B) share of it that comes in by the label arc; the rest is by blank.
    """
    alpha = torch.full_like(blank_arc, LOG_ZERO)
    alpha[0, 0] = 0.0
    via_blank = torch.full_like(blank_arc, LOG_ZERO)
    via_label = torch.full_like(blank_arc, LOG_ZERO)
    steps = zip(
        alpha[:-1].unbind(),
        alpha[:-1, :-1].unbind(),
        blank_arc[:-1].unbind(),
        label_arc[:-1, :-1].unbind(),
        via_blank[1:].unbind(),
        via_label[1:].unbind(),
        via_label[1:, 1:].unbind(),
        alpha[1:].unbind(),
        strict=True,
    )
    for source, label_source, blank, label, by_blank, by_label, by_label_shifted, node in steps:
        torch.add(source, blank, out=by_blank)
        torch.add(label_source, label, out=by_label_shifted)
        torch.logaddexp(by_blank, by_label, out=node)
    # Shares that sum to 1 exactly keep the occupation of each diagonal exactly 1.
    return alpha, torch.sigmoid_(via_label.sub_(via_blank))


def _backward(visits: Tensor, by_label: Tensor) -> tuple[Tensor, Tensor]:
    """Backward pass: hands each node's visits on to the nodes they came from.

    Args:
        visits: (N, U+1, B) 1 at the last node of each utterance, else 0; filled in place with the
            probability that a path visits the node.
        by_label: (N, U+1, B), from `_forward`.

    Returns:
        Occupation (N, U+1, B) of the blank and of the label arcs, by the node they lead out of.
    """
    blank_visits = torch.zeros_like(visits)
    label_visits = torch.zeros_like(visits)
    incoming_label = torch.empty_like(visits[0])
    shifted = incoming_label[1:]
    steps = zip(
        visits[1:].unbind(),
        by_label[1:].unbind(),
        blank_visits[:-1].unbind(),
        label_visits[:-1, :-1].unbind(),
        visits[:-1].unbind(),
        visits[:-1, :-1].unbind(),
        strict=True,
    )
    for node, share, blank_out, label_out, source, label_source in reversed(list(steps)):
        torch.mul(node, share, out=incoming_label)
        torch.sub(node, incoming_label, out=blank_out)
        label_out.copy_(shifted)
        source.add_(blank_out)
        label_source.add_(shifted)
    return blank_visits, label_visits


def _to_diagonals(arcs: Tensor) -> Tensor:
    """(B, T, U+1) by (t, u) -> (T+U, U+1, B) by (t + u, u); log(0) where t is outside."""
    batch, num_frames, num_rows = arcs.shape
    row = torch.arange(num_rows, device=arcs.device)
    frame = torch.arange(num_frames + num_rows - 1, device=arcs.device)[:, None] - row
    inside = (frame >= 0) & (frame < num_frames)
    index = torch.where(inside, frame * num_rows + row, num_frames * num_rows).flatten()
    flat = arcs.new_full((num_frames * num_rows + 1, batch), LOG_ZERO)
    # The clamp turns a given -inf into the finite log(0).
    torch.clamp(arcs.permute(1, 2, 0).reshape(-1, batch), min=LOG_ZERO, out=flat[:-1])
    return flat.index_select(0, index).view(-1, num_rows, batch)


def _from_diagonals(values: Tensor, num_frames: int) -> Tensor:
    """(T+U, U+1, B) by (t + u, u) -> (B, T, U+1) by (t, u)."""
    _, num_rows, batch = values.shape
    row = torch.arange(num_rows, device=values.device)
    diagonal = torch.arange(num_frames, device=values.device)[:, None] + row
    flat = values.view(-1, batch).index_select(0, (diagonal * num_rows + row).flatten())
    return flat.view(num_frames, num_rows, batch).permute(2, 0, 1)


def _check_lengths(name: str, lengths: Tensor, batch: int, least: int, most: int) -> None:
    if lengths.shape != (batch,):
        raise ValueError(f"{name} must have shape {(batch,)}, got {tuple(lengths.shape)}")
    if bool(((lengths < least) | (lengths > most)).any()):
        raise ValueError(f"{name} must lie in [{least}, {most}], got {lengths.tolist()}")
