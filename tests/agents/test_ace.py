"""ACE: its choice by brute force, scoring, training with the ensemble, members from elsewhere."""

import pytest
import torch
from ddpg_reference import random_batch, transition
from safetensors.torch import load_file, save_file
from torch import nn
from toy_environments import ScriptedEnv

from agents.ace import ACE, ACEConfig, choose, standardize
from agents.actor_critic import ActorCritic
from rlsuite.errors import UserError
from rlsuite.nn.actors import ActorConfig
from rlsuite.nn.critics import CriticConfig
from rlsuite.nn.exploration import ExplorationConfig
from rlsuite.scoring import evaluate
from rlsuite.vector_env import EnvironmentFacts

LOW, HIGH = torch.tensor([-2.0, -1.0]), torch.tensor([2.0, 1.0])
SMALL = {
    "batch_size": 8,
    "normalize_observations": False,
    "precision": "float32",  # the references are computed so
    "actor": ActorConfig(hidden_sizes=(8,)),
    "critic": CriticConfig(hidden_sizes=(8,)),
}


def make(seed=0, num_envs=2, cls=ACE, **keys):
    config = cls.Config(**(SMALL | keys))
    return cls(EnvironmentFacts.of_vectors(3, LOW, HIGH, num_envs=num_envs), config, seed=seed)


def batch_of(agent, seed):
    return random_batch(agent.sample_size, 3, LOW, HIGH, seed=seed)


def greedy_by_loop(agent, observation, actors, critics):
    """Choose row by row and critic by critic, as the paper writes it; return actions, scores and choices."""
    rows, all_scores, picks = [], [], []
    for row in observation:
        stacked = row.expand(agent.config.num_pairs, 1, -1)
        proposals = [agent.actors(stacked)[n, 0] for n in range(actors)]
        scores = []
        for proposal in proposals:
            inputs = torch.cat([row, proposal]).expand(agent.config.num_pairs, 1, -1)
            scores.append(sum(agent.critics(inputs)[m, 0, 0].item() for m in range(critics)) / critics)
        best = max(range(actors), key=lambda n: (scores[n], -n))  # ties: the lowest index
        rows.append(agent.action_range.to_environment(proposals[best]))
        all_scores.append(scores)
        picks.append(best)
    return torch.stack(rows), torch.tensor(all_scores).T, torch.tensor(picks)


# -- voting, by hand -----------------------------------------------------------------------------------------


class Quadratic(nn.Module):
    """Q_j(s, a) = -|a - c_j(s)|^2 with known centers: replaces the critics' network."""

    def __init__(self, num_members):
        super().__init__()
        self.matrix = torch.randn(num_members, 3, 2)

    def forward(self, inputs, members=None):
        matrix = self.matrix if members is None else self.matrix[members]
        center = torch.tanh(inputs[..., :3] @ matrix)
        return -(inputs[..., 3:] - center).square().sum(-1, keepdim=True)


@pytest.mark.parametrize(("actors", "critics"), [(0, -1), (5, 1), (3, 2), (2, 5)])
@torch.no_grad()
def test_on_a_known_quadratic_the_choice_equals_brute_force(actors, critics):
    agent = make(num_actors=actors, num_scoring_critics=critics)
    agent.critics.network = Quadratic(5)
    observation = torch.randn(64, 3)
    num_actors, num_critics = actors or 5, 5 if critics < 0 else critics
    center = torch.tanh(observation @ agent.critics.network.matrix[:num_critics])  # (M, R, A)
    proposals = agent.propose(observation, False)[:num_actors]
    scores = -(proposals[None] - center[:, None]).square().sum(-1).mean(0)  # (N, R)
    expected = agent.action_range.to_environment(proposals[scores.argmax(0), torch.arange(64)])
    assert torch.equal(agent.act(observation, False), expected)
    assert len(scores.argmax(0).unique()) > 1  # the choice is not always the same actor


