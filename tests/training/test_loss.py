"""The losses against brute force, an independent implementation's figures, and each other."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.lattice import run_lattice
from training.loss import (
    band_targets,
    consistency_loss,
    ctc_loss,
    gather_band,
    prune_ranges,
    pruned_rnnt_loss,
    rnnt_loss,
    simple_rnnt_loss,
    transducer_loss,
)

# Batches with unnormalised logits, blank 0: unreduced losses and the gradients of their sum, by
# another implementation in float32.
ORACLE = Path(__file__).parent / "data" / "rnnt_oracle.npz"


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def random_batch(
    frames: list[int], targets: list[int], vocab: int = 7, dtype: torch.dtype = torch.float64
) -> SimpleNamespace:
    """A ragged batch: encoder and predictor logits, ids and lengths, with padding filled in."""
    return SimpleNamespace(
        encoder=torch.randn(len(frames), max(frames), vocab, dtype=dtype),
        predictor=torch.randn(len(frames), max(targets) + 1, vocab, dtype=dtype),
        targets=torch.randint(1, vocab, (len(frames), max(targets))),
        frame_lengths=torch.tensor(frames),
        target_lengths=torch.tensor(targets),
    )


def joint_log_probs(batch: SimpleNamespace) -> Tensor:
    return (batch.encoder[:, :, None] + batch.predictor[:, None]).log_softmax(dim=-1)


def lengths_of(batch: SimpleNamespace) -> tuple[Tensor, Tensor]:
    return batch.frame_lengths, batch.target_lengths


def paths(num_frames: int, num_targets: int) -> Iterator[list[tuple[str, int, int]]]:
    """Every path of a lattice, as the arcs it takes: (kind, t, u) of the node each leads out of."""

    def walk(t: int, u: int) -> Iterator[list[tuple[str, int, int]]]:
        if t == num_frames:
            if u == num_targets:
                yield []
            return
        for rest in walk(t + 1, u):
            yield [("blank", t, u), *rest]
        if u < num_targets:
            for rest in walk(t, u + 1):
                yield [("label", t, u), *rest]

    return walk(0, 0)


def brute_force(
    blank: Tensor, label: Tensor, starts: Tensor | None = None, band: int = 0
) -> Tensor:
    """Loss of one lattice, blank (T, U+1) and label (T, U), by listing its paths (on the band)."""
    arcs = {"blank": blank, "label": label}
    scores = [
        torch.stack([arcs[kind][t, u] for kind, t, u in path]).sum()
        for path in paths(*label.shape)
        if starts is None or all(starts[t] <= u < starts[t] + band for _, t, u in path)
    ]
    return -torch.stack(scores).logsumexp(0)


@pytest.mark.parametrize(("num_frames", "num_targets"), [(1, 0), (1, 3), (4, 0), (2, 5), (4, 3)])
def test_value_and_gradient_are_those_of_all_paths(num_frames: int, num_targets: int) -> None:
    blank = torch.randn(1, num_frames, num_targets + 1, dtype=torch.float64, requires_grad=True)
    label = torch.randn(1, num_frames, num_targets, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([num_frames]), torch.tensor([num_targets])

    loss = run_lattice(blank, label, *lengths).loss
    expected = brute_force(blank[0], label[0])
    torch.testing.assert_close(loss[0], expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss.sum(), [blank, label]),
        torch.autograd.grad(expected, [blank, label], materialize_grads=True),
    )


def test_gradients_pass_gradcheck() -> None:
    batch = random_batch([4, 3], [2, 3], vocab=4)
    lengths = lengths_of(batch)
    starts = torch.tensor([[0, 0, 1, 1], [0, 1, 2, 2]])
    band_arcs = torch.randn(2, 2, 4, 2, dtype=torch.float64).requires_grad_()
    log_probs = joint_log_probs(batch).requires_grad_()
    encoder, predictor = batch.encoder.requires_grad_(), batch.predictor.requires_grad_()

    assert torch.autograd.gradcheck(lambda x: rnnt_loss(x, batch.targets, *lengths), [log_probs])
    assert torch.autograd.gradcheck(
        lambda x, y: simple_rnnt_loss(x, y, batch.targets, *lengths).loss, [encoder, predictor]
    )
    assert torch.autograd.gradcheck(
        lambda x: pruned_rnnt_loss(x[0], x[1], starts, *lengths), [band_arcs]
    )


@pytest.mark.parametrize("index", range(4))
def test_full_loss_matches_the_oracle(index: int) -> None:
    with np.load(ORACLE, allow_pickle=False) as archive:
        case = {
            key.removesuffix(f"_{index}"): torch.from_numpy(archive[key])
            for key in archive.files
            if key.endswith(f"_{index}")
        }
    logits = case["logits"].requires_grad_()
    loss = rnnt_loss(
        logits.log_softmax(-1), case["targets"], case["frame_lengths"], case["target_lengths"]
    )
    loss.sum().backward()
    torch.testing.assert_close(loss, case["loss"], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(logits.grad, case["grad"], rtol=0, atol=5e-5)


def test_full_loss_matches_torchaudio() -> None:
    functional = pytest.importorskip(
        "torchaudio.functional", reason="torchaudio is not installed: its loss is the oracle here"
    )
    if not hasattr(functional, "rnnt_loss"):
        pytest.skip("this torchaudio has no rnnt_loss: it is the oracle here")
    batch = random_batch([20, 13, 9], [6, 9, 1], vocab=12, dtype=torch.float32)
    logits = (batch.encoder[:, :, None] + batch.predictor[:, None]).requires_grad_()

    ours = rnnt_loss(logits.log_softmax(-1), batch.targets, *lengths_of(batch))
    theirs = functional.rnnt_loss(
        logits,
        batch.targets.int(),
        *(lengths.int() for lengths in lengths_of(batch)),
        blank=0,
        reduction="none",
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(ours.sum(), logits),
        torch.autograd.grad(theirs.sum(), logits),
        rtol=0,
        atol=1e-5,
    )


def test_padding_changes_nothing_even_if_it_is_nan() -> None:
    frames, targets = [7, 4, 2], [3, 5, 0]
    batch = random_batch(frames, targets)
    log_probs = joint_log_probs(batch).detach()
    for index, (num_frames, num_targets) in enumerate(zip(frames, targets, strict=True)):
        log_probs[index, num_frames:] = torch.nan
        log_probs[index, :, num_targets + 1 :] = torch.nan
    log_probs.requires_grad_()
    together = rnnt_loss(log_probs, batch.targets, *lengths_of(batch))
    (grad,) = torch.autograd.grad(together.sum(), log_probs)

    for index, (num_frames, num_targets) in enumerate(zip(frames, targets, strict=True)):
        own = (slice(index, index + 1), slice(num_frames), slice(num_targets + 1))
        alone = rnnt_loss(
            log_probs[own],
            batch.targets[index : index + 1, :num_targets],
            batch.frame_lengths[index : index + 1],
            batch.target_lengths[index : index + 1],
        )
        torch.testing.assert_close(together[index], alone[0])
        (alone_grad,) = torch.autograd.grad(alone.sum(), log_probs)
        torch.testing.assert_close(grad[index], alone_grad[index])


def test_float32_holds_over_a_long_utterance() -> None:
    batch = random_batch([400], [80], vocab=50, dtype=torch.float32)
    log_probs = joint_log_probs(batch).requires_grad_()
    double = log_probs.detach().double().requires_grad_()
    single_loss = rnnt_loss(log_probs, batch.targets, *lengths_of(batch))
    double_loss = rnnt_loss(double, batch.targets, *lengths_of(batch))
    torch.testing.assert_close(single_loss, double_loss, rtol=1e-6, atol=0, check_dtype=False)
    (single_grad,) = torch.autograd.grad(single_loss, log_probs)
    (double_grad,) = torch.autograd.grad(double_loss, double)
    # Measured 2e-4: alpha passes -1000 here, where float32 resolves 1e-4.
    torch.testing.assert_close(single_grad, double_grad, rtol=0, atol=1e-3, check_dtype=False)


def test_fastemit_scales_label_gradients_only() -> None:
    blank = torch.randn(2, 5, 4, requires_grad=True)
    label = torch.randn(2, 5, 3, requires_grad=True)
    lengths = torch.tensor([5, 4]), torch.tensor([3, 2])
    plain = run_lattice(blank, label, *lengths).loss
    fast = run_lattice(blank, label, *lengths, fastemit=0.25).loss
    assert torch.equal(plain, fast)
    plain_blank, plain_label = torch.autograd.grad(plain.sum(), [blank, label])
    fast_blank, fast_label = torch.autograd.grad(fast.sum(), [blank, label])
    torch.testing.assert_close(fast_blank, plain_blank)
    torch.testing.assert_close(fast_label, 1.25 * plain_label)


def test_reduction() -> None:
    batch = random_batch([5, 3], [2, 1])
    arguments = joint_log_probs(batch), batch.targets, *lengths_of(batch)
    loss = rnnt_loss(*arguments)
    torch.testing.assert_close(rnnt_loss(*arguments, reduction="sum"), loss.sum())
    torch.testing.assert_close(rnnt_loss(*arguments, reduction="mean"), loss.mean())
    with pytest.raises(ValueError, match="'max'"):
        rnnt_loss(*arguments, reduction="max")  # type: ignore[arg-type]


def test_another_blank_id() -> None:
    batch = random_batch([5, 3], [2, 1], vocab=6)
    last_blank = joint_log_probs(batch).roll(-1, dims=-1)  # ids move down by one, blank to the end
    torch.testing.assert_close(
        rnnt_loss(last_blank, batch.targets - 1, *lengths_of(batch), blank=5),
        rnnt_loss(joint_log_probs(batch), batch.targets, *lengths_of(batch)),
    )


def test_no_path_gives_inf_and_no_gradient_to_that_utterance_alone() -> None:
    blank = torch.full((2, 3, 2), -1.0)
    blank[0, 1] = -torch.inf  # no way past frame 1
    blank.requires_grad_()
    label = torch.full((2, 3, 1), -1.0, requires_grad=True)
    loss = run_lattice(blank, label, torch.tensor([3, 3]), torch.tensor([1, 1])).loss
    assert loss[0] == torch.inf and loss[1].isfinite()
    grad_blank, grad_label = torch.autograd.grad(loss.sum(), [blank, label])
    assert not grad_blank[0].any() and not grad_label[0].any()
    assert grad_blank[1].sum() == pytest.approx(-3)  # one blank a frame


@pytest.mark.parametrize(
    ("frame_lengths", "target_lengths", "message"),
    [
        ([0, 3], [1, 1], r"frame_lengths must lie in \[1, 3\], got \[0, 3\]"),
        ([4, 3], [1, 1], r"frame_lengths must lie in \[1, 3\]"),
        ([3, 3], [1, 3], r"target_lengths must lie in \[0, 2\]"),
        ([3], [1, 1], r"frame_lengths must have shape \(2,\)"),
    ],
)
def test_lengths_that_do_not_fit_are_named(
    frame_lengths: list[int], target_lengths: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_lattice(
            torch.zeros(2, 3, 3),
            torch.zeros(2, 3, 2),
            torch.tensor(frame_lengths),
            torch.tensor(target_lengths),
        )


def test_arcs_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"need label arcs \(2, 3, 2\), got \(2, 3, 3\)"):
        run_lattice(
            torch.zeros(2, 3, 3), torch.zeros(2, 3, 3), torch.tensor([3, 3]), torch.tensor([1, 1])
        )


@pytest.mark.parametrize("fastemit", [0.0, 0.01])
def test_simple_loss_is_the_full_loss_of_the_summed_logits(fastemit: float) -> None:
    batch = random_batch([9, 6, 4], [4, 5, 0])
    encoder, predictor = batch.encoder.requires_grad_(), batch.predictor.requires_grad_()
    arguments = batch.targets, *lengths_of(batch)
    simple = simple_rnnt_loss(encoder, predictor, *arguments, fastemit=fastemit).loss
    full = rnnt_loss(joint_log_probs(batch), *arguments, fastemit=fastemit)
    torch.testing.assert_close(simple, full)
    torch.testing.assert_close(
        torch.autograd.grad(simple.sum(), [encoder, predictor]),
        torch.autograd.grad(full.sum(), [encoder, predictor]),
    )


def test_simple_loss_survives_confident_logits() -> None:
    batch = random_batch([6], [3], dtype=torch.float32)
    encoder = (60 * batch.encoder).requires_grad_()
    predictor = (60 * batch.predictor).requires_grad_()
    loss = simple_rnnt_loss(encoder, predictor, batch.targets, *lengths_of(batch)).loss
    loss.sum().backward()
    assert loss.isfinite().all()
    assert encoder.grad.isfinite().all() and predictor.grad.isfinite().all()


def test_lattices_and_band_are_float32_under_autocast() -> None:
    batch = random_batch([30, 26], [14, 15], dtype=torch.float32)
    arguments = batch.targets, *lengths_of(batch)

    def losses_and_band() -> tuple[Tensor, Tensor, Tensor]:
        simple = simple_rnnt_loss(batch.encoder, batch.predictor, *arguments)
        starts = prune_ranges(simple.occupation, *lengths_of(batch), band=4)
        pruned = pruned_rnnt_loss(*on_band(batch, starts, 4), starts, *lengths_of(batch))
        return simple.loss, starts, pruned

    outside = losses_and_band()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = losses_and_band()
    assert all(torch.equal(one, other) for one, other in zip(inside, outside, strict=True))


def test_bfloat16_logits_give_a_float32_loss_and_bfloat16_gradients() -> None:
    batch = random_batch([9, 6], [4, 5], dtype=torch.float32)
    arguments = batch.targets, *lengths_of(batch)
    rough = batch.encoder.bfloat16().requires_grad_()
    loss = simple_rnnt_loss(rough, batch.predictor.bfloat16(), *arguments).loss
    assert loss.dtype == torch.float32
    expected = simple_rnnt_loss(batch.encoder, batch.predictor, *arguments).loss
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0)
    loss.sum().backward()
    assert rough.grad.dtype == torch.bfloat16


def test_occupation_counts_one_blank_a_frame_and_each_label_once() -> None:
    batch = random_batch([9, 6], [4, 2])
    occupation = simple_rnnt_loss(
        batch.encoder, batch.predictor, batch.targets, *lengths_of(batch)
    ).occupation
    assert not occupation.requires_grad
    torch.testing.assert_close(
        occupation.sum((1, 2)), (batch.frame_lengths + batch.target_lengths).double()
    )
    torch.testing.assert_close(occupation[:, 0, 0], torch.ones(2, dtype=torch.float64))
    assert occupation[1, 5, 2] == pytest.approx(1)
    assert not occupation[1, 6:].any() and not occupation[1, :, 3:].any()


@st.composite
def ragged_lengths(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """A band, and the frames and targets of each utterance that it can follow."""
    band = draw(st.integers(2, 5))
    utterances = []
    for _ in range(draw(st.integers(1, 3))):
        num_frames = draw(st.integers(1, 12))
        utterances.append((num_frames, draw(st.integers(0, min(15, (band - 1) * num_frames)))))
    return band, utterances


@given(ragged_lengths(), st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_bands_are_passable(case: tuple[int, list[tuple[int, int]]], seed: int) -> None:
    """Whatever the occupation: from 0, never back, overlapping, to the last target; finite loss."""
    band, utterances = case
    frame_lengths, target_lengths = torch.tensor(utterances).unbind(1)
    shape = len(utterances), int(frame_lengths.max()), int(target_lengths.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    occupation = torch.rand(shape, generator=generator)
    starts = prune_ranges(occupation, frame_lengths, target_lengths, band)

    assert starts.shape == shape[:2] and starts.dtype == torch.int64
    for row, (num_frames, num_targets) in zip(starts.tolist(), utterances, strict=True):
        last = max(0, num_targets + 1 - band)
        assert row[0] == 0
        assert row[num_frames - 1 :] == [last] * (shape[1] - num_frames + 1)
        assert all(0 <= after - before < band for before, after in pairwise(row))
    arcs = torch.zeros(*shape[:2], band)
    loss = pruned_rnnt_loss(arcs, arcs, starts, frame_lengths, target_lengths)
    assert loss.isfinite().all()


@pytest.mark.parametrize("autocast", [False, True])
def test_bands_hold_the_most_occupation_and_centre_it(autocast: bool) -> None:
    # One target every two frames, always with the same two nodes of each frame in use.
    occupation = torch.zeros(1, 24, 13)
    frame = torch.arange(24)
    occupation[0, frame, frame // 2] = 0.5
    occupation[0, frame, frame // 2 + 1] = 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        starts = prune_ranges(occupation, torch.tensor([24]), torch.tensor([12]), band=4)
    middle = frame[4:-6]  # away from where the band must start at 0 and end at the last target
    assert torch.equal(starts[0, middle], middle // 2 - 1)


def test_bands_that_cannot_follow_are_refused() -> None:
    occupation = torch.rand(2, 3, 8)
    with pytest.raises(ValueError, match="utterance 1 has 7 targets in 3 frames"):
        prune_ranges(occupation, torch.tensor([3, 3]), torch.tensor([6, 7]), band=3)
    with pytest.raises(ValueError, match="at least 2 rows"):
        prune_ranges(occupation, torch.tensor([3, 3]), torch.tensor([0, 0]), band=1)


def test_gathering_on_the_band() -> None:
    predictor_out = torch.arange(4.0).view(1, 4, 1).expand(1, 4, 3)  # row u holds u
    starts = torch.tensor([[0, 1, 2]])
    rows = gather_band(predictor_out, starts, band=3)
    assert rows.shape == (1, 3, 3, 3)
    assert rows[0, :, :, 0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 3]]
    targets = torch.tensor([[11, 12, 13]])
    assert band_targets(targets, starts, band=3, padding=1).tolist() == [
        [[11, 12, 13], [12, 13, 1], [13, 1, 1]]
    ]
    assert band_targets(targets[:, :0], starts[:, :1], band=2).tolist() == [[[0, 0]]]


def on_band(batch: SimpleNamespace, starts: Tensor, band: int) -> tuple[Tensor, Tensor]:
    """Blank and label log-probabilities of the summed logits, on the band."""
    joint = batch.encoder[:, :, None] + gather_band(batch.predictor, starts, band)
    log_probs = joint.log_softmax(dim=-1)
    targets = band_targets(batch.targets, starts, band)
    return log_probs[..., 0], log_probs.gather(3, targets[..., None])[..., 0]


@pytest.mark.parametrize("band", [6, 9])
def test_a_band_over_all_targets_is_the_full_loss(band: int) -> None:
    batch = random_batch([9, 6, 4], [4, 5, 0])
    encoder, predictor = batch.encoder.requires_grad_(), batch.predictor.requires_grad_()
    starts = torch.zeros(3, 9, dtype=torch.int64)
    pruned = pruned_rnnt_loss(*on_band(batch, starts, band), starts, *lengths_of(batch))
    full = rnnt_loss(joint_log_probs(batch), batch.targets, *lengths_of(batch))
    torch.testing.assert_close(pruned, full)
    torch.testing.assert_close(
        torch.autograd.grad(pruned.sum(), [encoder, predictor]),
        torch.autograd.grad(full.sum(), [encoder, predictor]),
    )


def test_pruned_loss_is_that_of_the_paths_on_the_band() -> None:
    batch = random_batch([5], [4])
    starts, band = torch.tensor([[0, 0, 1, 2, 2]]), 3
    pruned = pruned_rnnt_loss(*on_band(batch, starts, band), starts, *lengths_of(batch))
    log_probs = joint_log_probs(batch)[0]
    label = log_probs[:, :-1].gather(2, batch.targets[0][None, :, None].expand(5, -1, -1))[..., 0]
    expected = brute_force(log_probs[..., 0], label, starts[0], band)
    torch.testing.assert_close(pruned[0], expected)
    assert pruned[0] > brute_force(log_probs[..., 0], label)


def test_a_band_that_misses_the_last_target_has_no_path() -> None:
    arcs = torch.zeros(1, 3, 2)
    starts = torch.tensor([[0, 1, 1]])
    assert pruned_rnnt_loss(arcs, arcs, starts, torch.tensor([3]), torch.tensor([4])) == torch.inf


def test_transducer_loss_prunes_little_and_trains_both_parts() -> None:
    batch = random_batch([30, 22, 5], [12, 8, 0])
    encoder, predictor = batch.encoder.requires_grad_(), batch.predictor.requires_grad_()
    parts = transducer_loss(
        encoder,
        predictor,
        lambda starts: on_band(batch, starts, 5),
        batch.targets,
        *lengths_of(batch),
        band=5,
    )
    # The joiner here is the simple lattice's own, so pruning is all that sets the two apart.
    assert (parts.pruned >= parts.simple - 1e-9).all()
    assert (parts.pruned <= 1.1 * parts.simple).all()
    for loss in (parts.simple, parts.pruned):
        grads = torch.autograd.grad(loss.sum(), [encoder, predictor], retain_graph=True)
        assert all(grad.isfinite().all() and grad.any() for grad in grads)


def test_ctc_loss_is_unreduced_float32_and_zero_where_frames_are_too_few() -> None:
    logits = torch.randn(2, 4, 5, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.tensor([[1, 2, 0], [3, 3, 3]])  # the second needs five frames
    lengths = torch.tensor([3, 4]), torch.tensor([1, 3])
    loss = ctc_loss(logits.log_softmax(-1), targets, *lengths)
    assert loss.shape == (2,) and loss.dtype == torch.float32
    assert loss[1] == 0
    # Target 1 in three frames: every way to write blanks and one run of 1.
    log_probs = logits[0, :3].log_softmax(-1).float()
    ways = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 1, 1)]
    scores = torch.stack([log_probs[range(3), way].sum() for way in ways])
    torch.testing.assert_close(loss[0], -scores.logsumexp(0))
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad[0].any() and not logits.grad[1].any()


def test_consistency_loss_is_the_divergence_from_the_other_view() -> None:
    logits = torch.randn(4, 6, 5, requires_grad=True)
    lengths = torch.tensor([6, 4, 6, 4])
    with torch.no_grad():
        logits[1::2, 4:] = 9.0  # padding, which is not compared
    loss = consistency_loss(logits.log_softmax(-1), lengths)
    probs = logits.detach().softmax(-1)
    for index, length in enumerate(lengths.tolist()):
        mine, other = probs[index, :length], probs[(index + 2) % 4, :length]
        torch.testing.assert_close(loss[index], (other * (other / mine).log()).sum())
    # The other view is taken as it is: each one's gradient is that of a cross entropy with it.
    (grad,) = torch.autograd.grad(loss[0], logits)
    assert not grad[1:].any() and not grad[0, lengths[0] :].any()
    torch.testing.assert_close(grad[0], probs[0] - probs[2])


def test_consistency_of_views_that_agree_is_perfect() -> None:
    view = torch.randn(3, 4, 5).log_softmax(-1)
    assert not consistency_loss(torch.cat([view, view]), torch.tensor([4, 2, 1] * 2)).any()
    with pytest.raises(RuntimeError):
        consistency_loss(view, torch.tensor([4, 2, 1]))  # an odd number of views
