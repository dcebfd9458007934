"""The evaluation frame on its own: subjects stay as they are, recipes bring networks back, tables add up."""

import json

import numpy as np
import pytest
import torch
from judged import QUICK, classifier, stripes
from torch import nn

from envs.evaluation import catalogue, recipe
from envs.evaluation.probes import count_bit_operations, count_macs, count_parameters, layer_macs, measure_size
from envs.evaluation.report import Report, Row
from envs.evaluation.tasks import DenseTask
from envs.evaluation.transform import apply, check_traits, teach
from rlsuite.data.joined import Joined
from rlsuite.errors import UserError
from rlsuite.methods import choose
from rlsuite.nn.ensemble import EnsembleMLP

NAMES = {"toys/halve": "judged:Halve"}


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    monkeypatch.setattr(recipe, "EVALUATIONS", NAMES | catalogue.EVALUATIONS)


def digest(module):
    return [(name, value.clone()) for name, value in module.state_dict().items()], module.training


def test_a_classifier_learns_its_task():
    subject = classifier()
    before = subject.task.score(subject.module, 0).mean()
    teach(subject, QUICK, 0)
    after = subject.task.score(subject.module, 0)
    assert after.shape == (100,)
    assert set(after) <= {0.0, 100.0}
    assert after.mean() > max(90.0, before)


def test_apply_leaves_the_subject_alone_and_writes_its_recipe(tmp_path):
    subject = classifier()
    tensors, training = digest(subject.module)
    (method,) = choose(NAMES, ["halve"], {"halve.factor": 0.25})
    changed = apply(method, subject, seed=1)
    assert all(torch.equal(value, subject.module.state_dict()[name]) for name, value in tensors)
    assert subject.module.training is training
    (step,) = changed.recipe
    assert (step.name, step.plan, step.config["factor"]) == ("toys/halve", {"factor": 0.25}, 0.25)
    assert "halved" in changed.traits
    assert not changed.module.training

    path = tmp_path / "network.safetensors"
    recipe.save_network(path, changed.module, changed.base, changed.recipe, {"score": 1.5})
    module, base, steps, about = recipe.load_network(path)
    pictures = subject.task.source("test").tensors["input"]
    with torch.no_grad():
        assert recipe.same_bits(module(pictures), changed.module(pictures))
    assert (base, steps, about) == (changed.base, changed.recipe, {"score": 1.5})


def test_the_same_seed_gives_the_same_bits():
    (method,) = choose(NAMES, ["halve"])
    one, other = (apply(method, classifier(), seed=4) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.module.parameters(), other.module.parameters(), strict=True))


def test_traits_are_checked_over_the_whole_pipeline_before_any_work():
    (method,) = choose(NAMES, ["halve"])
    with pytest.raises(UserError, match="toys/halve: the network is halved; halve it once"):
        check_traits([method, method], classifier().traits)
    with pytest.raises(UserError, match="not convolutional; use a network with convolutions"):
        check_traits([method], frozenset({"linear"}))


