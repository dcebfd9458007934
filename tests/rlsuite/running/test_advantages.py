"""Generalized advantages by hand, and against the sum they abbreviate."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsuite.running.advantages import generalized_advantages


def columns(*rows):
    return torch.tensor(rows).T.contiguous()


def test_by_hand():
    """gamma 0.5, lambda 0.5; one environment running, one terminated and one truncated after its second step."""
    reward = columns([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    value = columns([4.0, 8.0, 2.0], [4.0, 8.0, 2.0], [4.0, 8.0, 2.0])
    next_value = columns([8.0, 2.0, 6.0], [8.0, 10.0, 6.0], [8.0, 10.0, 6.0])
    no, end = [False] * 3, [False, True, False]
    found = generalized_advantages(
        reward, value, next_value, columns(no, end, no), columns(no, end, end), discount=0.5, trace_decay=0.5
    )
    # delta running: 1 + 4 - 4 = 1; 2 + 1 - 8 = -5; 3 + 3 - 2 = 4. A_2 = 4, A_1 = -5 + 4/4, A_0 = 1 + A_1/4.
    torch.testing.assert_close(found[:, 0], torch.tensor([0.0, -4.0, 4.0]))
    # terminated: the second delta has no next value, 2 - 8 = -6, and nothing is carried over the end.
    torch.testing.assert_close(found[:, 1], torch.tensor([1.0 - 6.0 / 4, -6.0, 4.0]))
    # truncated: its next value counts, 2 + 5 - 8 = -1, but again nothing is carried over the end.
    torch.testing.assert_close(found[:, 2], torch.tensor([1.0 - 1.0 / 4, -1.0, 4.0]))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    steps=st.integers(1, 12),
    discount=st.floats(0.0, 1.0),
    trace_decay=st.floats(0.0, 1.0),
)
def test_equals_the_sum_of_deltas(seed, steps, discount, trace_decay):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda: torch.randn(steps, 3, generator=generator, dtype=torch.float64)  # noqa: E731
    reward, value, next_value = draw(), draw(), draw()
    terminated = torch.rand(steps, 3, generator=generator) < 0.2
    ended = terminated | (torch.rand(steps, 3, generator=generator) < 0.2)
    found = generalized_advantages(
        reward, value, next_value, terminated, ended, discount=discount, trace_decay=trace_decay
    )
    for env in range(3):
        for step in range(steps):
            total, weight = 0.0, 1.0
            for later in range(step, steps):
                kept = 0.0 if terminated[later, env] else discount
                delta = reward[later, env] + kept * next_value[later, env] - value[later, env]
                total += weight * float(delta)
                weight *= discount * trace_decay
                if ended[later, env]:
                    break
            assert float(found[step, env]) == pytest.approx(total, abs=1e-9)
