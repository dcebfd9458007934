"""NCP: the predictor's parts, editing by hand, tables by their columns' names, and the search as a transform."""

import numpy as np
import pytest
import torch
from judged import classifier

from envs.evaluation import recipe
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.search.metric_table import MetricTable, read_metrics, scored_table
from envs.evaluation.search.ncp import (
    NCP,
    CodePredictor,
    EditConfig,
    NCPConfig,
    PredictorConfig,
    PredictorNetwork,
    propagate,
    select,
)
from envs.evaluation.search.spaces.code import ActorConfig, ActorSpace, EncoderConfig, EncoderSpace
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import Method
from rlsuite.optim.choice import OptimizerConfig

SPACE = EncoderSpace(EncoderConfig(stages=3, blocks=4, smallest=8, largest=128), channels=1, size=16, outputs=4)
QUICK = PredictorConfig(hidden_sizes=(32, 16), epochs=60, batch_size=64, dropout=0.2)


def sample(count, seed=0):
    rng = np.random.default_rng(seed)
    return list(dict.fromkeys(SPACE.sample(rng) for _ in range(2 * count)))[:count]


def fitted(sign=1.0, seed=0, field="width1"):
    """A predictor of a figure that grows (or falls) with one field."""
    tried = sample(120)
    scores = np.array([sign * SPACE.values(one)[field] + 0.5 * SPACE.values(one)["blocks3"] for one in tried])
    predictor = CodePredictor(SPACE, QUICK, seed=seed)
    predictor.fit(tried, scores)
    return predictor


def test_the_network_has_the_authors_layers_and_costs_without_dropout():
    network = PredictorNetwork(27, [(1, False), (2, True)], PredictorConfig())
    kinds = [type(layer).__name__ for layer in network.trunk]
    assert kinds == ["BatchNorm1d", "Linear", "BatchNorm1d", "SiLU", "Dropout"]
    assert [head[3].p for head in network.heads] == [0.5, 0.0]
    assert network.trunk[1].weight.shape == (256, 27)
    assert network.heads[1][0].weight.shape == (128, 256)
    assert network.eval()(torch.randn(3, 27)).shape == (3, 3)


def test_it_learns_figures_and_says_how_well():
    predictor = CodePredictor(SPACE, QUICK, seed=0)
    tried = sample(150)
    found = predictor.fit_table(
        scored_table(SPACE, tried, np.array([float(SPACE.values(one)["width2"]) for one in tried]))
    )
    assert predictor.names == ["score", "macs", "parameters"]
    assert found.tau > 0.6
    assert found.errors["score"] < 20.0  # of a width between 8 and 128, whose mean distance to its mean is 32
    asked = sample(80, seed=5)
    told = predictor.figures(asked)
    macs = np.array([SPACE.cost(one)["macs"] for one in asked])
    assert np.corrcoef(told["macs"], macs)[0, 1] > 0.8
    assert np.array_equal(told["score"], predictor.predict(asked))
    assert not predictor.network.training


def test_equal_seeds_give_equal_predictors():
    asked = sample(10, seed=9)
    assert np.array_equal(fitted(seed=1).predict(asked), fitted(seed=1).predict(asked))
    assert not np.array_equal(fitted(seed=1).predict(asked), fitted(seed=2).predict(asked))


def test_too_few_codes_to_learn_from_are_refused():
    two = sample(2)
    with pytest.raises(UserError, match="2 codes, 1 of them held out"):
        CodePredictor(SPACE, QUICK, seed=0).fit(two, np.array([1.0, 2.0]))
    three = sample(3)
    predictor = CodePredictor(SPACE, QUICK, seed=0)
    predictor.fit(three, np.array([1.0, 2.0, 3.0]))
    assert np.isfinite(predictor.predict(three)).all()
    greedy = PredictorConfig(epochs=1, held_out=0.9)
    with pytest.raises(UserError, match=r"4 codes, 4 of them held out.*smaller held_out"):
        CodePredictor(SPACE, greedy, seed=0).fit(sample(4), np.arange(4.0))
    with pytest.raises(UserError, match="batch_size=1: use 2 or more"):
        PredictorConfig(batch_size=1)


