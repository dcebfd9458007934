"""Each place of an architecture as a bandit whose arms are its choices: counts, means, bounds, elimination.

Shapes: P places, K arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.evaluation.search.space import Architecture
from rlsuite.errors import require


class Arms:
    """What is known of all arms. Rewards lie in [0, 1].

    Args:
        sizes: the number of arms at each place.
        momentum: of a moving mean, m <- (1 - momentum) m + momentum a, whose first value is the first reward (0.7 in
            ABanditNAS, arXiv:2008.00698, and in BNAS's rule for 1-bit networks); None keeps plain means.

    Attributes:
        alive: (P, K) bool, arms not given up.
        counts: (P, K) how often each was tried.
        means: (P, K) of rewards; 0 where there was none.
        trials: N, in all.
    """

    def __init__(self, sizes: Sequence[int], *, momentum: float | None = None) -> None:
        require(max(sizes, default=0) >= 1, "a bandit needs an arm; give each place an operation")
        require(momentum is None or 0.0 < momentum <= 1.0, f"momentum={momentum}: use a share above 0, up to 1")
        self.momentum = momentum
        self.alive = np.arange(max(sizes))[None] < np.asarray(sizes)[:, None]
        self.counts = np.zeros(self.alive.shape, dtype=np.int64)
        self.means = np.zeros(self.alive.shape)
        self.trials = 0

    @property
    def left(self) -> int:
        """Arms alive at the place that has most."""
        return int(self.alive.sum(1).max())

    def update(self, path: Architecture, reward: float) -> None:
        """Give one reward to the arm that was tried at each place.

        Raises:
            UserError: if the reward is not in [0, 1]: bounds and softmax are made for these.
        """
        require(0.0 <= reward <= 1.0, f"reward={reward}: use rewards in [0, 1], such as accuracies as shares")
        place, arm = np.arange(len(path)), np.asarray(path)
        self.trials += 1
        self.counts[place, arm] += 1
        count, before = self.counts[place, arm], self.means[place, arm]
        share = 1.0 / count if self.momentum is None else np.where(count == 1, 1.0, self.momentum)
        self.means[place, arm] = before + share * (reward - before)

    def forget(self) -> None:
        """Begin means and counts anew, as rules do that judge every stage by itself. Arms given up stay so."""
        self.counts[:], self.means[:], self.trials = 0, 0.0, 0

    def bonus(self) -> np.ndarray:
        """Return sqrt(2 ln N / n) (P, K); infinite for arms never tried."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.sqrt(2.0 * np.log(max(self.trials, 1)) / self.counts, where=self.counts > 0, out=self._infinite())

    def upper(self) -> np.ndarray:
        """Return the upper confidence bounds (P, K)."""
        return self.means + self.bonus()

    def lower(self) -> np.ndarray:
        """Return the lower confidence bounds (P, K)."""
        return self.means - self.bonus()

    def eliminate(self, score: np.ndarray) -> np.ndarray:
        """Give up, at every place with more than one arm, the one with the lowest score (P, K); return `alive`.

        Of equal scores the arm with the lower mean goes, then the last one.
        """
        for place, row in enumerate(self.alive):
            arms = np.flatnonzero(row)
            if len(arms) > 1:
                worst = min(arms, key=lambda arm: (score[place, arm], self.means[place, arm], -arm))
                self.alive[place, worst] = False
        return self.alive

    def best(self, score: np.ndarray | None = None) -> Architecture:
        """Return the arm alive with the highest score (P, K) at each place; the means' where none is given."""
        values = np.where(self.alive, self.means if score is None else score, -np.inf)
        return tuple(values.argmax(1).tolist())

    def state_dict(self) -> dict[str, Any]:
        """Return everything, as plain data."""
        return {
            "alive": self.alive.tolist(),
            "counts": self.counts.tolist(),
            "means": self.means.tolist(),
            "trials": self.trials,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.alive = np.asarray(state["alive"], dtype=bool)
        self.counts = np.asarray(state["counts"], dtype=np.int64)
        self.means = np.asarray(state["means"], dtype=np.float64)
        self.trials = int(state["trials"])

    def _infinite(self) -> np.ndarray:
        return np.full(self.counts.shape, np.inf)


def trial_epochs(arms: int, tries: int, *, between: int = 0) -> int:
    """Return the epochs of giving up one arm after another: each stage of k arms trains `between` epochs and tries * k.

    ABanditNAS 9 arms, 3 tries: 132 (and 9 for first values); CP-NAS 8, 3: 105; BNAS 8, 3 and between=5: 140.
    """
    return sum(between + tries * left for left in range(2, arms + 1))
