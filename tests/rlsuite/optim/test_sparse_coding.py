"""Convolutional sparse coding: its solves against dense algebra, its gradients against autograd, what it learns."""

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.optim.cogradient import CogradientConfig
from rlsuite.optim.sparse_coding import VARIANTS, CodingConfig, _Grid, learn, normalized, send_kernels_back

SMALL = {"kernels": 3, "size": 3, "rounds": 4, "inner": 3}


def made(seed=0, pictures=2, side=10, kernels=3):
    generator = torch.Generator().manual_seed(seed)
    grid = _Grid(torch.randn(pictures, side, side, generator=generator).double(), CodingConfig(**SMALL), None)
    height, width = grid.side
    first = grid.spread(torch.randn(kernels, 3, 3, generator=generator).double())
    return grid, first, torch.randn(pictures, kernels, height, width, generator=generator).double()


def test_kernels_lie_on_the_grid_and_come_back():
    grid, _, _ = made()
    kernels = torch.arange(27.0).view(3, 3, 3).double()
    spread = grid.spread(kernels)
    assert torch.equal(spread[:, 0, 0], kernels[:, 1, 1])  # the middle at the first place
    assert torch.equal(spread[:, -1, -1], kernels[:, 0, 0])
    assert torch.equal(grid.gathered(spread), kernels)
    assert grid.gathered(grid.feasible(spread)).flatten(1).norm(dim=1).tolist() == pytest.approx([1.0, 1.0, 1.0])
    small = grid.spread(0.01 * kernels)
    assert torch.allclose(grid.feasible(small), small)


def test_sums_are_convolutions():
    """A code of one entry puts its kernel there."""
    grid, kernels, codes = made()
    codes = torch.zeros_like(codes)
    codes[1, 2, 5, 6] = 2.0
    found = grid.sums(kernels, codes)
    assert torch.allclose(found[0], torch.zeros_like(found[0]))
    assert torch.allclose(found[1, 4:7, 5:8], 2.0 * grid.gathered(kernels)[2])


@pytest.mark.parametrize("which", ["kernels", "codes"])
def test_a_solve_is_the_dense_least_squares(which):
    """One step of ADMM without a threshold or bound in reach is the minimum of a quadratic: its gradient is zero."""
    grid, kernels, codes = made()
    grid.feasible, grid.config = (lambda value: value), CodingConfig(**{**SMALL, "inner": 1, "sparsity": 1e-12})
    duals = [torch.zeros_like(grid.target), torch.zeros_like(kernels if which == "kernels" else codes)]
    update = grid.update_kernels if which == "kernels" else grid.update_codes
    first, second = grid.kernel_penalties if which == "kernels" else grid.code_penalties
    theta = 1.0 / first
    before = grid.sums(kernels, codes)
    pictures = (grid.target + before / theta) / (grid.mask + 1.0 / theta)
    wanted_pictures = pictures - (before - pictures)
    wanted = kernels if which == "kernels" else codes
    value = (update(kernels, codes, duals)).requires_grad_()
    sums = grid.sums(value, codes) if which == "kernels" else grid.sums(kernels, value)
    loss = first * (sums - wanted_pictures).square().sum() + second * (value - wanted).square().sum()
    (gradient,) = torch.autograd.grad(loss, value)
    assert float(gradient.abs().max()) < 1e-7 * max(1.0, float(loss.detach()))