@pytest.mark.parametrize("rows", [1, 2, 7, 33, 300])
@pytest.mark.parametrize("num_actors", [2, 5, 10])
def test_ties_take_the_lowest_index(rows, num_actors):
    proposals = torch.arange(float(num_actors)).view(-1, 1, 1).expand(-1, rows, 1)
    assert not choose(proposals, torch.zeros(num_actors, rows)).any()
    scores = torch.zeros(num_actors, rows)
    scores[0] = -1.0
    assert (choose(proposals, scores) == 1.0).all()


@pytest.mark.parametrize(("actors", "critics"), [(5, 5), (3, 2), (4, 1)])
@torch.no_grad()
def test_batched_and_looped_scoring_agree(actors, critics):
    agent = make(num_actors=actors, num_scoring_critics=critics)
    observation = torch.randn(20, 3)
    expected, expected_scores, picks = greedy_by_loop(agent, observation, actors, critics)
    scores = agent.mean_scores(observation, agent.propose(observation, False)[:actors], critics)
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=1e-6)
    torch.testing.assert_close(agent.act(observation, False), expected, rtol=0, atol=1e-6)
    assert torch.equal(scores.argmax(0), picks)


@pytest.mark.parametrize("collect_with", ["members", "ensemble"])
def test_one_pair_reproduces_ddpg_bit_for_bit_over_a_training(collect_with):
    keys = {"normalize_observations": True, "exploration": ExplorationConfig(std=0.3)}
    ddpg = make(cls=ActorCritic, **keys)
    ace = make(num_pairs=1, collect_with=collect_with, **keys)
    for step in range(30):
        observation = torch.randn(2, 3, generator=torch.Generator().manual_seed(step))
        for agent in (ddpg, ace):
            agent.observe(transition(observation, terminated=torch.tensor([False, step % 5 == 0])))
        assert torch.equal(ddpg.act(observation, True), ace.act(observation, True))
        assert torch.equal(ddpg.act(observation, False), ace.act(observation, False))
        one, two = ddpg.update(batch_of(ddpg, step)), ace.update(batch_of(ace, step))
        assert all(torch.equal(value, two[name]) for name, value in one.items())
    own = ace.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in ddpg.state_dict().items())


# -- AxCy and scores ------------------------------------------------------------------------------------------


def test_no_critics_means_the_first_actor_alone():
    agent = make(num_scoring_critics=0)
    observation = torch.randn(9, 3)
    assert torch.equal(
        agent.act(observation, False), agent.action_range.to_environment(agent.propose(observation, False)[0])
    )
    assert agent.diagnostics() == {}


def test_act_with_targets_proposes_and_scores_with_targets():
    agent = make(act_with_targets=True)
    for network in (agent.target_actors, agent.target_critics):
        for parameter in network.parameters():
            parameter.data.normal_(0.0, 0.5)
    twin = make()
    twin.actors.load_state_dict(agent.target_actors.state_dict())
    twin.critics.load_state_dict(agent.target_critics.state_dict())
    observation = torch.randn(40, 3)
    assert torch.equal(agent.act(observation, False), twin.act(observation, False))


def test_twin_critics_score_with_the_smaller_of_a_pair():
    agent = make(num_critics=2, num_pairs=3)
    inputs = torch.randn(3, 6, 5)
    values = agent.critics(inputs.repeat_interleave(2, dim=0))[..., 0]
    expected = torch.stack([values[2 * pair : 2 * pair + 2].amin(0) for pair in range(3)])
    torch.testing.assert_close(agent.pair_values(inputs, agent.critics), expected)
    torch.testing.assert_close(agent.pair_values(inputs[:2], agent.critics), expected[:2])


def test_standardize_by_hand():
    scores = torch.tensor([[[1.0, 5.0], [3.0, 5.0]], [[100.0, 0.0], [300.0, -2.0]]])  # (M=2, N=2, R=2)
    expected = [[[-1.0, 0.0], [1.0, 0.0]], [[-1.0, 1.0], [1.0, -1.0]]]
    assert standardize(scores).tolist() == expected


