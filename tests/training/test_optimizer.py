"""Muon moves matrices in orthogonal steps, leaves the rest to AdamW, and survives a restart."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from training.optimizer import ADAM_RMS, MuonAdamW, orthogonalized


@pytest.mark.parametrize("shape", [(3, 16, 64), (3, 64, 16), (2, 32, 32)])
def test_singular_values_come_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    matrices *= torch.tensor([1e-4, 1.0, 1e4])[: shape[0], None, None]
    before, after = torch.linalg.svdvals(matrices), torch.linalg.svdvals(orthogonalized(matrices))
    assert (before[0].max() < 0.1) and (before[-1].max() > 2), "not near one to begin with"
    assert ((after > 0.5) & (after < 1.4)).all()


def test_a_step_keeps_the_singular_vectors() -> None:
    matrix = torch.randn(1, 24, 48, generator=torch.Generator().manual_seed(2))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    diagonal = left.mT @ orthogonalized(matrix) @ right.mT
    rest = diagonal - torch.diag_embed(diagonal.diagonal(dim1=1, dim2=2))
    assert rest.abs().max() < 0.1


def layers() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 4))


def split(model: nn.Sequential) -> MuonAdamW:
    hidden = model[0].weight
    others = [p for p in model.parameters() if p is not hidden]
    groups = [{"params": [hidden], "orthogonal": True}, {"params": others}]
    return MuonAdamW(groups, lr=0.01, weight_decay=0.1)


def step(model: nn.Sequential, optimizer: torch.optim.Optimizer, seed: int) -> None:
    inputs = torch.randn(5, 8, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    model(inputs).square().mean().backward()
    optimizer.step()


def test_what_is_no_hidden_matrix_moves_as_adamw_moves_it() -> None:
    model, reference = layers(), layers()
    step(model, split(model), seed=0)
    adamw = torch.optim.AdamW(reference.parameters(), lr=0.01, betas=(0.9, 0.98), weight_decay=0.1)
    step(reference, adamw, seed=0)
    assert torch.allclose(model[2].weight, reference[2].weight)
    assert torch.allclose(model[0].bias, reference[0].bias)
    assert not torch.allclose(model[0].weight, reference[0].weight)


def test_a_matrix_moves_by_the_size_of_an_adamw_step() -> None:
    model = layers()
    before = model[0].weight.detach().clone()
    step(model, split(model), seed=0)
    moved = model[0].weight.detach() - before * (1 - 0.01 * 0.1)
    rms = float(moved.square().mean().sqrt())
    # An orthogonal 16 x 8 matrix has 8 singular values of one: a mean square of 8 / 128.
    expected = 0.01 * ADAM_RMS * 16**0.5 * (8 / 128) ** 0.5
    assert rms == pytest.approx(expected, rel=0.3)


def test_a_restarted_optimiser_takes_the_same_steps() -> None:
    model = layers()
    optimizer = split(model)
    for seed in range(3):
        step(model, optimizer, seed)
    again = copy.deepcopy(model)
    restarted = split(again)
    restarted.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer, seed=9)
    step(again, restarted, seed=9)
    for mine, theirs in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_it_learns() -> None:
    model = layers()
    optimizer = split(model)
    inputs = torch.randn(64, 8, generator=torch.Generator().manual_seed(5))
    targets = inputs[:, :4] * inputs[:, 4:]
    for _ in range(300):
        optimizer.zero_grad()
        loss = (model(inputs) - targets).square().mean()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1 * float(targets.square().mean())


def three_matrices() -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(3)])


def two_steps(model: nn.Sequential) -> None:
    groups = [{"params": list(model.parameters()), "orthogonal": True}]
    optimizer = MuonAdamW(groups, lr=0.01, weight_decay=0.1)
    for seed in range(2):
        step(model, optimizer, seed)


def take_a_share(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    meet = f"file://{folder / 'meet'}"
    torch.distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=2)
    model = three_matrices()
    two_steps(model)
    torch.save(model.state_dict(), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_that_share_the_work_take_the_steps_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(take_a_share, (tmp_path,), nprocs=2)  # two matrices and one
    model = three_matrices()
    two_steps(model)
    for rank in range(2):
        shared = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, parameter in model.state_dict().items():
            assert torch.equal(shared[name], parameter), f"{name} of process {rank}"
