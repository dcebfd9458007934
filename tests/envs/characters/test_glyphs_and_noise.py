"""Pools of glyphs, what moves them, and what befalls them: by hand, against OpenCV, and row by row."""

import functools
import gzip
import math

import numpy as np
import pytest
import torch
from PIL import Image

from envs.characters.attacked import Attacks
from envs.characters.examples import NoisyGlyphs
from envs.characters.geometry import (
    affine_maps,
    bent,
    between_neighbours,
    normal,
    random_affine,
    random_padding,
    resampled,
)
from envs.characters.glyphs import Glyphs, drawer_at, fonts_with, glyph_pool
from envs.characters.noise import (
    CONTRAST,
    EPS,
    LEAST,
    LUMA,
    PIXELS,
    STRENGTHS,
    WITHIN,
    befall,
    coloured,
    parse_noise,
    uneven_light,
)
from envs.characters.superpixels import GRID, flattened, patches
from envs.random import EnvironmentRandom
from rlsuite.errors import UserError


def a_pool(size=16, number=6):
    picture = torch.full((number, 1, size, size), 255, dtype=torch.uint8)
    for index in range(number):
        picture[index, 0, 3 : 4 + index, 5:9] = 0
    return Glyphs(picture, torch.arange(number) % 3, ("a", "b", "c"))


def drawer(rows=4, seed=0):
    return drawer_at(seed, torch.arange(rows))


def test_fonts_hold_the_characters_and_some_are_held_out():
    every, train, test = (fonts_with("0123456789abcXYZ", split) for split in ("", "train", "test"))
    assert len(every) >= 15
    assert sorted(train + test) == every
    assert not set(train) & set(test)
    assert test
    names = {path.stem for path in every}
    assert "DejaVuSans" in names
    assert not names & {"cmsy10", "LastResortHE-Regular", "DejaVuSansDisplay"}  # their codes draw other things


def test_fonts_without_digits_are_refused(monkeypatch, tmp_path):
    import matplotlib

    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"hold no digits and letters; use env\.data=digits"):
        fonts_with("01")


def test_a_pool_of_fonts_is_legible_and_its_variants_differ():
    pool = glyph_pool("fonts", 16, "test", "digits", 2)
    count = len(fonts_with("0123456789", "test"))
    assert pool.picture.shape == (2 * 10 * count, 1, 16, 16)
    assert pool.label[:10].tolist() == list(range(10))
    assert pool.names == tuple("0123456789")
    ink = 1 - pool.picture.float() / 255
    share = ink.mean(dim=(1, 2, 3))
    assert 0.03 < float(share.min()) < float(share.max()) < 0.6
    assert float(ink[:, :, 0].max()) < 0.5  # they lie within the paper
    assert not torch.equal(pool.picture[: 10 * count], pool.picture[10 * count :])
    zero, one = ink[0, 0], ink[1, 0]
    assert float(zero[7:9, 7:9].mean()) < 0.3 < float(one[7:9, 6:11].amax())  # a hole, and a stem
    assert torch.equal(pool.picture, glyph_pool.__wrapped__("fonts", 16, "test", "digits", 2).picture)


def test_digits_are_black_and_white_and_as_the_data_set_splits_them():
    train, test = (glyph_pool("digits", 16, split) for split in ("train", "test"))
    assert (len(train.label), len(test.label)) == (1438, 359)
    assert set(train.picture.unique().tolist()) == {0, 255}
    both = glyph_pool("shipped", 16, "test", "digits", 1)
    assert len(both.label) == 359 + 10 * len(fonts_with("0123456789", "test"))


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def test_mnist_is_inverted_and_a_truncated_file_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RLSUITE_DATA", str(tmp_path))
    pictures = np.zeros((3, 28, 28))
    pictures[:, 7:21, 12:16] = 255
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", pictures)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.array([1, 1, 7]))
    pool = glyph_pool.__wrapped__("mnist", 14, "test")
    assert pool.label.tolist() == [1, 1, 7]
    assert int(pool.picture[0, 0, 7, 7]) == 0
    assert int(pool.picture[0, 0, 0, 0]) == 255
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-5]))
    with pytest.raises(UserError, match="cannot be read"):
        glyph_pool.__wrapped__("mnist", 14, "test")


def test_folders_as_omniglot_has_them_hold_alphabets_out(tmp_path):
    for alphabet in ("Braille", "Greek", "Latin"):
        for character in ("character01", "character02"):
            folder = tmp_path / alphabet / character
            folder.mkdir(parents=True)
            for writer in range(2):
                Image.new("L", (20, 10), 0 if writer else 255).save(folder / f"{writer:02}.png")
    train, test = (glyph_pool.__wrapped__(str(tmp_path), 10, split) for split in ("train", "test"))
    assert test.names == ("Braille/character01", "Braille/character02")
    assert train.names == tuple(f"{a}/character0{n}" for a in ("Greek", "Latin") for n in (1, 2))
    assert len(train.label) == 8
    assert int(train.picture[1, 0, 5, 5]) == 0  # in the middle of a square
    assert int(train.picture[1, 0, 0, 5]) == 255


