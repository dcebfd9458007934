"""The seed tree, and random streams that change their device."""

import torch

from rlsuite.running.seeding import JUDGED_ON, WATCHED_ON, derive_seed, restore_generator


def test_purposes_and_seeds_have_streams_of_their_own():
    seeds = {derive_seed(seed, purpose) for seed in range(20) for purpose in ("agent", "environment", "replay")}
    assert len(seeds) == 60
    assert derive_seed(3, "agent") == derive_seed(3, "agent")


def test_a_state_of_the_same_kind_continues_and_one_of_another_kind_starts_a_reproducible_stream():
    source = torch.Generator().manual_seed(1)
    torch.rand(5, generator=source)
    copy = torch.Generator()
    restore_generator(copy, source.get_state())
    assert torch.equal(torch.rand(3, generator=copy), torch.rand(3, generator=source))
    # CUDA generators have 16 bytes of state.
    found = []
    for last in (1, 1, 2):
        other = torch.Generator()
        restore_generator(other, torch.tensor([0] * 15 + [last], dtype=torch.uint8))
        found.append(torch.rand(3, generator=other))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_finished_agents_are_judged_on_another_branch_than_their_curves():
    watched = {derive_seed(seed, WATCHED_ON) for seed in range(1_000)}
    assert not watched & {derive_seed(seed, JUDGED_ON) for seed in range(1_000)}
    assert derive_seed(0, WATCHED_ON) == derive_seed(0, "evaluation")  # curves meet the starts they always met
