"""M-LVC: its parts by hand, causality, streams that come back bit for bit, stages of learning, what is refused."""

import dataclasses

import pytest
import torch

import envs
from envs.perception.catalogue import PERCEPTIONS
from envs.perception.codec.channel import Estimate
from envs.perception.codec.clips import MovingClips, Windows
from envs.perception.codec.jpeg import JPEG, JPEGConfig, decode_jpeg, encode_jpeg, shared_bytes
from envs.perception.codec.m_lvc import MLVC, STAGES, MLVCConfig
from envs.perception.codec.motion_fields import FARTHEST, UNIT, accumulated, moved, to_units
from envs.perception.codec.network import MLVCNet, MLVCNetConfig, past_of, to_bytes_and_back
from envs.perception.weights import choose_perceivers, save_perceiver
from rlsuite.config.camera import CameraConfig
from rlsuite.errors import UserError
from rlsuite.methods import choose

TINY = MLVCNetConfig(divisor=8)


@pytest.fixture
def clip(generator):
    textures = torch.randint(0, 256, (4, 3, 24, 24), generator=generator, dtype=torch.uint8)
    textures = torch.nn.functional.interpolate(textures.float(), 96, mode="bilinear").to(torch.uint8)
    return MovingClips(textures, 64, seed=3, length=4).examples(torch.arange(2))


@pytest.fixture
def codec():
    return MLVC(config=MLVCConfig(network=TINY, gop=3), seed=1).eval()


