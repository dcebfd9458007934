"""What a search trains is where its subject is; meta tensors stand in for an accelerator."""

import dataclasses

import pytest
import torch
from judged import classifier
from small_methods import small, subject_for

from envs.evaluation.search import autonl, nas_count
from envs.evaluation.search.cell_evolution import Evolution
from envs.evaluation.search.evaluators import PartTask
from envs.evaluation.search.shared_weights import SharedWeights


class LearnsError(Exception):
    """Raised where the first minibatch would be learned, with the devices of all that learns."""


def stops(*modules):
    raise LearnsError({tensor.device.type for module in modules for tensor in module.state_dict().values()})


@pytest.mark.parametrize("name", ["abandit_nas", "autonl", "autospace", "bnas", "cars", "cp_nas", "nas_count"])
def test_what_learns_is_on_the_subjects_device(name, monkeypatch):
    monkeypatch.setattr(autonl, "fit", lambda module, *rest, **more: stops(module))
    monkeypatch.setattr(nas_count, "fit", lambda module, *rest, **more: stops(module))
    monkeypatch.setattr(Evolution, "_learn", lambda self, *rest: stops(self.network))

    def train(self, paths, steps, *, through=None, before=None):
        stops(self.supernet, *([through] if through is not None else []))

    monkeypatch.setattr(SharedWeights, "train", train)
    subject = subject_for(f"search/{name}")
    away = dataclasses.replace(subject, module=subject.copy().to("meta"), example=subject.example.to("meta"))
    assert (subject.device.type, away.device.type) == ("cpu", "meta")
    for one in (subject, away):
        with pytest.raises(LearnsError) as caught:
            small(f"search/{name}").build().plan(one)
        assert caught.value.args[0] == {one.device.type}


def test_a_part_is_scored_where_the_network_is():
    """A task whose score is its loss: the examples go to the network, the losses come back."""
    whole, seen = classifier().task, []
    part = PartTask(whole, whole.source("train"), whole.source("test"))
    part.right = False

    def loss(module, batch):
        seen.extend(value.device.type for value in batch.values())
        return torch.arange(float(len(batch["label"])))

    part.whole = type("Stub", (), {"loss": staticmethod(loss)})()
    assert part.score(classifier().copy().to("meta"), 0).tolist() == [-float(number) for number in range(100)]
    assert set(seen) == {"meta"}
