"""What printed intervals promise, by simulation: 2,000 experiments each."""

import numpy as np
import pytest

from rlsuite.statistics.improvement import FEWEST_RUNS, exact_p_value, probability_of_improvement_interval
from rlsuite.statistics.means import mean_interval

EXPERIMENTS = 2_000
LAWS = {  # a draw of (n,) and the true mean
    "normal": (lambda generator, size: generator.normal(size=size), 0.0),
    "uniform": (lambda generator, size: generator.uniform(size=size), 0.5),
    "exponential": (lambda generator, size: generator.exponential(size=size), 1.0),
    "one in four learns": (lambda generator, size: (generator.random(size) < 0.25) + 0.0, 0.25),
}


def coverage(law, size, seed):
    """Return the share of experiments whose 95 % interval holds the true mean."""
    draw, truth = LAWS[law]
    generator = np.random.default_rng(seed)
    found = [mean_interval(draw(generator, size), resamples=2_000, seed=trial)[:2] for trial in range(EXPERIMENTS)]
    return np.mean([low <= truth <= high for low, high in found])


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3, 5, 10])
def test_interval_covers_what_its_label_says_of_normal_returns(size):
    assert coverage("normal", size, seed=size) == pytest.approx(0.95, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("law", "floor"), [("uniform", 0.89), ("exponential", 0.85), ("one in four learns", 0.35)])
def test_interval_of_skewed_returns_is_reported(law, floor):
    # Where none of two or three seeds has learned, nothing in them tells that one in four does: docs/statistics.md.
    found = {size: float(coverage(law, size, seed=size)) for size in (2, 3, 5, 10)}
    print(f"coverage of the 95 % interval, {law}: {found}")
    assert min(found.values()) > floor
    assert found[10] > 0.88


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runs", "others", "tasks"), [(4, 4, 1), (4, 5, 1), (5, 5, 1), (10, 10, 1), (4, 8, 2), (5, 5, 3)]
)
def test_improvement_of_equal_algorithms_is_rarely_claimed(runs, others, tasks):
    assert runs >= FEWEST_RUNS
    generator, apart, unlikely = np.random.default_rng(runs), 0, 0
    for _ in range(EXPERIMENTS):
        x, y = generator.normal(size=(runs, tasks)), generator.normal(size=(others, tasks))
        low, high = probability_of_improvement_interval(x, y)
        apart += not low <= 0.5 <= high
        unlikely += exact_p_value(x, y) < 0.05
    print(f"{runs} against {others} runs on {tasks} tasks: {apart / EXPERIMENTS:.3f}, {unlikely / EXPERIMENTS:.3f}")
    assert apart / EXPERIMENTS <= 0.06
    assert unlikely / EXPERIMENTS <= 0.06
