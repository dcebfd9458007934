"""CoGD's projection by hand, FISTA against its definition, and two numbers that start out of step."""

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.optim.cogradient import Cogradient, CogradientConfig, coupling, project, switch
from rlsuite.optim.proximal import Fista, soft_threshold

EVERY = {"sparse_share": 1e9, "dense_share": 0.0}  # all pairs are out of step


def test_soft_threshold_by_hand():
    value = torch.tensor([-2.0, -0.5, 0.0, 0.3, 1.5])
    assert soft_threshold(value, 0.5).tolist() == [-1.5, 0.0, 0.0, 0.0, 1.0]


def test_coupling_by_hand():
    """A of 2 x 2 and x of 2; A moved by [[0.1, 0], [-0.2, 0.4]], x by (0.5, -0.1); residuals (1, 2); rate 0.1."""
    moved, residuals = torch.tensor([[0.1, 0.0], [-0.2, 0.4]]), torch.tensor([1.0, 2.0])
    pull = moved.T @ residuals
    assert pull.tolist() == pytest.approx([-0.3, 0.8])
    # beta = -0.1 * (-0.3 / 0.5), -0.1 * (0.8 / -0.1)
    assert coupling(pull, torch.tensor([0.5, -0.1]), 0.1).tolist() == pytest.approx([0.06, 0.8])
    assert coupling(pull, torch.zeros(2), 0.1).tolist() == [0.0, 0.0]


