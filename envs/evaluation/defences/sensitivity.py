"""How strongly a classifier's loss depends on its input: where an attack stopped just behind a border, much more.

Li et al. 2020 (arXiv:2002.12527): inputs that an attack has moved as little as it could lie right behind a border
between classes, and there the gradient of the loss is large. It is taken for the class that the network itself says:
nobody knows the true one when it is used, and with it a detector would cheat. Attacks with a large budget go deep into
the wrong class, where the gradient is *smaller* than of clean inputs; those show in the pixels.

The paper's features are not published; those here are our own choice of what it speaks of.

Shapes: B batch, C classes, P numbers of one input, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.attacks.euclidean import unit
from envs.evaluation.attacks.least import Outputs, margin, of_rows
from envs.evaluation.defences.squeezing import BitDepth, MedianFilter

FLAT = 1e-12  # a norm below it: the softmax is saturated, and the lead's slope says the direction instead
FEATURES = (
    *("log norm", "log l1 norm", "mean", "variance", "skewness", "kurtosis", "beyond three deviations", "top energy"),
    *("confidence", "lead", "two-sided"),
    *("laplacian", "from median", "from blur", "from three bits", "median's change", "three bits' change"),
)


def slopes(outputs: Outputs, x: Tensor, label: Tensor | None = None, *, differentiable: bool = False) -> Tensor:
    """Return the gradient (B, ...) of the cross-entropy at a class, with respect to the input.

    In double precision from the outputs on. The surer the classifier, the smaller it is, to nothing; whoever needs
    where it points there takes `directions`.

    Args:
        outputs: the classifier, inputs (B, ...) to (B, C).
        x: inputs.
        label: (B,) the classes; None for those that the classifier says.
        differentiable: whether x may be differentiated through what is returned, for attacks that know of this.
    """
    return _slopes_and_directions(outputs, x, label, differentiable)[0]


def directions(outputs: Outputs, x: Tensor, label: Tensor | None = None) -> Tensor:
    """Return the gradient (B, ...) at length 1, as `slopes` takes it, without gradients.

    Where the softmax is saturated it is that of the other classes' lead, which has the same direction. A direction
    only: its length there says nothing of how sensitive the classifier is.
    """
    return _slopes_and_directions(outputs, x, label, False)[1].detach()


def _slopes_and_directions(
    outputs: Outputs, x: Tensor, label: Tensor | None, differentiable: bool
) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = x if differentiable and x.requires_grad else x.detach().requires_grad_()
        output = outputs(leaf.view_as(leaf)).double()  # no leaf: torch's counter of MACs cannot follow gradients to one
        label = output.argmax(1) if label is None else label
        loss = functional.cross_entropy(output, label, reduction="sum")
        (found,) = torch.autograd.grad(loss, leaf, create_graph=differentiable, retain_graph=True)
        way = found
        flat = found.detach().flatten(1).norm(dim=1) < FLAT
        if bool(flat.any()):
            (lead,) = torch.autograd.grad(margin(output, label).sum(), leaf, create_graph=differentiable)
            way = torch.where(of_rows(flat, found), lead, found)
        return found, unit(way)


def sensitivity(outputs: Outputs, x: Tensor) -> Tensor:
    """Return the norm (B,) of the loss's gradient for the class that the classifier says."""
    return slopes(outputs, x).flatten(1).norm(dim=1)


def features(outputs: Outputs, x: Tensor, centre: Tensor, *, differentiable: bool = False) -> Tensor:
    """Return what a detector looks at (B, F), in the order of FEATURES.

    Args:
        outputs: the classifier.
        x: pictures (B, channels, H, W) in [0, 1].
        centre: 0-d, the median of the log norm over clean inputs: too small is suspicious as well.
        differentiable: as `slopes` has it.
    """
    with torch.set_grad_enabled(differentiable):
        return torch.cat([*_of_gradient(outputs, x, centre, differentiable), *_of_pixels(outputs, x)], dim=1)