@torch.no_grad()
def test_normalize_scores_gives_every_critic_the_same_say():
    agent = make(num_pairs=3)
    observation = torch.randn(50, 3)
    scaled = make(num_pairs=3, normalize_scores=True)
    scaled.load_state_dict(agent.state_dict())
    before = scaled.act(observation, False)
    scaled.critics.network.layers[-1].weight.data[0] *= 1000.0  # critic 0 on another scale
    scaled.critics.network.layers[-1].bias.data[0] *= 1000.0
    torch.testing.assert_close(scaled.act(observation, False), before)
    agent.load_state_dict(scaled.state_dict())
    assert not torch.allclose(agent.act(observation, False), before)  # without it critic 0 decides alone


def test_diagnostics_count_choices_and_margins_since_the_last_call():
    agent = make()
    assert agent.diagnostics() == {}
    observation = torch.randn(30, 3)
    _, scores, picks = greedy_by_loop(agent, observation, 5, 5)
    agent.act(observation[:20], False)
    agent.act(observation[20:], False)
    found = agent.diagnostics()
    counts = torch.bincount(picks, minlength=5)
    assert torch.bincount(found["chosen_actor"], minlength=5).tolist() == counts.tolist()
    shares = [found[f"chosen_share_{place}"].item() for place in range(5)]
    assert shares == pytest.approx((counts / 30).tolist())
    best = scores.sort(dim=0, descending=True).values
    assert found["score_margin"].item() == pytest.approx((best[0] - best[1]).mean().item(), abs=1e-6)
    assert agent.diagnostics() == {}


def test_decisions_after_an_episodes_end_are_not_counted():
    agent = make()
    observation = torch.randn(40, 3)
    _, scores, picks = greedy_by_loop(agent, observation, 5, 5)
    running = torch.arange(40) < 10
    agent.count_only(running)
    agent.act(observation, False)
    agent.count_only(None)
    found = agent.diagnostics()
    counts = torch.bincount(picks[:10], minlength=5)
    assert torch.bincount(found["chosen_actor"], minlength=5).tolist() == counts.tolist()
    assert [found[f"chosen_share_{place}"].item() for place in range(5)] == pytest.approx((counts / 10).tolist())
    best = scores[:, :10].sort(dim=0, descending=True).values
    assert found["score_margin"].item() == pytest.approx((best[0] - best[1]).mean().item(), abs=1e-6)
    agent.act(observation, False)
    assert len(agent.diagnostics()["chosen_actor"]) == 40


def test_an_evaluation_counts_choices_within_episodes_alone():
    # Environment 0 ends after its first step; afterwards only environment 1 counts.
    env = ScriptedEnv([[0.0, 0.0]] * 9, [[True, False]] + [[False, step == 7] for step in range(8)], [[False] * 2] * 9)
    agent = ACE(EnvironmentFacts.of(env), ACE.Config(**SMALL))
    evaluate(lambda observation: agent.act(observation, False), env, seed=0, count_only=agent.count_only)
    assert len(agent.diagnostics()["chosen_actor"]) == 1 + 9
    assert agent.counted is None


def test_collecting_with_the_ensemble_is_its_choice_with_noise():
    agent = make(collect_with="ensemble", exploration=ExplorationConfig(std=0.0))
    observation = torch.randn(2, 3)
    assert torch.equal(agent.act(observation, True), agent.act(observation, False))
    noisy = make(collect_with="ensemble", num_envs=2000, exploration=ExplorationConfig(std=0.01))
    many = observation[:1].expand(2000, -1)
    difference = (noisy.act(many, True) - noisy.act(many, False)) / noisy.action_range.half_range
    assert difference.std().item() == pytest.approx(0.01, rel=0.1)


# -- training with the ensemble ---------------------------------------------------------------------------


def ensemble_agent(**keys):
    agent = make(num_pairs=3, train_with_ensemble=True, **keys)
    for network in (agent.target_actors, agent.target_critics):  # away from the networks they copy
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    return agent


@torch.no_grad()
def test_critics_bootstrap_from_the_ensembles_choice_by_brute_force():
    agent = ensemble_agent()
    following = torch.randn(3, 8, 3)
    chosen = agent.bootstrap_action(following)[0]
    for pair in range(3):
        for row in range(8):
            state = following[pair, row].expand(3, 1, -1)
            proposals = agent.target_actors(state)[:, 0]
            scores = [
                agent.target_critics(torch.cat([following[pair, row], proposal]).expand(3, 1, -1)).mean().item()
                for proposal in proposals
            ]
            best = proposals[scores.index(max(scores))]
            torch.testing.assert_close(chosen[pair, row], best)


