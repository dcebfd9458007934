"""Extractors and readers: sizes, equalization, learning, resuming after a kill, gradients, files."""

import dataclasses
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from paths import ROOT
from torch import nn

from agents.stroke_recognizer.extraction import Extraction, ExtractionConfig, extraction_loss, teach_extractor
from agents.stroke_recognizer.extractor import Extractor, ExtractorConfig, equalized, prepared
from agents.stroke_recognizer.read import Reader, Redraw, extractor_redraw, redrawn_examples
from agents.stroke_recognizer.recognizer import WAYS, PlainReader, Recognizer, RecognizerConfig
from agents.stroke_recognizer.teaching import TeachingConfig, accuracy, teach_readers
from agents.stroke_recognizer.weights import Readers, load_readers, save_readers
from envs.characters.examples import NoisyGlyphs
from envs.characters.glyphs import glyph_pool
from envs.characters.pixels import luma
from envs.evaluation.attacks.attack import inside
from envs.evaluation.attacks.gradient import FGSM, PGD, PGDConfig
from renderers.soft import EDGE
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig

SMALL = ExtractorConfig(size=16, strokes=2)


def pictures(number=4, channels=3, size=16, seed=0):
    return torch.rand(number, channels, size, size, generator=torch.Generator().manual_seed(seed))


def source(noises=("clean", "gauss:0.3"), length=400):
    return NoisyGlyphs(glyph_pool("digits", 16, "train"), noises, 3, length)


@pytest.mark.parametrize(
    ("network", "size", "features"), [("vgg16", 64, 2048), ("resnet", 64, 512), ("small", 32, 2048)]
)
def test_networks_have_the_papers_sizes(network, size, features):
    extractor = Extractor(ExtractorConfig(size=size, network=network), 0)
    first = next(layer for layer in extractor.head if isinstance(layer, nn.Linear))
    assert first.in_features == features
    numbers = extractor(pictures(2, 3, size)).detach()
    assert numbers.shape == (2, 36)
    assert 0 < float(numbers.min()) < float(numbers.max()) < 1
    if network == "vgg16":
        assert sum(isinstance(layer, nn.Conv2d) for layer in extractor.modules()) == 13
        assert extractor.head[0].out_features == 256


def test_sizes_that_do_not_fit_are_refused():
    for changes, message in (
        ({"size": 40, "network": "vgg16"}, "network=vgg16 needs a multiple of 32"),
        ({"network": "alexnet"}, "network=alexnet"),
        ({"strokes": 0}, "strokes=0"),
    ):
        with pytest.raises(UserError, match=message):
            ExtractorConfig(**changes)  # type: ignore[arg-type]


def test_equalization_is_opencvs_of_the_luma():
    cv2 = pytest.importorskip("cv2")
    grey = (pictures(3, 1) * 120 + 40).round() / 255
    for one in grey:
        wanted = cv2.equalizeHist((one[0] * 255).round().to(torch.uint8).numpy())
        found = equalized(one.expand(3, -1, -1).unsqueeze(0))[0]
        np.testing.assert_allclose(found[0] * 255, wanted, atol=0.51)
        assert torch.allclose(found[0], found[2])
    flat = torch.full((1, 3, 8, 8), 0.3)
    assert torch.equal(equalized(flat), flat)
    colour = pictures(2)
    found = equalized(colour)
    moved = found - colour
    between = (found > 0) & (found < 1)
    within = between[:, 0] & between[:, 2]
    assert 0 < within.sum() < within.numel()
    assert torch.allclose(moved[:, 0][within], moved[:, 2][within], atol=1e-6)  # U and V stay
    assert float(found.min()) == 0.0
    assert float(found.max()) == 1.0
    leaf = colour.requires_grad_()
    (gradient,) = torch.autograd.grad(equalized(leaf).sum(), leaf)
    assert (gradient == 1).all()


