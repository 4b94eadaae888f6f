"""Transducer and CTC losses in plain torch: no compiled extension, any device.

Three ways to give the transducer lattice (`training.lattice`) its arcs:

- `rnnt_loss`: from the whole joint output (B, T, U+1, V). The reference; memory grows with V.
- `simple_rnnt_loss`: joint logit = encoder logit + predictor logit, never built over (T, U, V).
- `pruned_rnnt_loss`: from a joiner evaluated only on a band of S values of u per frame, which
  `prune_ranges` picks from the simple lattice (Kuang et al. 2022, arXiv 2206.13236).

`transducer_loss` chains the last two for training. The letters in shapes: B utterances, T encoder
frames, U targets, V symbols, S band rows, D channels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from training.lattice import LOG_ZERO, full_precision, run_lattice

# How much a band prefers its mass in the middle: enough to decide between bands that hold the same
# mass up to rounding, too little to give up any that matters.
_CENTRE_PREFERENCE = 1e-3

Reduction = Literal["none", "sum", "mean"]


@dataclass(frozen=True)
class SimpleLattice:
    """The factorised lattice: its loss and where its paths run."""

    loss: Tensor  # (B,) nats, differentiable
    occupation: Tensor  # (B, T, U+1) probability that a path visits the node; carries no gradient


@dataclass(frozen=True)
class LossParts:
    """The two transducer losses of one batch, for the trainer to weigh."""

    simple: Tensor  # (B,) nats, loss of the factorised lattice
    pruned: Tensor  # (B,) nats, loss of the joiner on the band


def rnnt_loss(
    log_probs: Tensor,
    targets: Tensor,
    frame_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    fastemit: float = 0.0,
    reduction: Reduction = "none",
) -> Tensor:
    """Full transducer loss from normalised joint log-probabilities.

    Args:
        log_probs: (B, T, U+1, V), already log-softmaxed (or factorised) over V.
        targets: (B, U) symbol ids; padding may be any id in [0, V).
        frame_lengths: (B,) encoder frames of each utterance, 1 to T.
        target_lengths: (B,) targets of each utterance, 0 to U.
        blank: id of the blank.
        fastemit: FastEmit's lambda; see `run_lattice`.
        reduction: "none" gives (B,), "sum" and "mean" reduce over the utterances.
    """
    rows = F.pad(targets, (0, 1), value=blank)  # the last row of nodes has no label arc
    arcs = torch.stack([torch.full_like(rows, blank), rows], dim=-1)  # (B, U+1, 2)
    arcs = arcs[:, None].expand(-1, log_probs.shape[1], -1, -1)
    blank_log_prob, label_log_prob = log_probs.gather(3, arcs).unbind(dim=-1)
    lattice = run_lattice(
        blank_log_prob, label_log_prob[:, :, :-1], frame_lengths, target_lengths, fastemit
    )
    return _reduce(lattice.loss, reduction)


def simple_rnnt_loss(
    encoder_logits: Tensor,
    predictor_logits: Tensor,
    targets: Tensor,
    frame_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    fastemit: float = 0.0,
) -> SimpleLattice:
    """Transducer loss of the factorised joiner, joint logit = encoder logit + predictor logit.

    The normaliser log sum_v exp(encoder + predictor) is a matrix product of exponentials, so the
    (B, T, U+1, V) tensor is never built. It holds while, at every node, some symbol lies within 87
    nats (float32) of both the encoder's and the predictor's largest logit, and saturates beyond.

    Args:
        encoder_logits: (B, T, V).
        predictor_logits: (B, U+1, V).
        targets: (B, U) symbol ids; padding may be any id in [0, V).
        frame_lengths, target_lengths, fastemit: as in `run_lattice`.
        blank: id of the blank.
    """
    with torch.autocast(encoder_logits.device.type, enabled=False):
        encoder = full_precision(encoder_logits)
        predictor = full_precision(predictor_logits)
        normaliser = _log_matmul_exp(encoder, predictor)  # (B, T, U+1)
        num_frames, num_targets = encoder.shape[1], targets.shape[1]
        encoder_label = encoder.gather(2, targets[:, None].expand(-1, num_frames, -1))  # (B, T, U)
        predictor_label = predictor[:, :num_targets].gather(2, targets[..., None])  # (B, U, 1)
        blank_log_prob = encoder[:, :, blank, None] + predictor[:, None, :, blank] - normaliser
        label_log_prob = (
            encoder_label + predictor_label.transpose(1, 2) - normaliser[:, :, :num_targets]
        )
        lattice = run_lattice(
            blank_log_prob, label_log_prob, frame_lengths, target_lengths, fastemit
        )
    # A path leaves each node it visits by one of the two arcs.
    occupation = lattice.blank_occupation + F.pad(lattice.label_occupation, (0, 1))
    return SimpleLattice(lattice.loss, occupation)


def prune_ranges(
    occupation: Tensor, frame_lengths: Tensor, target_lengths: Tensor, band: int
) -> Tensor:
    """First row of the band of each frame: the `band` values of u the joiner is evaluated at.

    Each frame takes the band that holds most of its occupation; then the bands are made passable:
    they start at 0, never move back, overlap from frame to frame, and the last covers the last
    target. (Kuang et al. 2022, section 3.3.)

    Args:
        occupation: (B, T, U+1), from `simple_rnnt_loss`.
        frame_lengths: (B,) encoder frames.
        target_lengths: (B,) targets.
        band: S, at least 2; one row could never move on.

    Returns:
        (B, T) int64, in [0, max(0, target_length + 1 - S)]; frames past the end repeat the last.

    Raises:
        ValueError: the band is too narrow, or an utterance has more than (S - 1) targets a frame
            and no band can follow it.
    """
    if band < 2:
        raise ValueError(f"a band needs at least 2 rows to move along the targets, got {band}")
    device = occupation.device
    num_frames, num_rows = occupation.shape[1:]
    frame_lengths, target_lengths = frame_lengths.to(device), target_lengths.to(device)
    _check_band_can_follow(frame_lengths, target_lengths, band)

    last_start = (target_lengths + 1 - band).clamp(min=0)[:, None]  # (B, 1)
    if num_rows <= band:
        return occupation.new_zeros(occupation.shape[:2], dtype=torch.int64)
    offset = torch.arange(band, device=device, dtype=occupation.dtype) - (band - 1) / 2
    window = 1 - _CENTRE_PREFERENCE * offset.abs()
    # (B, T, U+2-S), of every possible band. Not a matrix product, which autocast would round.
    mass = (occupation.unfold(2, band, 1) * window).sum(dim=3)
    beyond = torch.arange(mass.shape[2], device=device) > last_start
    starts = mass.masked_fill(beyond[:, None], -1.0).argmax(dim=2)

    frame = torch.arange(num_frames, device=device)
    starts = torch.where(frame < frame_lengths[:, None] - 1, starts, last_start)
    starts = _minimum_from_here_on(starts)  # never move back
    # Where the bands would move by more than S - 1, start moving earlier: the distance to the
    # fastest possible band, which starts at 0, must not shrink from frame to frame.
    fastest = (band - 1) * frame
    return fastest - _minimum_from_here_on(fastest - starts).clamp(min=0)


def gather_band(predictor_out: Tensor, starts: Tensor, band: int) -> Tensor:
    """Predictor rows on the band: (B, U+1, D), starts (B, T) -> (B, T, S, D).

    Rows past U (a band wider than the targets) repeat row U; the lattice ignores them.
    """
    batch, num_rows, dim = predictor_out.shape
    rows = _band_rows(starts, band).clamp(max=num_rows - 1)  # (B, T, S)
    index = rows.flatten(1)[..., None].expand(-1, -1, dim)
    return predictor_out.gather(1, index).view(batch, starts.shape[1], band, dim)


def band_targets(targets: Tensor, starts: Tensor, band: int, padding: int = 0) -> Tensor:
    """Label of the label arc out of each node of the band: (B, U), (B, T) -> (B, T, S).

    Rows from U on have no label arc and hold `padding`; the lattice ignores them.
    """
    rows = _band_rows(starts, band).clamp(max=targets.shape[1])
    return F.pad(targets, (0, 1), value=padding).gather(1, rows.flatten(1)).view_as(rows)


def pruned_rnnt_loss(
    blank_log_prob: Tensor,
    label_log_prob: Tensor,
    starts: Tensor,
    frame_lengths: Tensor,
    target_lengths: Tensor,
    fastemit: float = 0.0,
) -> Tensor:
    """Transducer loss of the paths that stay on the band; never below the full loss.

    The band is laid into the whole lattice, impossible elsewhere: without V the lattice is small,
    and its recursion costs the same number of steps as one over the band alone.

    Args:
        blank_log_prob: (B, T, S), node s of frame t being u = starts[t] + s.
        label_log_prob: (B, T, S), of the target that `band_targets` gives.
        starts: (B, T), from `prune_ranges`.
        frame_lengths, target_lengths, fastemit: as in `run_lattice`.

    Returns:
        (B,) in nats; +inf, with a zero gradient, where no path stays on the band.
    """
    batch, num_frames, band = blank_log_prob.shape
    rows = _band_rows(starts, band)
    num_rows = max(int(rows.max()), int(target_lengths.max())) + 1
    blank, label = full_precision(blank_log_prob), full_precision(label_log_prob)
    outside = blank.new_full((batch, num_frames, num_rows), LOG_ZERO)
    return run_lattice(
        outside.scatter(2, rows, blank),
        outside.scatter(2, rows, label)[:, :, :-1],
        frame_lengths,
        target_lengths,
        fastemit,
    ).loss


def transducer_loss(
    encoder_logits: Tensor,
    predictor_logits: Tensor,
    joiner_band: Callable[[Tensor], tuple[Tensor, Tensor]],
    targets: Tensor,
    frame_lengths: Tensor,
    target_lengths: Tensor,
    band: int = 5,
    blank: int = 0,
    fastemit: float = 0.0,
) -> LossParts:
    """Both losses of pruned training: the simple lattice picks the band, the joiner runs on it.

    Args:
        encoder_logits: (B, T, V), a linear projection of the encoder's output.
        predictor_logits: (B, U+1, V), a linear projection of the predictor's output.
        joiner_band: maps starts (B, T) to the joiner's blank and label log-probabilities on the
            band, (B, T, S) each (see `gather_band` and `band_targets`).
        targets: (B, U); padding may be any id in [0, V).
        frame_lengths, target_lengths: (B,).
        band: S, rows of the band.
        blank: id of the blank.
        fastemit: FastEmit's lambda, for both lattices, so that they agree on when to emit.

    Raises:
        ValueError: as in `prune_ranges` and `run_lattice`.
    """
    simple = simple_rnnt_loss(
        encoder_logits, predictor_logits, targets, frame_lengths, target_lengths, blank, fastemit
    )
    starts = prune_ranges(simple.occupation, frame_lengths, target_lengths, band)
    blank_log_prob, label_log_prob = joiner_band(starts)
    pruned = pruned_rnnt_loss(
        blank_log_prob, label_log_prob, starts, frame_lengths, target_lengths, fastemit
    )
    return LossParts(simple.loss, pruned)


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    frame_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
) -> Tensor:
    """CTC loss of each utterance, (B,) in nats; 0, without a gradient, where T is too short.

    Args:
        log_probs: (B, T, V) normalised.
        targets: (B, U).
        frame_lengths, target_lengths: (B,).
        blank: id of the blank.
    """
    return F.ctc_loss(
        full_precision(log_probs).transpose(0, 1),
        targets,
        frame_lengths,
        target_lengths,
        blank=blank,
        reduction="none",
        zero_infinity=True,
    )


def consistency_loss(log_probs: Tensor, frame_lengths: Tensor) -> Tensor:
    """Divergence of each utterance's posteriors from those of its other view, (B,) in nats.

    Each view learns from the other, which is taken as it is. As the other is seldom masked or noisy
    at the same place, a frame learns to be told from its surroundings, and posteriors are less sure
    of what a single view has shown. (CR-CTC, arXiv 2410.05101, section 3.)

    Args:
        log_probs: (B, T, V) normalised; B is even, and utterance i + B / 2 is another view of i.
        frame_lengths: (B,) of which both views have the same.
    """
    log_probs = full_precision(log_probs)
    other = log_probs.detach().unflatten(0, (2, -1)).flip(0).flatten(0, 1)
    divergence = F.kl_div(log_probs, other, reduction="none", log_target=True).sum(dim=2)  # (B, T)
    frames = torch.arange(log_probs.shape[1], device=log_probs.device)
    return divergence.masked_fill(frames >= frame_lengths[:, None], 0.0).sum(dim=1)


def _log_matmul_exp(encoder: Tensor, predictor: Tensor) -> Tensor:
    """log sum_v exp(encoder + predictor): (B, T, V), (B, U+1, V) -> (B, T, U+1)."""
    # The maxima only keep exp() in range: they cancel, so they carry no gradient.
    encoder_max = encoder.detach().amax(dim=2, keepdim=True)  # (B, T, 1)
    predictor_max = predictor.detach().amax(dim=2, keepdim=True)  # (B, U+1, 1)
    product = (encoder - encoder_max).exp() @ (predictor - predictor_max).exp().transpose(1, 2)
    tiny = torch.finfo(product.dtype).tiny
    return product.clamp(min=tiny).log() + encoder_max + predictor_max.transpose(1, 2)


def _minimum_from_here_on(values: Tensor) -> Tensor:
    """Running minimum from the end: (B, T) -> (B, T)."""
    return values.flip(1).cummin(dim=1).values.flip(1)


def _band_rows(starts: Tensor, band: int) -> Tensor:
    """u of each node of the band: (B, T) -> (B, T, S)."""
    return starts[..., None] + torch.arange(band, device=starts.device)


def _check_band_can_follow(frame_lengths: Tensor, target_lengths: Tensor, band: int) -> None:
    too_dense = target_lengths > (band - 1) * frame_lengths
    if bool(too_dense.any()):
        index = int(too_dense.nonzero()[0, 0])
        raise ValueError(
            f"utterance {index} has {int(target_lengths[index])} targets in "
            f"{int(frame_lengths[index])} frames; a band of {band} rows passes at most "
            f"{band - 1} a frame: drop the utterance or widen the band"
        )


def _reduce(loss: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.mean()
    raise ValueError(f'reduction must be "none", "sum" or "mean", got {reduction!r}')