@torch.no_grad()
def test_the_ensembles_choice_is_scored_in_the_updates_precision():
    agent, seen = ensemble_agent(precision="bfloat16"), []
    agent.target_critics.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))
    agent.bootstrap_action(torch.randn(3, 8, 3).bfloat16())
    assert seen == [torch.bfloat16]


@torch.no_grad()
def test_exploring_proposals_are_scored_by_the_critics_of_their_actors():
    agent = ensemble_agent(act_with_targets=True)
    observation = torch.randn(8, 3)
    for explore, critics in ((True, agent.critics), (False, agent.target_critics)):
        proposals, scores = agent.propose(observation, explore), agent.decide(observation, explore)[1]
        rows = torch.cat([observation.expand(3, -1, -1), proposals], dim=-1)
        expected = torch.stack([critics(row.expand(3, -1, -1)).squeeze(-1).mean(0) for row in rows])
        torch.testing.assert_close(scores, expected)


@torch.no_grad()
@pytest.mark.parametrize(
    "keys",
    [{"num_critics": 2}, {"num_actors": 2}, {"num_scoring_critics": 2}, {"normalize_scores": True}],
    ids=["twins", "A2C3", "A3C2", "standardized"],
)
def test_critics_bootstrap_from_what_the_ensemble_would_do(keys):
    agent = ensemble_agent(**keys)
    acting = make(num_pairs=3, act_with_targets=True, **keys)
    acting.load_state_dict(agent.state_dict())
    following = torch.randn(3, 40, 3)
    chosen = agent.bootstrap_action(following)[0].flatten(0, 1)
    torch.testing.assert_close(acting.action_range.to_environment(chosen), acting.act(following.flatten(0, 1), False))


def test_actors_ascend_the_mean_of_all_critics_by_brute_force():
    agent = ensemble_agent(actor_learning_rate=1e-30, critic_learning_rate=1e-30)
    batch = batch_of(agent, 5)
    agent.update(batch)
    rows = batch.observation.unflatten(0, (3, 8))
    for pair in range(3):
        action = agent.actors(rows)[pair]
        values = [agent.critics(torch.cat([rows[pair], action], -1).expand(3, -1, -1))[member] for member in range(3)]
        loss = -torch.stack(values).mean()  # over critics and over the batch
        expected = torch.autograd.grad(loss, agent.actor_parameters)
        for parameter, gradient in zip(agent.actor_parameters, expected, strict=True):
            torch.testing.assert_close(parameter.grad[pair], gradient[pair], rtol=1e-4, atol=1e-6)


def test_without_the_option_each_actor_ascends_its_own_critic():
    agent = make(num_pairs=3, actor_learning_rate=1e-30, critic_learning_rate=1e-30)
    batch = batch_of(agent, 5)
    agent.update(batch)
    rows = batch.observation.unflatten(0, (3, 8))
    loss = -agent.critics(torch.cat([rows, agent.actors(rows)], -1)).mean(1).sum()
    for parameter, gradient in zip(
        agent.actor_parameters, torch.autograd.grad(loss, agent.actor_parameters), strict=True
    ):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_target_noise_counts_also_with_the_ensemble():
    agent = ensemble_agent(target_noise=0.5)
    following = torch.randn(3, 8, 3)
    assert not torch.equal(agent.bootstrap_action(following)[0], agent.bootstrap_action(following)[0])


# -- members from elsewhere -------------------------------------------------------------------------------


@torch.enable_grad()
def trained(seed, cls=ActorCritic, pairs=1, **keys):
    agent = make(seed=seed, cls=cls, num_pairs=pairs, normalize_observations=True, **keys)
    agent.normalizer.update(torch.randn(40, 3, generator=torch.Generator().manual_seed(seed)) * (seed + 1))
    agent.update(batch_of(agent, seed))
    return agent


