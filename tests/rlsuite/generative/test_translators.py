"""pix2pix's and CycleGAN's networks by their known sizes and shapes, and the pool of older pictures."""

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.generative.picture_pool import PicturePool
from rlsuite.generative.translators import PatchConfig, PatchDiscriminator, Translator, TranslatorConfig


def parameters(module):
    return sum(weight.numel() for weight in module.parameters())


def test_sizes_are_those_of_the_authors_code():
    u_net, resnet = TranslatorConfig(), TranslatorConfig(kind="resnet", norm="instance")
    assert parameters(Translator(3, 3, u_net.scaled(0.25), 0)) == 3_404_451  # 54,413,955 at 64
    assert parameters(Translator(3, 3, resnet.scaled(0.25), 0)) == 715_651  # 11,378,179 at 64
    assert parameters(PatchDiscriminator(6, PatchConfig(), 0)) == 2_768_705
    assert parameters(PatchDiscriminator(3, PatchConfig(norm="instance"), 0)) == 2_764_737


@pytest.mark.parametrize("kind", ["u_net", "resnet"])
def test_pictures_of_any_side_become_pictures(kind, generator):
    config = TranslatorConfig(kind=kind, width=4, levels=3, blocks=1, dropout=0.5)
    network, again, other = (Translator(2, 3, config, seed).eval() for seed in (0, 0, 1))
    for size in ((16, 16), (11, 13)):
        pictures = torch.rand(2, 2, *size, generator=generator)
        made = network(pictures)
        assert made.shape == (2, 3, *size)
        assert float(made.detach().abs().max()) < 1.0
        assert torch.equal(made, again(pictures))
        assert not torch.equal(made, other(pictures))


def test_only_inner_levels_of_a_u_net_drop_and_only_while_learning():
    def drops(levels):
        network = Translator(3, 3, TranslatorConfig(width=1, levels=levels, dropout=0.5), 0)
        return sum(isinstance(part, torch.nn.Dropout) for part in network.modules())

    assert [drops(levels) for levels in (4, 5, 6, 7, 8)] == [0, 0, 1, 2, 3]


def test_a_u_nets_deepest_level_has_one_pixel_and_learns_from_one_picture(generator):
    network = Translator(1, 1, TranslatorConfig(width=2, levels=3), 0).train()
    network(torch.rand(1, 1, 8, 8, generator=generator)).sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize(("layers", "side"), [(1, 16), (2, 34), (3, 70)])
def test_a_score_sees_its_patch(layers, side, generator):
    judge = PatchDiscriminator(1, PatchConfig(width=2, layers=layers), 0).eval()
    picture = torch.rand(1, 1, 160, 160, generator=generator).requires_grad_()
    scores = judge(picture)
    middle = scores.shape[-1] // 2
    (gradient,) = torch.autograd.grad(scores[0, 0, middle, middle], picture)
    rows = gradient[0, 0].any(dim=1).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == side


def test_features_are_what_the_blocks_make(generator):
    judge = PatchDiscriminator(1, PatchConfig(width=2, layers=2), 0).eval()
    picture = torch.rand(1, 1, 32, 32, generator=generator)
    first, last = judge.features(picture, (0, -1))
    assert torch.equal(first, judge.blocks[0](picture))
    assert torch.equal(judge.head(last), judge(picture))
    with pytest.raises(IndexError):
        judge.features(picture, (3,))


@pytest.mark.parametrize(
    ("numbers", "words"),
    [({"kind": "vit"}, "vit"), ({"levels": 1}, "levels=1"), ({"width": 0}, "width=0"), ({"dropout": 1.0}, "less than")],
)
def test_networks_refused(numbers, words):
    with pytest.raises(UserError, match=words):
        TranslatorConfig(**numbers)


def test_a_pool_gives_back_older_pictures_once_it_is_full():
    torch.manual_seed(0)
    pool = PicturePool((1,), size=4)
    given, returned = torch.arange(30.0).view(10, 3, 1), []
    for made in given:
        shown = pool.exchange(made)
        returned += shown.flatten().tolist()
        fresh = shown == made
        assert all(float(value) < float(made.min()) for value in shown[~fresh])
    assert returned[:6] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]  # four are kept, and the two beyond pass
    # Nothing is lost or doubled: what was given was returned, or is kept.
    assert sorted({*returned, *pool.pictures.flatten().tolist()}) == list(range(30))
    older = sum(value < 3 * (place // 3) for place, value in enumerate(returned))
    assert 4 <= older <= 20
    assert torch.equal(PicturePool((1,), size=0).exchange(given[0]), given[0])
    with pytest.raises(ValueError, match="5 pictures come at once"):
        pool.exchange(torch.zeros(5, 1))
