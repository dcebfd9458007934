import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsuite.replay.buffer import ReplayBuffer, Transition, forecast_bytes


@settings(max_examples=60, deadline=None)
@given(
    num_envs=st.integers(1, 3),
    capacity=st.integers(4, 30),
    steps=st.integers(1, 60),
    mean_length=st.integers(1, 8),
    interrupt=st.integers(0, 60),
    seed=st.integers(0, 1000),
)
def test_batches_equal_those_of_a_ring_that_stores_everything(num_envs, capacity, steps, mean_length, interrupt, seed):
    random = torch.Generator().manual_seed(seed)

    def fresh():
        return torch.randint(0, 256, (num_envs, 5), generator=random, dtype=torch.uint8)

    action = torch.zeros(num_envs, 1)
    whole = ReplayBuffer(capacity, fresh(), action, device="cpu")
    split = ReplayBuffer(capacity, fresh(), action, device="cpu", constant_columns=3)
    observation = fresh()
    for step in range(steps):
        following = torch.cat([fresh()[:, :2], observation[:, 2:]], dim=1)
        ended = torch.rand(num_envs, generator=random) < 1 / mean_length
        no = torch.zeros(num_envs, dtype=torch.bool)
        for buffer in (whole, split):
            buffer.add(Transition(observation, action, torch.zeros(num_envs), ended, no, following, no))
        observation = torch.where(ended.unsqueeze(1), fresh(), following)
        if step == interrupt:
            whole.mark_interrupted()
            split.mark_interrupted()
            observation = fresh()
        if step == steps // 2:  # saved and loaded
            loaded = ReplayBuffer(capacity, fresh(), action, device="cpu", constant_columns=3)
            loaded.load_state({name: value.clone() for name, value in split.state().items()})
            split = loaded
        index = whole.flat_index(
            torch.arange(whole.count).repeat_interleave(num_envs), torch.arange(num_envs).repeat(whole.count)
        )
        assert torch.equal(split.observation_at(index), whole.observation_at(index))
        assert torch.equal(split.next_observation_at(index), whole.next_observation_at(index))


def test_the_papers_replay_takes_a_quarter_of_storing_both_pictures_twice():
    pixels = 3 * 128 * 128
    observation, action = torch.zeros(1, 2 * pixels + 1, dtype=torch.uint8), torch.zeros(1, 65)
    needed = forecast_bytes(32_000, 1, observation, action, constant_columns=pixels)
    assert needed < 1.61e9  # the paper: 7.3 GB in the official code, 1.6 GB where the next canvas is the next entry