def ensemble_config(pairs, **keys):
    return ACEConfig(**(SMALL | {"normalize_observations": True, "num_pairs": pairs} | keys))


@torch.no_grad()
def test_members_keep_their_own_normalizers_proposals_and_scores():
    members = [trained(1), trained(2), trained(3, cls=ACE, pairs=2)]
    ensemble = ACE.from_members(members, ensemble_config(4))
    observation = torch.randn(11, 3) * 2.0
    proposals = ensemble.propose(observation, False)
    own = torch.cat([member.propose(observation, False) for member in members])
    torch.testing.assert_close(proposals, own)
    scores = ensemble.mean_scores(observation, proposals, 4)
    by_hand = torch.zeros(4, 11)
    for member in members:
        for pair in range(member.config.num_pairs):
            for number, proposal in enumerate(proposals):
                rows = torch.cat([member.normalize(observation), proposal], -1)
                by_hand[number] += member.critics(rows.expand(member.config.num_pairs, -1, -1))[pair, :, 0] / 4
    torch.testing.assert_close(scores, by_hand)
    expected = ensemble.action_range.to_environment(own[by_hand.argmax(0), torch.arange(11)])
    torch.testing.assert_close(ensemble.act(observation, False), expected)


@torch.no_grad()
def test_an_ensemble_of_one_member_acts_as_the_member():
    member = trained(4)
    ensemble = ACE.from_members([member], ensemble_config(1))
    observation = torch.randn(6, 3)
    assert torch.equal(ensemble.act(observation, False), member.act(observation, False))


def test_an_ensemble_travels_through_safetensors(tmp_path):
    ensemble = ACE.from_members([trained(1), trained(2)], ensemble_config(2))
    save_file(ensemble.state_dict(), tmp_path / "agent.safetensors")
    other = ACE.from_members([trained(5), trained(6)], ensemble_config(2))
    other.load_state_dict(load_file(tmp_path / "agent.safetensors"))
    observation = torch.randn(6, 3)
    assert torch.equal(ensemble.act(observation, False), other.act(observation, False))


@pytest.mark.parametrize(
    "members",
    [
        lambda: [trained(1), trained(2), trained(3)],  # more pairs than the config says
        lambda: [trained(1), trained(2, actor=ActorConfig(hidden_sizes=(9,)))],
        lambda: [trained(1), ActorCritic(EnvironmentFacts.of_vectors(3, LOW * 2, HIGH * 2), trained(2).config)],
        list,
    ],
    ids=["count", "sizes", "bounds", "none"],
)
def test_members_that_do_not_fit_are_refused(members):
    with pytest.raises(UserError):
        ACE.from_members(members(), ensemble_config(2))


# -- state and config -------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["plain", "batch_norm"])
def test_state_dict_through_safetensors_keeps_acting_and_exploring_identical(tmp_path, block):
    keys = {
        "normalize_observations": True,
        "collect_with": "ensemble",
        "critic": CriticConfig(hidden_sizes=(8,), block=block),
        "exploration": ExplorationConfig(hold=2, decision_decay=0.9),
    }
    first = make(**keys)
    for step in range(3):
        first.act(torch.randn(2, 3), True)
        first.observe(transition(torch.randn(2, 3), truncated=torch.tensor([step == 1, False])))
        first.update(batch_of(first, step))
    save_file(first.state_dict(), tmp_path / "agent.safetensors")
    second = make(seed=5, **keys)
    second.load_state_dict(load_file(tmp_path / "agent.safetensors"))
    for step in range(6):
        observation = torch.randn(2, 3)
        assert torch.equal(first.act(observation, False), second.act(observation, False))
        assert torch.equal(first.act(observation, True), second.act(observation, True))
        for agent in (first, second):
            agent.observe(transition(observation, truncated=torch.tensor([False, step == 2])))


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_actors", 6), ("num_actors", -1), ("num_scoring_critics", 6), ("num_scoring_critics", -2),
     ("collect_with", "nobody"), ("num_pairs", 0)],
)  # fmt: skip
def test_values_out_of_range_are_refused_by_name(key, value):
    with pytest.raises(UserError, match=rf"^agent\.{key}={value}: use "):
        ACEConfig(**{key: value})