def test_motion_is_followed_back_by_hand():
    """Everything moves right: 4 pixels a frame, then 2, then 1; each field is uniform, so warping changes none."""
    fields = [torch.tensor([-pixels / UNIT, 0.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8) for pixels in (1.0, 2.0, 4.0)]
    found = [float(UNIT * one[0, 0, 4, 4]) for one in accumulated(fields[0], fields[1:])]
    assert found == pytest.approx([-1.0, -3.0, -7.0], abs=1e-4)
    picture = torch.arange(8.0).expand(1, 1, 8, 8)
    assert moved(picture, fields[1])[0, 0, 0].tolist() == pytest.approx([0, 0, 0, 1, 2, 3, 4, 5], abs=1e-4)
    wild = to_units(torch.tensor([float("nan"), 1e12]).view(1, 2, 1, 1))
    assert wild.flatten().tolist() == pytest.approx([0.0, FARTHEST / UNIT])


def test_earlier_motion_is_warped_before_it_is_added():
    first = torch.zeros(1, 2, 4, 4)
    first[:, 0] = 1.0 / UNIT  # from now one pixel right
    before = torch.zeros(1, 2, 4, 4)
    before[0, 1, :, 2] = 3.0 / UNIT  # what is in column 2 came from three pixels below
    back = UNIT * accumulated(first, [before])[1]
    assert back[0, 0, 0].tolist() == pytest.approx([1.0] * 4)
    assert back[0, 1, 0].tolist() == pytest.approx([0.0, 3.0, 0.0, 0.0], abs=1e-4)


def test_the_papers_widths():
    net = MLVCNet(MLVCNetConfig(divisor=1))
    assert net.motion_transform.analysis[6].weight.shape == (192, 192, 5, 5)
    assert net.motion_transform.analysis[6].bias is None
    assert net.residual_transform.analysis[6].weight.shape == (192, 128, 5, 5)
    assert net.residual_transform.synthesis[6].weight.shape == (128, 32, 5, 5)
    assert net.hyperprior.synthesis[4].weight.shape == (192, 128, 3, 3)
    assert net.compensation.fusion.enter[0].weight.shape == (64, 3 + 4 * 32, 3, 3)
    assert net.motion_refinement is not None
    assert net.motion_refinement.context[0].weight.shape == (64, 160, 3, 3)
    assert [layer.dilation[0] for layer in net.motion_refinement.context[::2]] == [1, 2, 4, 8, 16, 1]
    assert net.residual_refinement is not None
    assert net.residual_refinement.fusion.enter[0].weight.shape == (48, 32 + 128 + 32, 3, 3)
    assert net.prediction is not None
    assert [head.weight.shape[1] for head in net.prediction.heads] == [32] * 4
    assert net.prediction.estimators[0][0].weight.shape[1] == 3 * 16 + 2 + 32
    assert net.prediction.estimators[3][0].weight.shape[1] == 3 * 24


def test_a_fresh_codec_predicts_nearly_the_last_frame_warped(codec, clip):
    frames = clip["frames"].float() / 255.0
    past, field = past_of(frames[:, 0]), to_units(clip["flow"][:, 0])
    with torch.no_grad():
        predicted = codec.network.compensate(past, field).frame
    near = moved(frames[:, 0], field)
    assert float((predicted - near).square().mean()) < 0.1 * float((near - frames[:, 1]).square().mean()) + 1e-4
    assert to_bytes_and_back(torch.tensor([-1.0, 0.1, 0.5004, 2.0])).mul(255).tolist() == pytest.approx(
        [0, 26, 128, 255], abs=1e-4
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_a_fresh_residual_learns_as_much_of_errors_with_refinement_as_without(clip, seed):
    frames = clip["frames"].float() / 255.0

    def gradient(refinement):
        net = MLVCNet(dataclasses.replace(TINY, refinement=refinement), seed)
        with torch.no_grad():
            predicted = net.compensate(past_of(frames[:, 0]), to_units(clip["flow"][:, 0]))
        decoded = net.code_residual(Estimate(noisy=False), predicted, frames[:, 1])
        (decoded - frames[:, 1]).square().mean().backward()
        return float(net.residual_transform.synthesis[0].weight.grad.norm())

    assert gradient(True) > 0.1 * gradient(False)


def test_switched_off_parts_are_not_there(clip):
    net = MLVCNet(dataclasses.replace(TINY, prediction=False, refinement=False, references=1))
    assert net.prediction is None
    assert net.motion_refinement is None
    assert net.residual_refinement is None
    frames = clip["frames"].float() / 255.0
    past, channel = past_of(frames[:, 0]), Estimate(noisy=False)
    motion = net.code_motion(channel, past, to_units(clip["flow"][:, 0]))
    assert motion.refined is motion.decoded
    assert float(motion.predicted.abs().max()) == 0.0
    assert net.code_residual(channel, net.compensate(past, motion.refined), frames[:, 1]).shape == (2, 3, 64, 64)
    assert set(channel.bits) == {"motion", "hyper", "residual"}


@torch.no_grad()
def test_a_stream_decodes_to_the_encoders_frames_which_are_what_an_agent_sees(codec, clip):
    frames, flow = clip["frames"][0, :, :, :50, :61], clip["flow"][0, :, :, :50, :61]
    data, shown = codec.coded(frames, flow)
    assert data[:4] == b"MLVC"
    assert torch.equal(codec.decompress(data), shown)
    assert codec.compress(frames, flow) == data
    state = codec.init_state(1, (50, 61))
    for number, frame in enumerate(frames):
        given = flow[max(0, number - 1)][None]
        seen = {"rgb": frame[None] / 255.0, "flow": given, "phase": torch.zeros(1)}
        made, state = codec(seen, state)
        assert torch.equal((255 * made["rgb"][0]).round().to(torch.uint8), shown[number])
        again, same = codec({**seen, "phase": torch.full((1,), 0.5)}, state)
        assert torch.equal(again["rgb"], made["rgb"])
        assert torch.equal(same["coded"], state["coded"])
    alone = JPEG(config=JPEGConfig(quality=codec.quality))
    own = len(encode_jpeg(frames[0], codec.quality)[1]) + len(encode_jpeg(frames[3], codec.quality)[1])
    assert torch.equal(shown[3], alone.decompress(alone.compress(frames[3:]))[0])  # gop=3: coded by itself again
    tables = len(shared_bytes(50, 61, codec.quality))
    # A header, lengths, and for each of two frames the state's four bytes come on top of the estimate.
    assert abs(len(data) - tables - float(state["bits"]) / 8) < 64 + 0.02 * len(data)
    assert own < float(state["bits"]) / 8


def test_later_frames_change_nothing_before_them(codec, clip):
    frames, flow = clip["frames"][0].clone(), clip["flow"][0]
    _, shown = codec.coded(frames, flow)
    frames[2:] = 255 - frames[2:]
    _, other = codec.coded(frames, flow)
    assert torch.equal(shown[:2], other[:2])
    assert not torch.equal(shown[2], other[2])


def test_damaged_and_foreign_streams_are_refused(codec, clip):
    data = codec.compress(clip["frames"][0, :3], clip["flow"][0, :2])
    other = MLVC(config=codec.config, seed=2).eval()
    with pytest.raises(UserError, match="other weights"):
        other.decompress(data)
    for wrong in (b"", b"MLVC", b"no stream at all" * 9):
        with pytest.raises(UserError, match="no M-LVC stream"):
            codec.decompress(wrong)
    flipped = bytes([*data[:-40], data[-40] ^ 1, *data[-39:]])
    for wrong in (data[:-1], data[:100], data + b"\0", flipped, bytes([*data[:5], 0, 0, 0, *data[8:]])):
        with pytest.raises(UserError, match=r"stream|frame"):
            codec.decompress(wrong)
    with pytest.raises(UserError, match="no frames"):
        codec.compress(clip["frames"][0, :0])


def test_opencvs_motion_is_taken_where_there_is_none(clip):
    pytest.importorskip("cv2", reason="OpenCV is not installed (extra: vision)")
    codec = MLVC(config=MLVCConfig(network=TINY, motion="dis"), seed=1).eval()
    assert codec.inputs == ("rgb",)
    data, shown = codec.coded(clip["frames"][0, :2])
    assert torch.equal(codec.decompress(data), shown)
    losses = codec.losses({"frames": clip["frames"][:1, :2]})
    assert losses["loss"].isfinite()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_teaches_its_own_part(codec, clip, stage):
    codec.train()
    codec.progress({"motion": 0.0, "compensation": 0.3, "residual": 0.5, "joint": 0.7}[stage])
    assert codec.stage == stage
    losses = codec.losses({name: value[:, :2] for name, value in clip.items()})
    assert float(losses["loss"].detach()) == pytest.approx(
        float(losses["distortion"].detach()) + 16 * float(losses["bits_per_pixel"].detach()), rel=1e-5
    )
    losses["loss"].backward()
    learned = {name.split(".")[0] for name, value in codec.network.named_parameters() if value.grad is not None}
    motion = {"prediction", "motion_transform", "motion_prior", "motion_refinement"}
    residual = {"residual_transform", "hyperprior", "residual_refinement"}
    wanted = {"motion": motion, "compensation": {"compensation"}, "residual": residual}
    assert learned == wanted.get(stage, motion | {"compensation"} | residual)


def test_clips_move_by_their_flow(clip):
    frames, flow = clip["frames"].float() / 255.0, clip["flow"]
    assert flow.shape == (2, 3, 2, 64, 64)
    still = (frames[:, 1] - frames[:, 0]).square().mean()
    assert float((moved(frames[:, 0], to_units(flow[:, 0])) - frames[:, 1]).square().mean()) < 0.5 * float(still)


def test_windows_are_cut_from_clips():
    clips = [torch.arange(9).view(9, 1, 1, 1).expand(9, 3, 70, 66).to(torch.uint8) + 100 * place for place in (0, 1)]
    found = Windows(clips, 64, seed=0, length=7).examples(torch.arange(40))["frames"]
    assert found.shape == (40, 7, 3, 64, 64)
    firsts = found[:, 0, 0, 0, 0]
    assert set(firsts.tolist()) == {0, 1, 2, 100, 101, 102}
    assert bool((found[:, 1:].long() - found[:, :-1].long() == 1).all())
    with pytest.raises(UserError, match="7 are needed"):
        Windows([clips[0][:6]], 64)
    with pytest.raises(UserError, match="use 66 or less"):
        Windows(clips, 67)


def test_jpegs_tables_are_kept_once(clip):
    coder, frames = JPEG(config=JPEGConfig(quality=60)), clip["frames"][0]
    shared, own = encode_jpeg(frames[0], 60)
    assert shared == shared_bytes(64, 64, 60)
    data = coder.compress(frames)
    assert len(data) == sum(len(encode_jpeg(frame, 60)[1]) + 2 for frame in frames) + len(shared) + 2
    back = coder.decompress(data)
    assert torch.equal(back[0], decode_jpeg(shared, own))
    assert float((back.float() - frames.float()).abs().mean()) < 12
    with pytest.raises(UserError, match="fetch it again"):
        coder.decompress(data[:-3])
    with pytest.raises(UserError, match="no frame"):
        coder.decompress(b"")


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ({"rate_weight": 17}, "use one of 16, 24, 40, 64"),
        ({"motion": "pwc"}, "exact, dis"),
        ({"gop": 0}, "use 1 to 255"),
        ({"stages": (0.5, 0.3, 0.7)}, "three rising shares"),
    ],
)
def test_what_is_refused(numbers, match):
    with pytest.raises(UserError, match=match):
        MLVCConfig(**numbers)
    with pytest.raises(UserError, match="divisor"):
        MLVCNetConfig(divisor=3)
    with pytest.raises(UserError, match="quality"):
        JPEGConfig(quality=0)


@pytest.mark.slow
def test_between_cameras_and_an_agent_and_its_state_comes_back(tmp_path):
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
    path = tmp_path / "m_lvc.safetensors"
    (method,) = choose(PERCEPTIONS, ["m_lvc"], {"m_lvc.network.divisor": 8, "m_lvc.gop": 3})
    save_perceiver(path, method.build(seed=1), method)
    methods = choose_perceivers(["m_lvc"], {"m_lvc.weights": str(path)})

    def made():
        return envs.make_vector("Reacher", 2, num_threads=1, camera=CameraConfig(size=32, stack=1), perception=methods)

    env, other = made(), made()
    action = torch.tensor([[0.9, -0.5], [-0.7, 0.3]])
    env.reset(seed=0)
    env.step(action)
    kept = env.state()
    assert kept["perception/0.state.coded"].tolist() == [2, 2]
    assert bool((kept["perception/0.state.bits"] > 0).all())
    other.reset(seed=5)
    other.load_state(kept)
    for _ in range(3):
        assert torch.equal(env.step(action)[0], other.step(action)[0])
    env.close()
    other.close()