def test_any_rise_above_nothing_gives_the_same_codes():
    predictor = fitted()
    small, large, none = (
        [edit.architecture for edit in propagate([predictor], SPACE.middle(), EditConfig(steps=5, up=up))]
        for up in (0.1, 5.0, 0.0)
    )
    assert small == large
    assert none == [none[0]] * 5 != small


def test_editing_without_a_rate_stays_where_it_began():
    start = sample(1, seed=3)[0]
    edits = propagate([fitted()], SPACE.encode(start), EditConfig(steps=5, rate=0.0))
    assert [edit.architecture for edit in edits] == [start] * 5


def test_editing_climbs_and_stays_legal():
    predictor = fitted()
    edits = propagate([predictor], SPACE.middle(), EditConfig(steps=70))
    assert len(edits) == 70
    for edit in edits:
        assert SPACE.check(edit.architecture) == edit.architecture
        assert edit.cost == SPACE.cost(edit.architecture)
    assert SPACE.values(edits[-1].architecture)["width1"] > 100
    best = select([predictor], edits)
    assert best is not None
    assert best.predicted[0] == max(edit.predicted[0] for edit in edits)
    assert select([predictor], edits, lambda edit: edit.cost["macs"] < 1) is None


def test_a_step_by_hand():
    """z - rate * d/dz |y - (y + 0.1)| = z + rate * dy/dz; with a cost z also falls by its gradient's half."""
    predictor = fitted()
    z = torch.from_numpy(predictor.inputs.apply(SPACE.middle())).float().requires_grad_(True)
    found = predictor.network(z[None])[0]
    up = torch.autograd.grad(found[predictor.names.index("score")], z, retain_graph=True)[0]
    down = torch.autograd.grad(found[predictor.names.index("macs")], z)[0]
    for weight in (0.0, 0.5):
        moved = z.detach() + 0.7 * (up - weight * down)
        wanted = SPACE.decode(SPACE.clip(predictor.inputs.undo(moved.double().numpy())))
        (edit,) = propagate([predictor], SPACE.middle(), EditConfig(steps=1, rate=0.7, cost_weight=weight))
        assert edit.architecture == wanted


def test_a_cost_makes_smaller_networks():
    predictor = fitted()
    plain, cheap = (
        propagate([predictor], SPACE.middle(), EditConfig(steps=40, cost_weight=weight))[-1] for weight in (0.0, 2.0)
    )
    assert cheap.cost["macs"] < plain.cost["macs"]


def test_joint_editing_sums_the_tasks_losses():
    grows, falls, other = fitted(1.0), fitted(-1.0, seed=1), fitted(1.0, seed=2, field="width2")
    z = torch.from_numpy(grows.inputs.apply(SPACE.middle())).float().requires_grad_(True)
    pull = [torch.autograd.grad(one.network(z[None])[0, 0], z)[0] for one in (grows, falls)]
    moved = z.detach() + 0.7 * (2.0 * pull[0] + 0.5 * pull[1])
    (edit,) = propagate([grows, falls], SPACE.middle(), EditConfig(steps=1, rate=0.7), (2.0, 0.5))
    assert edit.architecture == SPACE.decode(SPACE.clip(grows.inputs.undo(moved.double().numpy())))
    assert edit.predicted == (grows.predict([edit.architecture])[0], falls.predict([edit.architecture])[0])
    wide, narrow = (
        SPACE.values(propagate([grows, falls], SPACE.middle(), EditConfig(steps=40), shares)[-1].architecture)["width1"]
        for shares in ((1.0, 0.05), (0.05, 1.0))
    )
    assert narrow < 30 < 100 < wide
    both = SPACE.values(propagate([grows, other], SPACE.middle(), EditConfig(steps=40))[-1].architecture)
    assert min(both["width1"], both["width2"]) > 90


def write_table(path, change=lambda rows: rows):
    rows = [["top1", "width1", "blocks1", "macs", "blocks2", "width2"]]
    rows += [["71.5", "8", "1", "1e6", "2", "24"], ["80.25", "32", "3", "3e6", "1", "8"]]
    path.write_text("\n".join(",".join(row) for row in change(rows)) + "\n")