def test_of_one_alphabet_writers_are_held_out(tmp_path):
    for character in ("character01", "character02"):
        folder = tmp_path / "Greek" / character
        folder.mkdir(parents=True)
        for writer in range(1, 13):
            Image.new("L", (8, 8), 20 * writer).save(folder / f"03{character[-2:]}_{writer:02}.png")
    train, test = (glyph_pool.__wrapped__(str(tmp_path), 8, split).picture[:, 0, 0, 0] for split in ("train", "test"))
    assert sorted(test.tolist()) == [20, 20, 220, 220]  # writers 1 and 11, of both characters
    assert len(train) == 20
    assert not set(train.tolist()) & set(test.tolist())


def test_an_affine_map_by_hand():
    """Half as large, turned by a quarter, in the right half: a bar that stood upright lies there."""
    ink = torch.zeros(1, 1, 32, 32)
    ink[0, 0, :, 14:18] = 1.0
    ones = torch.ones(1)
    maps = affine_maps(torch.full((1, 2), 0.5), ones * math.pi / 2, ones * 0, torch.tensor([[0.5, 0.0]]))
    moved = resampled(ink, maps)[0, 0]
    assert float(moved[16, 17:31].mean()) > 0.9
    assert float(moved[:, :15].sum()) == 0.0
    assert float(moved[:14].sum()) == 0.0
    assert float(moved.sum()) == pytest.approx(32, rel=0.1)  # 4 x 32 pixels, a quarter of the area


def test_a_glyph_stays_in_the_middle_of_its_neighbours():
    ink = torch.zeros(40, 1, 16, 16)
    ink[:, 0, 4:12, 6:10] = 1.0
    wide = torch.ones_like(ink)
    seen, alone = between_neighbours(ink, wide, wide, drawer(40))
    assert torch.allclose(seen[:, :, :, 8], alone[:, :, :, 8])
    middle = alone[:, 0, 8]
    assert torch.allclose(middle, middle.flip(1), atol=1e-5)
    width = middle.sum(1)  # squeezed by 1 to 3
    assert 1.2 <= float(width.min()) <= 2.0 < 3.0 < float(width.max()) <= 4.2
    beside = (seen - alone).sum(dim=(1, 2, 3)) > 1
    assert 20 < int(beside.sum()) < 40  # a neighbour left out now and then, or the piece too narrow


def test_noises_are_read_by_name():
    assert parse_noise("gauss:0.7+saltpepper") == (("gauss", 0.7), ("saltpepper", 0.15))
    assert parse_noise("blur+attack:pgd:0.1") == (("blur", 1.0), ("attack:pgd", 0.1))
    assert parse_noise("attack:fgsm") == (("attack:fgsm", EPS),)
    for text, message in (
        ("gaus", "did you mean 'gauss'"),
        ("gauss:strong", "'strong' is no strength"),
        ("blur:-1", "'-1' is no strength"),
        ("gauss:nan", "no strength"),
        ("attack:fgsn", "there is no attack 'fgsn'; did you mean 'fgsm'"),
        ("attack", "there is no attack ''"),
        ("attack:fgsm:-0.1", "'-0.1' is no strength; use a number of 0 or more"),
        ("attack:cw2:0.3", "takes as much as it needs; leave out :0.3"),
    ):
        with pytest.raises(UserError, match=message):
            parse_noise(text)


@pytest.mark.parametrize("noise", [*STRENGTHS, "gauss:0.7+saltpepper:0.3", "light+blur:2"])
def test_noise_is_in_range_row_by_row_and_leaves_the_glyph_alone(noise):
    pool = a_pool()
    ink = 1 - pool.picture[:4].float() / 255
    before = ink.clone()
    picture, clean = befall(ink, (ink, ink), parse_noise(noise), drawer())
    assert picture.shape == (4, 3, 16, 16)
    assert 0.0 <= float(picture.min()) <= float(picture.max()) <= 1.0
    assert torch.equal(ink, before)
    if noise not in ("clutter", "all"):  # these squeeze and move the glyph itself
        assert torch.equal(clean, 1 - ink)
    some, _ = befall(ink[2:], (ink[2:], ink[2:]), parse_noise(noise), drawer_at(0, torch.tensor([2, 3])))
    torch.testing.assert_close(some, picture[2:], atol=1e-5, rtol=0)
    if noise not in ("clean", "gray", "sharpen", "hue", "superpixels"):  # black and white stays as it is
        assert not torch.equal(picture, befall(ink, (ink, ink), parse_noise("clean"), drawer())[0])