def test_equalized_colours_are_opencvs():
    """Of a picture whose luma and colours are far apart, so that channels end beyond black and white."""
    cv2 = pytest.importorskip("cv2")
    bytes_ = (pictures(1)[0].permute(1, 2, 0) * 140 + 60).round().to(torch.uint8).numpy()
    split = cv2.cvtColor(bytes_, cv2.COLOR_RGB2YUV)
    split[..., 0] = cv2.equalizeHist(split[..., 0])
    wanted = cv2.cvtColor(split, cv2.COLOR_YUV2RGB)
    found = equalized(torch.from_numpy(bytes_).permute(2, 0, 1)[None] / 255.0)[0].permute(1, 2, 0) * 255
    assert {0, 255} <= set(wanted.flatten().tolist())
    np.testing.assert_allclose(found, wanted, atol=3.0)  # bytes of Y, U and V are rounded between


def test_pictures_of_any_size_and_kind_come_in():
    extractor = Extractor(SMALL, 0).eval()
    grey = pictures(2, 1)
    assert torch.allclose(extractor(grey), extractor(grey.expand(-1, 3, -1, -1)), atol=1e-6)
    assert extractor((pictures(2, 3, 40) * 255).to(torch.uint8)).shape == (2, 18)
    assert prepared(pictures(1, 1, 8), 16).shape == (1, 3, 16, 16)
    assert float(luma(torch.ones(1, 3, 2, 2)).mean()) == pytest.approx(1.0)


def test_the_loss_by_hand_and_the_schedule():
    module = Extraction(ExtractionConfig(extractor=SMALL, auxiliary=0.5), 0).eval()
    batch = source().examples(torch.arange(4))
    module.harden(0, 0.0)
    assert (module.edge, module.temperature) == (4.0, 0.1)
    module.harden(0, 0.25)
    assert (module.edge, module.temperature) == (pytest.approx((4 * EDGE) ** 0.5), pytest.approx(0.05))
    module.harden(0, 1.0)
    assert (module.edge, module.temperature) == (EDGE, 0.0)
    with torch.no_grad():
        numbers, glyph, scores = module(batch["input"])
        losses = extraction_loss(module, batch)
    assert torch.equal(glyph, Redraw(module.extractor, 16)(batch["input"]))  # hardened, they are one
    error = (glyph - batch["clean"]).square().mean()
    cross_entropy = -scores.log_softmax(1)[torch.arange(4), batch["label"]].mean()
    torch.testing.assert_close(losses["loss"], error + 0.5 * cross_entropy)
    assert torch.equal(scores, module.head(numbers))


def test_an_extractor_learns_to_redraw():
    config = ExtractionConfig(extractor=SMALL, fit=FitConfig(steps=60, order="random", check_every=20))
    before, seen = Extraction(config, 0).eval(), source().examples(torch.arange(64))
    module, history = teach_extractor(config, source(), seed=0)

    def error(extraction):
        with torch.no_grad():
            return float((Redraw(extraction.extractor, 16)(seen["input"]) - seen["clean"]).square().mean())

    assert error(module) < 0.6 * error(before)
    assert not module.training
    assert history.steps == 60


TEACHING = TeachingConfig(
    data="digits", size=16, strokes=2, steps=10, pool=200, redrawn=64, recognizer_steps=8, check_every=2, save_every=2
)
SCRIPT = [
    "data=digits", "size=16", "strokes=2", "steps=40", "pool=200", "redrawn=64", "recognizer_steps=8", "check_every=2",
    "save_every=2", "num_threads=1",
]  # fmt: skip


def test_a_training_that_was_killed_goes_on_to_the_same_bits(tmp_path):
    def command(name, *more):
        script = str(ROOT / "scripts" / "train_extractor.py")
        return [sys.executable, script, *SCRIPT, f"output={tmp_path / name}", *more]

    run = tmp_path / "run"
    with subprocess.Popen(command("killed.safetensors", f"run_dir={run}"), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(run.glob("**/*4*")):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    whole = TeachingConfig(**{**dataclasses.asdict(TEACHING), "steps": 40})
    resumed = teach_readers(whole, run)
    alone = teach_readers(whole)
    for name, value in alone.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    with pytest.raises(UserError, match="strokes"):
        teach_readers(dataclasses.replace(whole, strokes=3), run)


@pytest.fixture(scope="module")
def readers():
    return teach_readers(TEACHING)


def test_readers_are_kept_in_a_file(readers, tmp_path):
    path = tmp_path / "reader.safetensors"
    save_readers(readers, path, {"seed": 0})
    again = load_readers(path)
    seen = pictures()
    for way in WAYS:
        assert torch.equal(again.reader(way)(seen), readers.reader(way)(seen))
    assert torch.equal(again.plain()(seen), readers.plain()(seen))
    assert again.about["names"] == "0123456789"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"no reader can be read from it .*; make one with scripts/train_extractor.py"):
        load_readers(path)