def _of_gradient(outputs: Outputs, x: Tensor, centre: Tensor, differentiable: bool) -> list[Tensor]:
    slope, way = (part.flatten(1) for part in _slopes_and_directions(outputs, x, None, differentiable))
    norm = slope.norm(dim=1).clamp_min(FLAT).log()
    # What does not depend on the gradient's size is taken from its direction, which is there at any size.
    standard = (way - way.mean(1, keepdim=True)) / way.std(1, correction=0).clamp_min(FLAT)[:, None]
    energy = way.square()
    top = energy.topk(max(1, slope.shape[1] // 100), dim=1).values.sum(1) / energy.sum(1).clamp_min(FLAT**2)
    output = outputs(x)
    two = output.topk(2, dim=1).values
    columns = [
        norm,
        slope.abs().sum(1).clamp_min(FLAT).log(),
        slope.mean(1),
        slope.std(1, correction=0).clamp_min(FLAT).square(),
        standard.pow(3).mean(1),
        standard.pow(4).mean(1),
        (standard.abs() > 3.0).to(slope).mean(1),
        top,
        output.softmax(1).amax(1),
        two[:, 0] - two[:, 1],
        (norm - centre).abs(),
    ]
    return [column.unsqueeze(1) for column in columns]


def _of_pixels(outputs: Outputs, x: Tensor) -> list[Tensor]:
    said = outputs(x).softmax(1)
    filtered = {"median": MedianFilter(3)(x), "blur": blurred(x), "bits": BitDepth(3)(x)}
    columns = [laplacian(x).square().flatten(1).mean(1)]
    columns += [(x - other).abs().flatten(1).mean(1) for other in filtered.values()]
    columns += [(said - outputs(filtered[name]).softmax(1)).abs().sum(1) for name in ("median", "bits")]
    return [column.unsqueeze(1) for column in columns]


def laplacian(pictures: Tensor) -> Tensor:
    """Return the sum of four neighbours minus four times each pixel, where it has them, (B, channels, H - 2, W - 2)."""
    inner = pictures[:, :, 1:-1, 1:-1]
    rows = pictures[:, :, :-2, 1:-1] + pictures[:, :, 2:, 1:-1]
    return rows + pictures[:, :, 1:-1, :-2] + pictures[:, :, 1:-1, 2:] - 4.0 * inner


def blurred(pictures: Tensor) -> Tensor:
    """Return pictures behind a Gaussian of 5 x 5 and deviation 1, edges repeated."""
    place = torch.arange(-2.0, 3.0, dtype=pictures.dtype, device=pictures.device)
    window = torch.exp(-0.5 * place.square())
    window = (window / window.sum()).expand(pictures.shape[1], 1, -1)
    padded = functional.pad(pictures, (2, 2, 2, 2), mode="replicate")
    rows = functional.conv2d(padded, window.unsqueeze(2), groups=pictures.shape[1])
    return functional.conv2d(rows, window.unsqueeze(3), groups=pictures.shape[1])


class Logistic(nn.Module):
    """Logistic regression over standardized features, a linear score with known statistics: above 0 is suspicious.

    Args:
        count: F.
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("deviation", torch.ones(count))
        self.register_buffer("weight", torch.zeros(count))
        self.register_buffer("bias", torch.zeros(()))

    def forward(self, values: Tensor) -> Tensor:
        """Return scores (B,) of features (B, F)."""
        return ((values - self.mean) / self.deviation).to(self.weight) @ self.weight + self.bias

    @torch.no_grad()
    def learn(self, values: Tensor, positive: Tensor, penalty: float, *, steps: int = 25) -> None:
        """Fit by Newton's method, in double precision, both classes weighing the same.

        Args:
            values: (M, F).
            positive: (M,) bool.
            penalty: of the squared weights, over the mean loss.
            steps: of Newton.
        """
        self.mean.copy_(values.mean(0))
        self.deviation.copy_(values.std(0, correction=0).clamp_min(1e-9))
        standard = ((values - self.mean) / self.deviation).double()
        design = torch.cat([standard, torch.ones(len(values), 1).to(standard)], dim=1)
        wanted = positive.double()
        share = wanted.mean().clamp(1e-9, 1 - 1e-9)
        of_row = torch.where(positive, 0.5 / share, 0.5 / (1 - share)) / len(values)
        ridge = torch.full((design.shape[1],), penalty, dtype=torch.float64, device=design.device)
        ridge[-1] = 1e-9  # the bias is free
        found = torch.zeros_like(ridge)
        for _ in range(steps):
            told = torch.sigmoid(design @ found)
            slope = design.T @ (of_row * (told - wanted)) + ridge * found
            bend = (design.T * (of_row * told * (1 - told))) @ design + ridge.diag()
            found = found - torch.linalg.solve(bend, slope)
        self.weight.copy_(found[:-1])
        self.bias.copy_(found[-1])