def test_the_coupled_term_is_the_chain_rules():
    """beta x is minus the rate times the gradient through A, of an A that does depend on x, as the paper assumes."""
    generator = torch.Generator().manual_seed(0)
    start, way, x, b = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3, 4), (3, 4), (4,), (3,))
    )
    step = torch.full((4,), 0.25, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    dense = start + way * (leaf - x + step)  # so dA_ij / dx_j is way, and the last step of A is way * step
    residuals = dense @ leaf - b
    (whole,) = torch.autograd.grad(0.5 * residuals.square().sum(), leaf)
    plain = dense.detach().T @ residuals.detach()
    beta = coupling((way * step).T @ residuals.detach(), step, 0.3)
    assert torch.allclose(beta * x, -0.3 * (whole - plain))


def test_it_is_on_only_where_x_is_small_and_its_column_is_not():
    sparse, size = torch.tensor([0.1, 0.1, 2.0, -2.0]), torch.tensor([3.0, 1.0, 3.0, 1.0])
    on = switch(sparse, size, 0.5, 2.0)
    assert on.tolist() == [True, False, False, False]
    new, old, beta = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.ones(4), torch.full((4,), 0.5)
    assert project(new, old, beta, on).tolist() == [0.5, 0.0, 1.0, 1.0]


def columns(dense):
    return dense.abs().sum(0)


def test_after_by_hand():
    """The first step has nothing to compare with; the second sends the first entry back, and keeps the other's bits."""
    back = Cogradient(CogradientConfig(sparse_share=0.5, dense_share=1.0, largest=10.0))
    x0, x1, x2 = torch.tensor([0.4, 1.0]), torch.tensor([0.2, 1.1]), torch.tensor([0.1, 1.2])
    dense0, dense1 = torch.eye(2), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    residuals = torch.tensor([3.0, 0.5])

    def pull(moved):
        return moved.T @ residuals

    assert torch.equal(back.after(x1, x0, dense0, columns(dense0), pull, 0.1), x1)
    found = back.after(x2, x1, dense1, columns(dense1), pull, 0.1)
    # A's first column moved by 1 along a residual of 3, x by -0.2: beta = -0.1 * 3 / -0.2 = 1.5; 0.1 + 1.5 * 0.2
    assert found.tolist() == pytest.approx([0.4, 1.2])
    assert (back.asked, int(back.fired)) == (2, 1)
    bounded = Cogradient(CogradientConfig(largest=0.1))
    bounded.load_state_dict({"asked": 0, "fired": torch.tensor(0), "before": [dense0, x0]})
    assert bounded.after(x2, x1, dense1, columns(dense1), pull, 0.1).tolist() == pytest.approx([0.12, 1.2])


def test_what_is_counted_has_changed():
    """Of four that are on one was zero before, one's beta is negative, one has not moved; the last goes back."""
    back = Cogradient(CogradientConfig(**EVERY))
    x0, x1 = torch.tensor([0.5, 0.5, 0.5, 0.5]), torch.tensor([0.0, 0.4, 0.5, 0.4])
    dense0, dense1 = torch.zeros(1, 4), torch.ones(1, 4)
    way = torch.tensor([1.0, -1.0, 1.0, 1.0])  # residuals of each column's own

    def pull(moved):
        return moved[0] * way

    back.after(x1, x0, dense0, columns(dense0), pull, 0.1)
    new = torch.tensor([0.0, 0.1, 0.1, 0.1])
    found = back.after(new, x1, dense1, columns(dense1), pull, 0.1)
    # beta = -0.1 * way * 1 / (x1 - x0): 0.2, -1, 0 and 1, the last cut to 0.1
    assert found.tolist() == pytest.approx([0.0, 0.1, 0.1, 0.1 + 0.1 * 0.4])
    assert (back.asked, int(back.fired)) == (4, 1)


@pytest.mark.parametrize(
    "config",
    [CogradientConfig(kind="off"), CogradientConfig(kind="constant", constant=0.0), CogradientConfig(largest=0.0)],
)
def test_without_beta_it_is_the_base_method_bit_for_bit(config):
    back, generator = Cogradient(config), torch.Generator().manual_seed(1)
    old, dense = torch.randn(6, generator=generator), torch.randn(3, 6, generator=generator)
    for _ in range(4):
        new = old + torch.randn(6, generator=generator)
        residuals = torch.randn(3, generator=generator)
        assert torch.equal(
            back.after(new, old, dense, columns(dense), lambda moved, r=residuals: moved.T @ r, 0.1), new
        )
        old, dense = new, dense + torch.randn(3, 6, generator=generator)


def test_state_goes_on_to_the_same_bits():
    def steps(back, numbers):
        old, dense, found = torch.ones(5), torch.ones(2, 5), []
        for number in numbers:
            noise = torch.Generator().manual_seed(number)
            new = 0.1 * torch.randn(5, generator=noise)
            dense = dense + torch.randn(2, 5, generator=noise)
            old = back.after(new, old, dense, columns(dense), lambda moved: moved.sum(0), 0.1)
            found.append(old)
        return found

    config = CogradientConfig(**EVERY)
    back = Cogradient(config)
    steps(back, range(3))
    again = Cogradient(config)
    again.load_state_dict(back.state_dict())
    for one, other in zip(*(steps(each, range(3, 6)) for each in (back, again)), strict=True):
        assert torch.equal(one, other)
    assert back.state_dict()["asked"] == again.state_dict()["asked"] == 25  # of the first step there is no step before


def stalled(kind, steps=400, rate=0.05):
    """Steps until a * x, of 0.1 and 0.001 to begin with, is within a tenth of 1."""
    a, x = torch.tensor([[0.1]]), torch.tensor([0.001])
    back = Cogradient(CogradientConfig(kind=kind, sparse_share=2.0))
    for step in range(steps):
        residuals = a @ x - 1.0
        if float(residuals.abs()) < 0.1:
            return step, float(back.fired)
        new = soft_threshold(x - rate * (a.T @ residuals), rate * 1e-4)
        moved = a - rate * residuals[:, None] * x
        x = back.after(new, x, a, a.abs().sum(0), lambda way, r=residuals: way.T @ r, rate)
        a = moved
    return steps, float(back.fired)


def test_one_number_times_another_gets_going_earlier():
    plain, never = stalled("off")
    for kind in ("coupled", "constant"):
        steps, fired = stalled(kind)
        assert steps < plain < 400, kind
        assert fired > 0
    assert never == 0


def test_fista_by_its_definition():
    """Two steps by hand, without a threshold reached and with one; then the quadratic's minimum."""
    fista = Fista(1.0)
    first = fista.step(torch.tensor([1.0]), torch.tensor([2.0]), 0.1)
    assert first.tolist() == pytest.approx([0.7])  # 1 - 0.2 - 0.1; nothing to extrapolate
    a = (1 + 5**0.5) / 2
    second = fista.step(first, torch.tensor([0.0]), 0.1)
    assert second.tolist() == pytest.approx([0.6])  # the first momentum is (1 - 1) / a
    third = fista.step(second, torch.tensor([0.0]), 0.1)
    b = (1 + (1 + 4 * a * a) ** 0.5) / 2
    assert third.tolist() == pytest.approx([0.6 + (a - 1) / b * -0.1 - 0.1])
    fista.restart()
    assert fista.step(third, torch.tensor([0.0]), 0.1).tolist() == pytest.approx([float(third) - 0.1])
    assert Fista(0.0, nonnegative=True).step(torch.tensor([0.1, 1.0]), torch.ones(2), 0.5).tolist() == [0.0, 0.5]


@pytest.mark.parametrize("accelerate", [False, True])
def test_fista_finds_the_lasso_and_goes_on_from_its_state(accelerate):
    generator = torch.Generator().manual_seed(2)
    matrix, wanted = torch.randn(8, 4, generator=generator).double(), torch.randn(8, generator=generator).double()
    rate = 1.0 / float(torch.linalg.matrix_norm(matrix, 2) ** 2)
    fista, x = Fista(0.5, accelerate=accelerate), torch.zeros(4).double()
    for step in range(400):
        if step == 200:
            state = fista.state_dict()
            fista = Fista(0.5, accelerate=accelerate)
            fista.load_state_dict(state)
        x = fista.step(x, matrix.T @ (matrix @ x - wanted), rate)
    gradient = matrix.T @ (matrix @ x - wanted)
    assert torch.allclose(gradient[x != 0], -0.5 * x[x != 0].sign(), atol=1e-3)
    assert (gradient.abs() <= 0.5 + 1e-3).all()


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="kind=both"):
        CogradientConfig(kind="both")
    with pytest.raises(UserError, match="largest"):
        CogradientConfig(largest=-1.0)
