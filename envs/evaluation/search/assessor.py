"""A semi-supervised assessor of architectures (Tang et al. 2020, arXiv:2005.06821): few labels, many architectures.

An auto-encoder of all architectures, a graph of those whose codes are near, and a graph convolution network that tells
scores. All learn together, so architectures without a score shape the codes and pass on what is known of neighbours.

    L = (1 - lambda) mean over labelled (y^ - y)^2 + lambda mean over all ||D(E(x)) - x||^2          (equations 2 to 8)

There is no published code. Recalled from the paper: lambda, tau, the fixed sigma, Adam, its rate and decay. Chosen
here: widths, the layout of x (`Space.matrix`), the number of minibatches, and sigma by the batch: with the fixed one
and codes of norm 1 the graph is empty, with very short ones full, and the method silently another one. A fixed sigma
goes with distances at one learned norm, which begins where the median pair of nodes has the similarity tau; graph
convolutions and decoder see codes as long as they are. `degree` and `spread` of the result tell.

Shapes: N nodes of a batch (labelled first), F numbers of a code, C x R x S entries of an architecture's matrix.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.search.predictors import Standard, check_labels
from envs.evaluation.search.space import Architecture, Space
from rlsuite.data.minibatches import minibatch
from rlsuite.errors import UserError, require, require_finite
from rlsuite.optim.state import adam
from rlsuite.running.seeding import derive_seed
from rlsuite.weights_file import read_weights, write_weights

FORMAT = "rlsuite assessor 2"
_NEAREST = 1e-6  # distances are no smaller: roots have gradients there


@dataclass(frozen=True, kw_only=True)
class AssessorConfig:
    """The assessor.

    Attributes:
        width: channels of the encoder's first convolution; its second has twice as many.
        code: F.
        hidden: units of the graph convolutions' hidden layer.
        reconstruction: lambda, the share of the reconstruction's loss.
        graph: whether neighbours are seen; without, every node stands alone (a perceptron on codes).
        sigma: of the similarity exp(-d / (2 sigma^2)); 0 takes one for each batch: see neighbours. A fixed one (0.01 in
            the paper) goes with distances of codes that are brought to one learned norm.
        neighbours: with sigma=0, so many others are above `tau` for the median node.
        tau: smaller similarities are no edges (1e-5 in the paper, with its sigma).
        steps: minibatches; 200 of 200 nodes are 67 epochs of 600 architectures (200 epochs in the paper).
        batch_size: nodes of each, at most half of them labelled where there are others.
        learning_rate: of Adam.
        weight_decay: decoupled from the gradient.
        repeats: random batches that predictions are averaged over.
    """

    width: int = 32
    code: int = 64
    hidden: int = 128
    reconstruction: float = 0.5
    graph: bool = True
    sigma: float = 0.0
    neighbours: int = 10
    tau: float = 0.1
    steps: int = 200
    batch_size: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    repeats: int = 3

    def __post_init__(self) -> None:
        for name in ("width", "code", "hidden", "neighbours", "steps", "repeats"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.batch_size >= 4, f"batch_size={self.batch_size}: use 4 or more")
        require(0.0 <= self.reconstruction <= 1.0, f"reconstruction={self.reconstruction}: use a share in [0, 1]")
        require(0.0 < self.tau < 1.0, f"tau={self.tau}: use more than 0, and less than 1")
        require_finite("sigma", self.sigma, low=0.0)
        require_finite("learning_rate", self.learning_rate, above=0.0)
        require_finite("weight_decay", self.weight_decay, low=0.0)


class Assessed(NamedTuple):
    """What is told of architectures.

    Attributes:
        mean: (M,) scores.
        deviation: (M,) over the batches they were averaged over.
        degree: edges of a node, the mean over all; 0 where every node stands alone.
        isolated: share of nodes without an edge.
        spread: standard deviation of `mean`: near 0 where neighbours were averaged until all are alike.
    """

    mean: np.ndarray
    deviation: np.ndarray
    degree: float
    isolated: float
    spread: float


class AssessorNetwork(nn.Module):
    """Matrices of architectures (N, C, R, S) to scores, their codes, and the matrices again.

    Args:
        shape: (C, R, S).
        config: see AssessorConfig.
    """

    def __init__(self, shape: tuple[int, int, int], config: AssessorConfig) -> None:
        super().__init__()
        channels, rows, columns = shape
        self.config, width = config, config.width
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * rows * columns, config.code),
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.code, 2 * width * rows * columns),
            nn.ReLU(),
            nn.Unflatten(1, (2 * width, rows, columns)),
            nn.ConvTranspose2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 3, padding=1),
        )
        self.first, self.second = nn.Linear(config.code, config.hidden), nn.Linear(config.hidden, 1)
        self.log_norm = nn.Parameter(torch.zeros(()), requires_grad=config.sigma > 0)

    @torch.no_grad()
    def begin_norm(self, matrices: Tensor) -> None:
        """With a fixed sigma, start the norm where the median pair of some matrices (N, ...) has the similarity tau."""
        if self.config.sigma > 0 and len(matrices) > 1:
            codes = functional.normalize(self.encoder(matrices), dim=1)
            median = functional.pdist(codes).median().clamp_min(_NEAREST)
            end = 2.0 * self.config.sigma**2 * math.log(1.0 / self.config.tau)
            self.log_norm.fill_(math.log(end / float(median)))

    def similarity(self, codes: Tensor) -> Tensor:
        """Return the weights (N, N) of edges, 0 where there is none; equation 3, differentiable where there is one.

        With a fixed sigma only the directions of codes (N, F) count: distances are those at the learned norm.
        """
        if self.config.sigma > 0:
            codes = functional.normalize(codes, dim=1)
        norms = codes.square().sum(1)
        distance = (norms[:, None] + norms[None] - 2.0 * codes @ codes.T).clamp_min(_NEAREST**2).sqrt()
        others = ~torch.eye(len(codes), dtype=torch.bool, device=codes.device)
        if self.config.sigma > 0:
            distance = distance * self.log_norm.exp()
            twice_square = 2.0 * self.config.sigma**2
        else:
            place = min(self.config.neighbours, len(codes) - 1)
            near = distance.detach().masked_fill(~others, torch.inf).kthvalue(max(place, 1), dim=1).values.median()
            twice_square = near.clamp_min(1e-12) / math.log(1.0 / self.config.tau)
        similar = torch.exp(-distance / twice_square)
        return similar * ((similar > self.config.tau) & others)

    def forward(self, matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores (N,), codes (N, F) and edges (N, N)."""
        codes = self.encoder(matrices)
        edges = self.similarity(codes) if self.config.graph else codes.new_zeros(len(codes), len(codes))
        spread = propagation(edges)
        hidden = torch.relu(self.first(spread @ codes))
        return self.second(spread @ hidden).squeeze(1), codes, edges