def test_weights_of_a_painter_are_no_readers():
    from agents.painter.weights import SHIPPED

    with pytest.raises(UserError, match="it holds other weights"):
        load_readers(SHIPPED)


def test_ways_of_reading_see_what_they_should():
    grey, numbers, glyph = pictures(3, 1), torch.rand(3, 18), pictures(3, 1, seed=1)
    others = pictures(3, 1, seed=2), torch.rand(3, 18), pictures(3, 1, seed=3)
    seen = {"redraw": {2}, "params": {1}, "both": {0, 2}}
    for way in WAYS:
        recognizer = Recognizer(RecognizerConfig(size=16, strokes=2, way=way), 0).eval()
        whole = recognizer(grey, numbers, glyph)
        for place in range(3):
            inputs = [grey, numbers, glyph]
            inputs[place] = others[place]
            assert torch.equal(recognizer(*inputs), whole) != (place in seen[way]), (way, place)


def test_a_defence_is_attacked_through_itself(readers):
    """Gradients go through all of it; the adaptive attack stays in the ball and does more than the oblivious one."""
    plain, reader = readers.plain(), readers.reader("redraw")
    defended = nn.Sequential(extractor_redraw(readers.extractor), plain)
    seen = source(("clean",), 0).examples(torch.arange(24))
    x = seen["input"][:, :1]
    torch.testing.assert_close(defended(x), reader(x))
    label = defended(x).argmax(1)  # as it reads them itself

    def objective(module):
        return lambda changed: nn.functional.cross_entropy(module(changed), label, reduction="none")

    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(defended)(leaf).sum(), leaf)
    assert (gradient.flatten(1).abs().sum(1) > 0).float().mean() > 0.9
    attack, generator = PGD(config=PGDConfig(steps=8)), torch.Generator().manual_seed(0)
    adaptive = attack.perturb(objective(defended), x, (0.0, 1.0), 0.3, generator)
    oblivious = FGSM().perturb(objective(plain), x, (0.0, 1.0), 0.3, generator)
    assert torch.equal(adaptive, inside(adaptive, x, (0.0, 1.0), 0.3 + 1e-6))
    assert accuracy(defended, adaptive, label) < accuracy(defended, oblivious, label)
    assert isinstance(plain, PlainReader)
    assert isinstance(reader, Reader)


def test_redrawn_examples_are_what_the_reader_sees(readers):
    redraw = extractor_redraw(readers.extractor)
    examples = redrawn_examples(redraw, source(length=10), at_once=4)
    batch = source(length=10).examples(torch.arange(10))
    reading = readers.reader("params").read(batch["input"])
    found = examples.examples(torch.arange(10))
    torch.testing.assert_close(found["numbers"], reading.numbers)
    torch.testing.assert_close(found["glyph"], reading.glyph)
    assert torch.equal(found["label"], batch["label"])


def test_a_file_that_describes_something_large_is_refused_before_it_is_built(tmp_path):
    about = {"size": 16, "strokes": 2, "network": "small", "names": "01"}
    good = Readers(about)
    for change, message in (
        ({"size": 100_000 - 100_000 % 8}, "no reader"),
        ({"network": "gpt"}, "its network is 'gpt'"),
    ):
        good.about = {**about, **change}
        save_readers(good, tmp_path / "bad.safetensors", {})
        with pytest.raises(UserError, match=message):
            load_readers(tmp_path / "bad.safetensors")