DAMAGES = {
    "a step that is not known": lambda said: said["recipe"].__setitem__(0, ["toys/half", {}, None]),
    "a base that is not known": lambda said: said["base"].__setitem__(0, "conf"),
    "a base without sizes": lambda said: said["base"].__setitem__(1, {}),
    "a base that is a number": lambda said: said.__setitem__("base", [3, {}]),
    "other sizes": lambda said: said["base"][1].__setitem__("outputs", 3),
    "a number out of range": lambda said: said["base"][1]["config"].__setitem__("hidden", -1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_files_that_say_something_else_are_refused(tmp_path, damage):
    (method,) = choose(NAMES, ["halve"])
    changed = apply(method, classifier(), seed=1)
    said = {"base": list(changed.base), "recipe": [list(step) for step in changed.recipe], "about": {}}
    said = json.loads(json.dumps(said))
    DAMAGES[damage](said)
    path = tmp_path / "network.safetensors"
    recipe.write_weights(path, changed.module.state_dict(), said, format=recipe.FORMAT)
    with pytest.raises(UserError, match="is not a network that"):
        recipe.load_network(path)


def test_torn_and_foreign_files_are_refused(tmp_path):
    subject = classifier()
    path = tmp_path / "network.safetensors"
    recipe.save_network(path, subject.module, subject.base, ())
    path.write_bytes(path.read_bytes()[:-40])
    for wrong in (path, tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(UserError):
            recipe.load_network(wrong)


def test_macs_by_hand():
    subject = classifier()
    # Convolutions 1 -> 4 and 4 -> 4 of 3 x 3 on 4 x 4 and 2 x 2 pixels; 16 -> 8 and 8 -> 2 linear.
    by_layer = {"body.1": 9 * 4 * 16, "body.3": 9 * 16 * 4, "body.6": 16 * 8, "head": 16}
    assert layer_macs(subject.module, subject.example) == by_layer
    macs = sum(by_layer.values())
    assert count_macs(subject.module, subject.example) == macs
    assert count_bit_operations(subject.module, subject.example) == macs * 1024
    subject.module.head.weight_bits, subject.module.head.input_bits = 4, 8
    assert count_bit_operations(subject.module, subject.example) == (macs - 16) * 1024 + 16 * 32
    sizes = measure_size(subject)
    assert sizes["parameters"] == count_parameters(subject.module) == 40 + 148 + 136 + 18
    assert 4 * sizes["parameters"] < sizes["bytes"] < 4 * sizes["parameters"] + 2500


def test_macs_of_stacked_layers_count_a_single_output_by_rule():
    network = EnsembleMLP(3, 5, (7,), 1, generator=torch.Generator().manual_seed(0))
    assert count_macs(network, torch.zeros(3, 1, 5)) == 3 * (5 * 7 + 7)


def test_dense_task_scores_each_picture():
    class Negative(nn.Module):
        def forward(self, inputs):
            return -inputs

    source = stripes(10, 0)
    pictures = source.tensors["input"]
    source.tensors["target"] = -pictures
    source.tensors["target"][3] += 1.0
    task = DenseTask(source, source, metric=lambda a, b: -(a - b).abs().flatten(1).mean(1), unit="error", floor=-1.0)
    scores = task.score(Negative(), 0)
    assert np.allclose(scores, [0, 0, 0, -1, 0, 0, 0, 0, 0, 0])
    assert task.loss(Negative(), source.examples(torch.tensor([3, 4]))).tolist() == [1.0, 0.0]


def test_joined_sources_keep_their_rows():
    one, other = stripes(4, 0), stripes(6, 1)
    joined = Joined([one, other])
    found = joined.examples(torch.tensor([0, 9, 4, 3]))
    expected = torch.stack(
        [one.tensors["input"][0], other.tensors["input"][5], other.tensors["input"][0], one.tensors["input"][3]]
    )
    assert len(joined) == 10
    assert torch.equal(found["input"], expected)


def test_a_report_counts_from_the_floor():
    rows = (
        Row("before", np.array([10.0, 14.0]), {"bytes": 4000.0, "train_error": 1e-9}),
        Row("after", np.array([8.0, 8.0]), {"bytes": 1000.0, "train_error": 0.25}),
    )
    report = Report("toy", "return", -8.0, rows, notes=("a note",))
    assert report.kept(rows[1]) == pytest.approx(16 / 20)
    text = report.markdown()
    assert "1,000 (0.25 x)" in text
    assert "| 0.25 |" in text  # no share of what was nearly nothing
    assert text.endswith("a note\n")
    assert report.plain()["rows"]["before"]["score"] == 12.0


def test_a_report_of_one_episode_has_no_interval_and_no_share_of_nothing(tmp_path):
    report = Report("toy", "return", 3.0, (Row("before", np.array([3.0])), Row("after", np.array([4.0]))))
    report.write(tmp_path, {"more": float("nan")})
    text = (tmp_path / "report.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["more"] is None
    row = report.plain()["rows"]["after"]
    assert (row["interval"], row["kept"]) == ([None, None], None)
    assert "| after | 4 |  |" in report.markdown()


def cards(folder):
    """Return tag -> [(step, value)] of an event file, texts as such."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    found = {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    texts = [tag for tag in read.Tags()["tensors"] if tag.endswith("text_summary") or tag == "evaluation/report"]
    return found, [bytes(read.Tensors(tag)[0].tensor_proto.string_val[0]).decode() for tag in texts]


def test_a_report_is_files_and_cards_of_tensorboard(tmp_path):
    rows = (
        Row("no attack", np.array([10.0, 14.0])),
        Row("noise 0.05", np.array([8.0, 8.0]), {"eps": 0.05}),
        Row("noise 0.3", np.array([6.0, 6.0]), {"eps": 0.3}),
    )
    report = Report("toy", "return", 0.0, rows)
    report.write(tmp_path, {"flags": []})
    assert json.loads((tmp_path / "report.json").read_text()) == report.plain() | {"flags": []}
    assert (tmp_path / "report.md").read_text() == report.markdown()
    figures, (table,) = cards(tmp_path / "no attack")
    assert figures["evaluation/score"] == [(0, 12.0)]
    assert table == report.markdown()
    figures, texts = cards(tmp_path / "noise")
    assert figures["evaluation/score"] == [(50, 8.0), (300, 6.0)]
    assert [step for step, _ in figures["evaluation/kept"]] == [50, 300]
    assert texts == []