@pytest.fixture(scope="module")
def attacks():
    pool = glyph_pool("digits", 16, "train")
    return Attacks(Glyphs(pool.picture[:400], pool.label[:400], pool.names), 0)


@pytest.mark.parametrize("noise", [*(f"attack:{name}:0.2" for name in WITHIN), *(f"attack:{name}" for name in LEAST)])
def test_attacks_fool_an_ordinary_reader_within_their_bounds(attacks, noise):
    ink = 1 - attacks.glyphs.picture[:12].float() / 255
    label, levels, rows = attacks.glyphs.label[:12], parse_noise(noise), drawer(12)

    def made(part):
        own = functools.partial(attacks, label=label[part])
        return befall(ink[part], (ink[part], ink[part]), levels, rows, own)

    picture, clean = made(slice(12))
    plain = (1 - ink).expand(-1, 3, -1, -1)
    assert torch.equal(clean, 1 - ink)
    assert 0.0 <= float(picture.min()) <= float(picture.max()) <= 1.0
    if levels[0].name.removeprefix("attack:") in WITHIN:
        assert float((picture - plain).abs().max()) <= 0.2 + 1e-6
    right = [float((attacks.scores(one).argmax(1) == label).float().mean()) for one in (plain, picture)]
    assert right[1] <= right[0] - 0.3
    alone, _ = made(slice(10, 12))
    assert float(((alone - picture[10:]).abs() > 0.05).float().mean()) < 0.02  # signs of gradients that are nearly 0


def test_an_attack_comes_in_its_turn_and_of_eps_0_is_none(attacks):
    ink = 1 - attacks.glyphs.picture[:4].float() / 255
    own = functools.partial(attacks, label=attacks.glyphs.label[:4])
    noisy = [
        befall(ink, (ink, ink), parse_noise(text), drawer(), own)[0]
        for text in ("gauss:0.3", "gauss:0.3+attack:fgsm:0", "gauss:0.3+attack:fgsm:0.1", "attack:fgsm:0.1+gauss:0.3")
    ]
    assert torch.equal(noisy[0], noisy[1])
    assert 0.05 < float((noisy[2] - noisy[0]).abs().max()) <= 0.1 + 1e-6
    assert not torch.equal(noisy[2], noisy[3])


def test_examples_may_be_attacked():
    pool = glyph_pool("digits", 16, "train")
    source = NoisyGlyphs(Glyphs(pool.picture[:64], pool.label[:64], pool.names), ("clean", "attack:fgsm:0.1"), 5, 40)
    before = torch.random.get_rng_state()
    found = source.examples(torch.arange(40))
    apart = (found["input"] - found["clean"]).abs().amax(dim=(1, 2, 3))
    assert 5 < int((apart > 0.05).sum()) < 35
    assert float(apart.max()) <= 0.1 + 1e-6
    assert torch.equal(torch.random.get_rng_state(), before)