def test_tables_are_read_by_the_names_of_their_columns(tmp_path):
    space = EncoderSpace(EncoderConfig(stages=2, blocks=3, smallest=8, largest=32), channels=1, size=8, outputs=2)
    write_table(tmp_path / "table.csv")
    table = read_metrics(tmp_path / "table.csv", space, main="top1", cost="macs")
    assert [space.values(one)["width2"] for one in table.architectures] == [24, 8]
    assert table.values(["macs", "top1"]).tolist() == [[1e6, 71.5], [3e6, 80.25]]

    def cell(row, column, text):
        return lambda rows: [
            [text if (r, c) == (row, column) else value for c, value in enumerate(values)]
            for r, values in enumerate(rows)
        ]

    for change, message in (
        (cell(0, 1, "width"), "no column 'width1'"),
        (cell(1, 1, "9"), "no code of encoder"),
        (cell(1, 1, "8.9"), "line 2, width1: 8.9 is no whole number"),
        (cell(1, 0, "nan"), "no finite number"),
        (cell(2, 4, "x"), "no finite number"),
        (lambda rows: [*rows, rows[1]], "stands there twice"),
        (lambda rows: rows[:1], "no line below"),
        (lambda rows: rows[:2], "needs 2 or more"),
    ):
        write_table(tmp_path / "wrong.csv", change)
        with pytest.raises(UserError, match=message):
            read_metrics(tmp_path / "wrong.csv", space, main="top1", cost="macs")
    with pytest.raises(UserError, match="no column 'top5'"):
        read_metrics(tmp_path / "table.csv", space, main="top5")
    with pytest.raises(UserError):
        read_metrics(tmp_path / "none.csv", space, main="top1")
    with pytest.raises(UserError, match="column top1"):
        MetricTable(((0, 0, 0, 0), (1, 0, 0, 0)), {"top1": np.array([1.0, np.inf])}, "top1")


TEACH = TeachConfig(fit=FitConfig(steps=10, batch_size=32, optimizer=OptimizerConfig(learning_rate=3e-3)))
CONFIG = NCPConfig(
    labels=5,
    macs=60_000,
    candidate=TEACH,
    predictor=PredictorConfig(hidden_sizes=(8, 8), epochs=5),
    encoder=EncoderConfig(stages=2, blocks=2, largest=16),
    teach=TEACH,
)


def test_as_a_transform_it_keeps_the_budget_and_reloads(tmp_path):
    found = apply(Method("search/ncp", CONFIG, EVALUATIONS["search/ncp"]), classifier(), 0)
    plan = found.recipe[0].plan
    space = EncoderSpace(CONFIG.encoder, channels=1, size=8, outputs=2)
    assert space.cost(tuple(plan["architecture"]))["macs"] <= 60_000
    recipe.save_network(tmp_path / "network.safetensors", found.module, found.base, found.recipe)
    module, *_ = recipe.load_network(tmp_path / "network.safetensors")
    pictures = found.task.source("test").tensors["input"]
    with torch.no_grad():
        assert recipe.same_bits(module(pictures), found.module(pictures))
    with pytest.raises(UserError, match=r"ncp.macs=10: the smallest network of encoder needs"):
        apply(Method("search/ncp", NCPConfig(macs=10), EVALUATIONS["search/ncp"]), classifier(), 0)


def test_resume_of_the_transform_ends_in_the_same_plan(tmp_path, monkeypatch):
    plans = []
    for name in ("whole", "killed"):
        transform = NCP(config=CONFIG)
        transform.folder = tmp_path / name
        if name == "killed":
            calls, build = [], EncoderSpace.build

            def stops(self, architecture, calls=calls, build=build, **options):
                calls.append(architecture)
                if len(calls) == 3:
                    raise KeyboardInterrupt
                return build(self, architecture, **options)

            with monkeypatch.context() as patch:
                patch.setattr(EncoderSpace, "build", stops)
                with pytest.raises(KeyboardInterrupt):
                    transform.plan(classifier())
        plans.append(transform.plan(classifier()))
    assert plans[0] == plans[1]
    assert (tmp_path / "whole/history.jsonl").read_bytes() == (tmp_path / "killed/history.jsonl").read_bytes()


def test_actors_cost_what_their_layers_cost():
    space = ActorSpace(ActorConfig(depth=2, smallest=8, largest=16), inputs=3, outputs=2)
    found = space.cost(space.of_values({"depth": 2, "layer_norm": 1, "width1": 8, "width2": 16}))
    assert found["macs"] == 3 * 8 + 8 * 16 + 16 * 2
    assert found["parameters"] == found["macs"] + 8 + 16 + 2 + 2 * 24
