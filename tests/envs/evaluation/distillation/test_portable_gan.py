"""Distilled translation: losses by hand, where gradients go, kept teachers, learning, resumed bits."""

import dataclasses

import pytest
import torch

from envs.evaluation.distillation.gan_losses import (
    distances,
    perceptual_loss,
    pixel_loss,
    teacher_as_real_loss,
    triplet_loss,
)
from envs.evaluation.distillation.portable_gan import (
    DistillationWeights,
    PairedTranslation,
    TranslationConfig,
    beside,
    with_taught,
)
from envs.evaluation.distillation.unpaired_gan import Unpaired, UnpairedTranslation
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig, fit
from rlsuite.generative.translators import PatchConfig, TranslatorConfig
from rlsuite.optim.choice import OptimizerConfig

CONFIG = TranslationConfig(
    generator=TranslatorConfig(width=4, levels=2),
    discriminator=PatchConfig(width=4, layers=1),
    weights=DistillationWeights(teacher_taps=(0, 1)),
    optimizer=OptimizerConfig(learning_rate=2e-3, beta1=0.5),
)
FAST = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(learning_rate=1e-2, beta1=0.5))
CYCLE = dataclasses.replace(CONFIG, kind="lsgan", pool=4)


def pictures(count=16, seed=0):
    """Return blurred noise and the same with its colors turned around, both in [-1, 1]."""
    coarse = torch.rand(count, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    found = 2 * torch.nn.functional.interpolate(coarse, scale_factor=2.0) - 1
    return Arrays({"input": found, "target": -found.flip(1)})


def paired(seed=0, teacher=None, config=CONFIG):
    return PairedTranslation((2, 2), config, seed, teacher)


def unpaired(seed=0, teacher=None, config=CYCLE):
    return UnpairedTranslation(((2, 8, 8), (2, 8, 8)), config, seed, teacher)


def domains(count=8):
    return Unpaired(
        *(Arrays({"input": pictures(count, seed).tensors[key]}) for seed, key in ((1, "input"), (2, "target")))
    )


def first(source, count=4):
    return source.examples(torch.arange(count))


def test_losses_by_hand():
    one, other = torch.tensor([[0.0, 2.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert distances([one, one], [other, 3 * other]).tolist() == [1.5 + 2.5, 0.0 + 2.0]
    assert float(pixel_loss(one, other)) == 0.75
    assert float(perceptual_loss([one, one], [other, 3 * other])) == 3.0
    scores = torch.tensor([0.0, 2.0])
    assert float(teacher_as_real_loss("gan", scores)) == pytest.approx((0.693147 + 0.126928) / 2, abs=1e-5)
    assert float(teacher_as_real_loss("lsgan", scores)) == 1.0
    real, taught, made = (torch.tensor([[value], [value + 1.0]]) for value in (0.0, 0.5, 2.0))
    loss, active = triplet_loss([real], [taught], [made], margin=1.0)
    assert (float(loss), float(active)) == (0.0, 0.0)  # 0.5 - 2 + 1 < 0
    loss, active = triplet_loss([real], [torch.tensor([[3.0], [1.0]])], [made], margin=1.0)
    assert (float(loss), float(active)) == (1.0, 0.5)  # 3 - 2 + 1, and 0 - 2 + 1


def test_a_triplet_is_nothing_where_student_and_teacher_agree_and_there_is_no_margin(generator):
    real, made = (torch.rand(3, 2, 4, 4, generator=generator) for _ in range(2))
    loss, active = triplet_loss([real], [made], [made], margin=0.0)
    assert (float(loss), float(active)) == (0.0, 0.0)


def test_the_perceptual_loss_teaches_the_student_and_leaves_the_teacher():
    teacher, batch = paired(), first(pictures())
    weights = DistillationWeights(pixel=0.0, perceptual=1.0, teacher_taps=(1,))
    student = paired(1, teacher, dataclasses.replace(CONFIG, adversarial=0.0, weights=weights))
    (turn,) = student.train().turns()
    before = {name: value.clone() for name, value in student.teacher.state_dict().items()}
    found = turn.loss(student, batch)
    assert set(found) == {"loss", "perceptual"}
    found["loss"].backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in student.generator.parameters())
    assert all(weight.grad is None for weight in student.teacher.parameters())
    assert not student.teacher.training
    assert not any(part.training for part in student.teacher.modules())
    assert all(torch.equal(value, before[name]) for name, value in student.teacher.state_dict().items())


def test_a_discriminators_losses_do_not_move_the_student():
    student = paired(1, paired())
    judge, make = student.turns()
    judge.loss(student, first(pictures()))["loss"].backward()
    assert all(weight.grad is None for weight in student.generator.parameters())
    assert all(weight.grad is not None for weight in student.discriminator.parameters())
    assert (judge.parameters, make.parameters) == (("discriminator.*",), ("generator.*",))


def test_the_total_is_the_sum_of_its_parts():
    student, batch = paired(1, paired()).eval(), first(pictures())
    judged, made = (turn.loss(student, batch) for turn in student.turns())
    weights = student.config.weights
    total = made["adversarial"] + weights.pixel * made["pixel"] + weights.perceptual * made["perceptual"]
    assert torch.allclose(made["loss"], total)
    fake = student.generator(batch["input"])
    scores = [student.discriminator(beside(batch["input"], shown)) for shown in (batch["target"], fake)]
    plain = (torch.nn.functional.softplus(-scores[0]).mean() + torch.nn.functional.softplus(scores[1]).mean()) / 2
    assert torch.allclose(judged["loss"], plain + judged["real"] + judged["triplet"])
    truth = paired(1).turns()[1].loss(paired(1).eval(), batch)
    assert set(truth) == {"loss", "adversarial", "truth"}


@pytest.mark.parametrize(
    ("change", "weights", "judged", "made"),
    [
        ({"adversarial": 0.0}, {"perceptual": 0.0}, None, {"pixel"}),
        ({"adversarial": 0.0}, {}, None, {"pixel", "perceptual"}),
        ({}, {"triplet": 0.0}, {"score", "real"}, {"adversarial", "pixel", "perceptual"}),
        ({}, {"real": 0.0, "triplet": 0.0}, {"score"}, {"adversarial", "pixel", "perceptual"}),
        ({}, {}, {"score", "real", "triplet", "active"}, {"adversarial", "pixel", "perceptual"}),
    ],
)
def test_arms_are_switches(change, weights, judged, made):
    config = dataclasses.replace(CONFIG, weights=DistillationWeights(teacher_taps=(1,), **weights), **change)
    student = paired(1, paired(), config)
    found = {turn.name: set(turn.loss(student, first(pictures()))) - {"loss"} for turn in student.turns()}
    assert found == {**({} if judged is None else {"discriminator": judged}), "generator": made}


@pytest.mark.parametrize("kind", ["paired", "unpaired"])
def test_kept_and_fresh_teachers_give_the_same_losses(kind):
    if kind == "paired":
        teacher = paired()
        student, source = paired(1, teacher), pictures()
        kept = with_taught(source, teacher.generator, at_once=5)
    else:
        teacher = unpaired()
        student, source = unpaired(1, teacher), domains()
        of_a, of_b = source.sources["a"], source.sources["b"]
        kept = Unpaired(with_taught(of_a, teacher.generators["b"]), with_taught(of_b, teacher.generators["a"]))
    assert teacher.training
    student.eval()
    for turn in student.turns():
        fresh, again = turn.loss(student, first(source)), turn.loss(student, first(kept))
        assert set(fresh) == set(again)
        for name, value in fresh.items():
            torch.testing.assert_close(value, again[name], rtol=1e-5, atol=1e-6)


def test_unpaired_examples_are_all_pairs():
    a, b = Arrays({"input": torch.tensor([0, 1])}), Arrays({"input": torch.tensor([10, 11, 12])})
    found = Unpaired(a, b).examples(torch.arange(6))
    assert sorted(zip(found["a"].tolist(), found["b"].tolist(), strict=True)) == [
        (of_a, of_b) for of_a in (0, 1) for of_b in (10, 11, 12)
    ]


def test_a_student_comes_near_its_teacher():
    source, teacher = pictures(64), paired(config=FAST)
    fit(teacher, teacher.turns(), source, FitConfig(steps=20, batch_size=8), seed=0)
    kept, student = with_taught(source, teacher.generator), paired(1, teacher, FAST)

    @torch.no_grad()
    def apart():
        return float(pixel_loss(student.eval().generator(kept.tensors["input"]), kept.tensors["taught"]))

    before = apart()
    history = fit(student, student.turns(), kept, FitConfig(steps=50, batch_size=8), seed=1)
    after = apart()
    assert after < 0.7 * before
    assert 0.0 <= history.records[-1]["discriminator/active"] <= 1.0


def test_cycles_close():
    pair, source = unpaired(config=dataclasses.replace(FAST, kind="lsgan", pool=4)), domains()
    history = fit(pair, pair.turns(), source, FitConfig(steps=70, batch_size=4, order="random", check_every=10), seed=0)
    cycles = [record["generators/cycle a"] + record["generators/cycle b"] for record in history.records]
    assert cycles[-1] < 0.8 * cycles[0]
    assert int(pair.pools["a"].kept) == 4


@pytest.mark.parametrize("make", [paired, unpaired])
def test_a_stopped_student_goes_on_to_the_same_bits(make, tmp_path):
    config = FitConfig(steps=6, batch_size=4, order="random", check_every=2, save_every=2)
    source = pictures() if make is paired else domains()

    def stop(step, share):
        if step == 5:
            raise KeyboardInterrupt

    whole, broken, again = (make(1, make()) for _ in range(3))
    fit(whole, whole.turns(), source, config, seed=0, run_dir=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(broken, broken.turns(), source, config, seed=0, run_dir=tmp_path / "broken", hooks=(stop,))
    fit(again, again.turns(), source, config, seed=0, run_dir=tmp_path / "broken")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TranslationConfig(kind="hinge"), "hinge"),
        (lambda: TranslationConfig(truth=-1.0), "truth"),
        (lambda: TranslationConfig(pool=-1), "pool=-1"),
        (lambda: DistillationWeights(margin=float("nan")), "margin"),
        (lambda: DistillationWeights(taps=()), "taps="),
        (lambda: paired(1, paired(), dataclasses.replace(CONFIG, weights=DistillationWeights())), "has 2 blocks"),
    ],
)
def test_numbers_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()