def test_noise_is_as_strong_as_it_says():
    grey = torch.full((8, 3, 32, 32), 0.5)
    assert float(PIXELS["gauss"](grey, drawer(8), 0.2).std()) == pytest.approx(0.2, abs=0.01)
    peppered = PIXELS["saltpepper"](grey, drawer(8), 0.3)
    assert float((peppered == 0).float().mean()) == pytest.approx(0.15, abs=0.02)
    assert float((peppered == 1).float().mean()) == pytest.approx(0.15, abs=0.02)
    assert float((PIXELS["dropout"](grey, drawer(8), 0.1) == 0).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert float(normal(drawer(8), 1001).mean()) == pytest.approx(0.0, abs=0.05)
    assert normal(drawer(8), 7).shape == (8, 7)


def test_hue_turns_colours_and_leaves_luma():
    picture = 0.3 + 0.4 * torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor(LUMA).view(1, 3, 1, 1)
    changed = PIXELS["hue"](picture, drawer(5), 0.08)
    torch.testing.assert_close((changed * weights).sum(1), (picture * weights).sum(1), atol=2e-3, rtol=0)
    assert float((changed - picture).abs().mean()) > 0.01
    torch.testing.assert_close(PIXELS["hue"](picture, drawer(5), 0.0), picture, atol=2e-3, rtol=0)


def test_elastic_maps_keep_ink_and_move_it():
    ink = torch.zeros(8, 3, 32, 32)
    ink[:, :, 8:24, 12:20] = 1.0
    pushed = PIXELS["elastic"](ink, drawer(8), 2.0)
    assert float(pushed.sum()) == pytest.approx(float(ink.sum()), rel=0.15)
    assert float((pushed - ink).abs().mean()) > 0.01
    assert torch.allclose(PIXELS["elastic"](ink, drawer(8), 0.0), ink, atol=1e-4)


def test_padding_by_hand():
    """A quarter of the side left and above, none right and below: the picture fills four fifths, in that corner."""
    ink = torch.ones(1, 1, 20, 20)
    share = torch.tensor([[0.625, 0.0, 0.625, 0.0]])  # of 0.4
    padded = resampled(ink, random_padding(lambda count: share[:, :count], 1))[0, 0]
    assert float(padded[:4].sum()) == float(padded[:, :4].sum()) == 0.0
    assert float(padded[4:, 4:].min()) == 1.0


def test_bent_pictures_stay_near_and_of_no_push_do_not_move():
    ink = torch.zeros(6, 1, 32, 32)
    ink[:, :, 8:24, 12:20] = 1.0
    pushed = bent(ink, drawer(6))
    assert 0.01 < float((pushed - ink).abs().mean()) < 0.2
    assert float((pushed.sum() / ink.sum() - 1).abs()) < 0.25
    torch.testing.assert_close(bent(ink, drawer(6), least=0.0, most=0.0), ink)


def test_superpixels_are_flat_and_keep_the_mean():
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(3, 3, 24, 24, generator=generator)
    belongs = patches(picture)
    changed = flattened(picture, torch.ones(3, GRID**2, dtype=torch.bool))
    flat, before = changed.flatten(2), picture.flatten(2)
    for row in range(3):
        for patch in belongs[row].unique().tolist():
            own = belongs[row] == patch
            wanted = before[row][:, own].mean(1, keepdim=True)
            torch.testing.assert_close(flat[row][:, own], wanted.expand(-1, int(own.sum())))
    assert torch.equal(flattened(picture, torch.zeros(3, GRID**2, dtype=torch.bool)), picture)
    # Two colours, the border beside that of the grid: no patch has both of them once they are found.
    halves = torch.zeros(1, 3, 24, 24)
    halves[..., 9:] = 1.0
    assert torch.equal(flattened(halves, torch.ones(1, GRID**2, dtype=torch.bool)), halves)


def test_medians_and_means_are_opencvs():
    cv2 = pytest.importorskip("cv2")
    picture = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = picture[0, 0].numpy()
    wanted = cv2.medianBlur(plain, 3)
    assert np.array_equal(PIXELS["median"](picture, drawer(1), 3)[0, 0].numpy(), wanted)
    wanted = cv2.blur(plain, (5, 5), borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(PIXELS["mean"](picture, drawer(1), 5)[0, 0], wanted, atol=1e-6)


def test_the_blur_is_opencvs():
    cv2 = pytest.importorskip("cv2")
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    wanted = cv2.GaussianBlur(picture[0].permute(1, 2, 0).numpy(), (11, 11), 1.3, borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(PIXELS["blur"](picture, drawer(1), 1.3)[0].permute(1, 2, 0), wanted, atol=1e-5)


def test_light_is_harmonic_and_colours_can_be_told_apart():
    light = uneven_light(drawer(50), 24)
    assert float(light.amin()) == 0.0
    assert float(light.amax()) == pytest.approx(1.0)
    # Stretched along its axes it stays of the form cosh(y) sin(x); of equal stretch its Laplacian is 0.
    ink = torch.zeros(50, 1, 24, 24)
    ink[:, :, 8:16, 8:16] = 1.0
    picture = coloured(ink, drawer(50))
    luma = (picture * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1)
    gap = (luma[:, 8:16, 8:16].mean((1, 2)) - luma[:, :8].mean((1, 2))).abs()
    assert float((gap > 0.5 * CONTRAST).float().mean()) > 0.8
    grey = (picture[:, 0] - picture[:, 1]).abs().amax((1, 2)) < 1e-6
    assert 2 <= int(grey.sum()) <= 22


def test_examples_are_the_same_whenever_they_are_asked_for():
    source = NoisyGlyphs(a_pool(), ("clean", "gauss:0.3", "clutter"), 5, 1000)
    together = source.examples(torch.tensor([3, 999, 40]))
    for place, number in enumerate((3, 999, 40)):
        alone = source.examples(torch.tensor([number]))
        for name, value in alone.items():
            torch.testing.assert_close(together[name][place : place + 1], value, atol=1e-5, rtol=0)
    in_order = NoisyGlyphs(a_pool(), ("clean",), 0)
    assert in_order.examples(torch.arange(6))["label"].tolist() == [0, 1, 2, 0, 1, 2]
    assert len(in_order) == 6


def test_environment_streams_draw_what_they_draw_alone():
    many, few = EnvironmentRandom(5, 3), EnvironmentRandom(2, 3)
    one = random_affine(lambda k: many.uniform(torch.arange(5), k).float(), 5)
    other = random_affine(lambda k: few.uniform(torch.arange(2), k).float(), 2)
    assert torch.allclose(one[:2], other)