def test_the_paper_preset_is_the_paper_to_the_letter():
    from rlsuite.config.compose import compose_train

    config, _ = compose_train(["agent=ace", "preset=paper"])
    agent = config.agent
    assert (agent.actor.hidden_sizes, agent.actor.activation) == ((800, 400), "selu")
    assert (agent.critic.hidden_sizes, agent.critic.layout, agent.critic.activation) == ((800, 400), "branches", "selu")
    assert agent.actor.initialization == agent.critic.initialization == "normal"
    assert (agent.critic.block, agent.critic.loss, agent.actor.layer_norm) == ("plain", "squared_error", False)
    assert not agent.normalize_observations
    assert (agent.batch_size, agent.discount, agent.target_rate) == (128, 0.96, 0.001)
    assert (agent.actor_learning_rate, agent.critic_learning_rate, agent.critic_weight_decay) == (3e-4, 3e-4, 0.0)
    noise = agent.exploration
    # 0.5 on actions in [0, 1] is 1.0 in half ranges.
    assert (noise.std, noise.hold, noise.decision_decay, noise.episode_decay) == (1.0, 5, 0.98, 0.999)
    assert noise.episode_multipliers == (1.0, 2.0, 0.0)
    assert (agent.num_pairs, agent.num_actors, agent.num_scoring_critics) == (10, 0, -1)  # A10C10
    assert not agent.train_with_ensemble
    assert not agent.normalize_scores
    assert agent.act_with_targets
    assert (agent.collect_with, agent.reward_scale) == ("members", 1.0)
    assert (agent.num_critics, agent.policy_delay, agent.target_noise) == (1, 1, 0.0)
    assert (agent.bootstrap_from, agent.embedding.size) == ("pair", 0)
    assert (config.replay.capacity, config.replay.n_step, config.replay.prioritized) == (2_000_000, 1, False)
    assert config.replay.timelimit_as_done
    assert (config.updates_per_episode, config.warmup_episodes, config.train_ratio) == (100, 50, 0.0)


def test_members_whose_scores_differ_in_scale_need_standardizing():
    plain, larger = make(cls=ActorCritic), make(cls=ActorCritic, reward_scale=100.0)
    two = {**SMALL, "num_pairs": 2}
    with pytest.raises(UserError, match=r"differ in agent\.reward_scale.*add normalize_scores=true"):
        ACE.from_members([plain, larger], ACEConfig(**two))
    ACE.from_members([plain, larger], ACEConfig(**two, normalize_scores=True))
    scaled = [make(cls=ActorCritic, seed=seed, reward_scaling="returns") for seed in range(2)]
    with pytest.raises(UserError, match="a scale of their own"):
        ACE.from_members(scaled, ACEConfig(**two))


@pytest.mark.parametrize("multipliers", [(1.0,), (1.0, 2.0, 0.0)])
@pytest.mark.parametrize("pairs", [2, 3])
def test_every_pair_meets_every_environment_and_noise_level(pairs, multipliers):
    """Episodes of equal length, eight environments: pair, environment and level in every combination, equally often."""
    noise = ExplorationConfig(episode_multipliers=multipliers, std=0.0)
    agent, met = make(num_pairs=pairs, num_envs=8, exploration=noise), {}
    asked = []
    agent.propose = lambda observation, explore: (
        asked.append(None) or torch.arange(float(pairs)).view(-1, 1, 1).expand(pairs, 8, 2)
    )
    agent.action_range.to_environment, agent.exploration.forward = lambda action: action, lambda action: action
    rounds = 2 * pairs * pairs * len(multipliers)
    for _ in range(rounds):
        pair = agent.act(torch.zeros(8, 3), True)[:, 0].long()
        level = agent.exploration.episode % len(multipliers)
        for environment in range(8):
            key = (int(pair[environment]), environment, int(level[environment]))
            met[key] = met.get(key, 0) + 1
        agent.exploration.advance(torch.ones(8, dtype=torch.bool))
    assert len(met) == pairs * 8 * len(multipliers)
    assert set(met.values()) == {rounds // (pairs * len(multipliers))}