def propagation(edges: Tensor) -> Tensor:
    """Return D^-1/2 (A + I) D^-1/2 (N, N) of edges A (N, N), D the sums of A + I: equation 5."""
    whole = edges + torch.eye(len(edges), dtype=edges.dtype, device=edges.device)
    scale = whole.sum(1).rsqrt()
    return scale[:, None] * whole * scale[None]


class Assessor:
    """Tells architectures' scores, as `predictors.Predictor` does.

    Args:
        space: of the architectures; `Space.matrix` is what the encoder sees.
        config: see AssessorConfig.
        seed: of weights and batches.
    """

    def __init__(self, space: Space, config: AssessorConfig | None = None, *, seed: int) -> None:
        self.space, self.config, self.seed = space, config or AssessorConfig(), seed

    def fit(
        self,
        tried: Sequence[Architecture],
        scores: np.ndarray,
        others: Sequence[Architecture] = (),
        *,
        weights: np.ndarray | None = None,
    ) -> None:
        """Learn from labelled architectures and from others.

        Args:
            tried: labelled ones.
            scores: (L,) theirs.
            others: without a label.
            weights: (L,) how much each label counts, such as the number of seeds that it is a mean of; None for alike.
        """
        check_labels(tried, scores)
        config = self.config
        self.known, self.output = self._matrices(tried), Standard(scores)
        rest = self._matrices(others) if len(others) else self.known[:0]
        label = torch.from_numpy(self.output.apply(scores)).float()
        share = torch.ones(len(label)) if weights is None else torch.from_numpy(np.asarray(weights)).float()
        self.network = self._fresh()
        learning = [weight for weight in self.network.parameters() if weight.requires_grad]
        optimizer = adam(learning, config.learning_rate, weight_decay=config.weight_decay)
        sizes = self._sizes(len(rest))
        for step in range(config.steps):
            labelled = minibatch(derive_seed(self.seed, "labelled"), step, len(label), sizes[0])
            parts = [self.known[labelled]]
            if sizes[1]:
                parts.append(rest[minibatch(derive_seed(self.seed, "others"), step, len(rest), sizes[1])])
            if step == 0:
                self.network.begin_norm(torch.cat(parts))
            loss = self.losses(torch.cat(parts), label[labelled], share[labelled])["loss"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        self.network.eval()

    def losses(self, matrices: Tensor, label: Tensor, share: Tensor) -> dict[str, Tensor]:
        """Return "loss", "regression" and "reconstruction" of a batch, labelled nodes first; equations 6 to 8."""
        scores, codes, _ = self.network(matrices)
        weight = self.config.reconstruction
        regression = (share * (scores[: len(label)] - label).square()).sum() / share.sum()
        again = (self.network.decoder(codes) - matrices).square().flatten(1).sum(1).mean()
        return {
            "loss": (1.0 - weight) * regression + weight * again,
            "regression": regression,
            "reconstruction": again,
        }

    def predict(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return a score for each architecture."""
        return self.assess(architectures).mean

    @torch.no_grad()
    def assess(self, architectures: Sequence[Architecture]) -> Assessed:
        """Return scores and how sure they are: each among labelled architectures and others that are asked for."""
        asked = self._matrices(architectures)
        # At most half of a batch is labelled, as in learning; the rest are those that are asked for.
        first = min(len(self.known), self.config.batch_size // 2)
        at_once = self.config.batch_size - first
        found, degrees, lonely = [], [], []
        for repeat in range(self.config.repeats):
            generator = torch.Generator().manual_seed(derive_seed(self.seed, f"assess {repeat}"))
            order, scores = torch.randperm(len(asked), generator=generator), torch.empty(len(asked))
            for part in order.split(at_once):
                chosen = torch.randperm(len(self.known), generator=generator)[:first]
                score, _, edges = self.network(torch.cat([self.known[chosen], asked[part]]))
                scores[part] = score[first:]
                degree = (edges > 0).sum(1).double()
                degrees.append(float(degree.mean()))
                lonely.append(float((degree == 0).double().mean()))
            found.append(self.output.undo(scores.double().numpy()))
        mean = np.mean(found, axis=0)
        return Assessed(mean, np.std(found, axis=0), float(np.mean(degrees)), float(np.mean(lonely)), float(mean.std()))

    def save(self, path: Path) -> None:
        """Write what was learned, and the seed that predictions' batches are drawn by."""
        scale = torch.tensor([float(self.output.mean), float(self.output.deviation)], dtype=torch.float64)
        tensors = {**self.network.state_dict(), "known": self.known, "scale": scale}
        about = {"labels": len(self.known), "seed": str(self.seed), **self._identity()}
        write_weights(path, tensors, about, format=FORMAT)

    def load(self, path: Path) -> None:
        """Read what `save` wrote; the seed becomes that of what was saved, so that predictions are the same.

        Raises:
            UserError: if it cannot be read, or is of another space or config.
        """

        def expected(about: dict[str, object]) -> dict[str, Tensor]:
            if any(about[name] != value for name, value in self._identity().items()):
                raise UserError("it is of another space, or of an assessor with other numbers")
            int(str(about["seed"]))  # a number, or a refusal
            known = torch.empty(int(str(about["labels"])), *self._shape())
            network = AssessorNetwork(self._shape(), self.config)
            return {**network.state_dict(), "known": known, "scale": torch.empty(2, dtype=torch.float64)}

        about, tensors = read_weights(
            path,
            format=FORMAT,
            fields={"space": dict, "labels": int, "assessor": dict, "seed": str},
            expected=expected,
            refusal=lambda reason: f"{path} is no assessor of this space: {reason}",
        )
        self.seed, self.known, scale = int(about["seed"]), tensors.pop("known"), tensors.pop("scale").tolist()
        self.output = Standard(np.asarray([scale[0] - scale[1], scale[0] + scale[1]]))
        self.network = AssessorNetwork(self._shape(), self.config)
        self.network.load_state_dict(tensors)
        self.network.eval()

    def _identity(self) -> dict[str, Any]:
        """Return what a saved assessor must share with this one, as JSON gives it back."""
        return json.loads(json.dumps({"space": self.space.told_apart(), "assessor": asdict(self.config)}))

    def _sizes(self, others: int) -> tuple[int, int]:
        """Return how many nodes of a batch are labelled, and how many not."""
        labelled = min(len(self.known), self.config.batch_size // 2 if others else self.config.batch_size)
        return labelled, min(others, self.config.batch_size - labelled)

    def _fresh(self) -> AssessorNetwork:
        with torch.random.fork_rng([]):
            torch.manual_seed(derive_seed(self.seed, "assessor"))
            return AssessorNetwork(self._shape(), self.config)

    def _shape(self) -> tuple[int, int, int]:
        channels, rows, columns = self.space.matrix(self.space.sample(np.random.default_rng(0))).shape
        return channels, rows, columns

    def _matrices(self, architectures: Sequence[Architecture]) -> Tensor:
        return torch.from_numpy(np.stack([self.space.matrix(one) for one in architectures])).float()