def test_pull_and_curvature_are_the_objectives():
    grid, kernels, codes = made()
    way = torch.randn(kernels.shape, generator=torch.Generator().manual_seed(5)).double()
    lost = grid.residuals(kernels, codes)
    pull = grid.correlate(lost, way)
    # What an entry's own kernel at its place says of the residuals, one entry by hand.
    moved = torch.zeros_like(codes)
    moved[1, 2, 4, 7] = 1.0
    assert float(pull[1, 2, 4, 7]) == pytest.approx(float((lost * grid.sums(way, moved)).sum()))
    leaf = codes.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(0.5 * grid.residuals(kernels, leaf).square().sum(), leaf)
    assert torch.allclose(grid.correlate(lost, kernels), gradient)  # of all, the gradient
    assert float(grid.sums(kernels, moved).square().sum()) <= float(grid.curvature(kernels)) + 1e-9


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_learns_and_the_same_seed_gives_the_same_bits(variant):
    generator = torch.Generator().manual_seed(3)
    grid, kernels, codes = made()
    sparse = codes * (torch.rand(codes.shape, generator=generator) < 0.1)
    pictures = grid.sums(grid.feasible(kernels), 3.0 * sparse)[:, 1:-1, 1:-1]
    pictures = pictures - pictures.mean((1, 2), keepdim=True)
    config = CodingConfig(**{**SMALL, "kernels": 8, "rounds": 12, "sparsity": 0.05}, variant=variant)
    found, again = (learn(pictures, config, seed=0) for _ in range(2))
    assert torch.equal(found.pictures, again.pictures)
    assert found.objectives.shape == (12, 2)
    assert found.objectives[-1, 1] < 0.5 * found.objectives[0, 1]
    assert float((found.pictures - pictures).square().mean()) < 0.5 * float(pictures.square().mean())
    assert (found.kernels.flatten(1).norm(dim=1) <= 1.0 + 1e-6).all()
    assert (found.sent_back > 0) == (variant == "text")


def test_without_projection_the_text_is_the_plain_method():
    pictures = torch.randn(2, 9, 9, generator=torch.Generator().manual_seed(0)).double()
    off = CodingConfig(**SMALL, variant="text", cogradient=CogradientConfig(kind="off"))
    one, other = learn(pictures, off, seed=1), learn(pictures, CodingConfig(**SMALL, variant="plain"), seed=1)
    assert torch.equal(one.pictures, other.pictures)


def test_what_is_not_known_is_not_looked_at():
    pictures = torch.randn(2, 9, 9, generator=torch.Generator().manual_seed(0)).double()
    known = (torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(1)) < 0.75).double()
    config = CodingConfig(**SMALL, variant="text")
    one = learn(pictures, config, seed=1, known=known)
    other = learn(torch.where(known == 1, pictures, 1e3), config, seed=1, known=known)
    assert torch.equal(one.pictures, other.pictures)


def test_the_scripts_rule_by_hand():
    grid, kernels, codes = made()
    old = kernels + 1.0
    changed = send_kernels_back(grid, kernels, old, codes, 0, painting_in=False)
    moved = changed != kernels
    assert int(moved.sum()) == int(3 / 8 * kernels.numel())  # (4 - 0 - 1) / (2 * 4), below 255 here
    assert torch.allclose(changed[moved], 0.01 * kernels[moved] + 0.99 * old[moved])
    assert float(codes.abs().sum(0)[moved].min()) >= float(codes.abs().sum(0)[~moved].max())
    grid.config = CodingConfig(**SMALL, limit=5)
    assert int((send_kernels_back(grid, kernels, old, codes, 0, painting_in=False) != kernels).sum()) == 5
    assert torch.equal(send_kernels_back(grid, kernels, old, codes, 3, painting_in=False), kernels)  # the last round
    painted = send_kernels_back(grid, kernels, old, codes, 0, painting_in=True)
    far = (
        0.1
        * 0.05
        * float(grid.residuals(kernels, codes).sum())
        * min(1.0, float(codes.norm() / (kernels - old).norm()))
    )
    moved = painted != kernels
    assert torch.allclose(painted[moved] - kernels[moved], far * old[moved], rtol=1e-3)


def test_normalized_contrast():
    ramp = torch.linspace(0, 1, 30).expand(2, 30, 30).clone().double()
    ramp[1, :, 15:] += 1.0
    found = normalized(ramp)
    assert found.mean((1, 2)).abs().max() < 1e-9
    assert torch.allclose(normalized(5.0 * ramp + 2.0), found)  # light and contrast of a whole picture do not matter


def test_wrong_numbers_are_refused():
    for blank in (torch.zeros(1, 9, 9), -torch.ones(1, 9, 9)):
        with pytest.raises(UserError, match="the largest known pixel is"):
            learn(blank, CodingConfig(**SMALL), seed=0)
    with pytest.raises(UserError, match="the largest known pixel is 0"):
        learn(torch.ones(1, 9, 9), CodingConfig(**SMALL), seed=0, known=torch.zeros(1, 9, 9))
    for change in ({"size": 4}, {"kernels": 0}, {"variant": "both"}, {"sparsity": 0.0}, {"limit": -1}):
        with pytest.raises(UserError, match=next(iter(change))):
            CodingConfig(**change)
