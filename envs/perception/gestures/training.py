"""How STMC is trained (arXiv:2002.03187): in stages, whose labels of single steps come from alignments.

1. The pose branch alone, for a while: crops at places that mean nothing yet would teach little. Our choice.
2. The whole network by CTC from sentences alone: an aligner.
3. The aligner's likeliest paths label every step of every video (`decoding.align`). On short clips of whole steps
   the network without its LSTMs learns those labels by cross-entropy, a linear layer on each stream, and the pose.
4. The whole network by CTC again, its cues now able to tell words by themselves. 3 and 4 may come again.

The paper's aligner is a network over full frames alone, and its labels have no blank; here any STMC aligns, and blank
is a class like others. On the small videos of `sentences.py` stages 1 and 2 are enough.

Shapes: B videos, T frames, S steps, K key points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.perception.gestures.decoding import align
from envs.perception.gestures.heads import SequenceHead, feasible
from envs.perception.gestures.stmc import STMC, pose_loss
from rlsuite.data.source import Source, Subset
from rlsuite.errors import require
from rlsuite.fit import FitConfig, History, Loss, fit
from rlsuite.optim.choice import OptimizerConfig
from rlsuite.running.seeding import derive_seed

_IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class StagesConfig:
    """The stages; the learning rates and batches of the last two are the paper's.

    Attributes:
        pose: stage 1; null to leave it out.
        sentences: stage 2; null where an aligner is given.
        clips: stage 3; null to leave it and what follows out.
        again: stage 4.
        clip_frames: frames of a clip, a multiple of the frames of a step.
        rounds: how often 3 and 4 come.
    """

    pose: FitConfig | None = None
    sentences: FitConfig | None = field(default_factory=FitConfig)
    clips: FitConfig | None = field(
        default_factory=lambda: FitConfig(batch_size=24, optimizer=OptimizerConfig(name="sgd", learning_rate=5e-3))
    )
    again: FitConfig = field(
        default_factory=lambda: FitConfig(batch_size=2, optimizer=OptimizerConfig(learning_rate=5e-5))
    )
    clip_frames: int = 16
    rounds: int = 1

    def __post_init__(self) -> None:
        for name in ("clip_frames", "rounds"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


def train_in_stages(
    model: STMC, source: Source, config: StagesConfig, *, seed: int, aligner: STMC | None = None
) -> dict[str, History]:
    """Train a network; return the histories of its stages by name.

    Args:
        model: which.
        source: videos, as `STMC.losses` takes batches of them, all long enough (`long_enough`).
        config: the stages.
        seed: of minibatches, and of the linear layers.
        aligner: what labels the clips of the first round; None for the network itself.
    """
    found: dict[str, History] = {}

    def stage(name: str, how: FitConfig, module: nn.Module, loss: Loss, examples: Source) -> None:
        found[name] = fit(module, loss, examples, how, seed=derive_seed(seed, name))

    if config.pose is not None:
        stage("pose", config.pose, model, pose_losses, source)
    if config.sentences is not None:
        stage("sentences", config.sentences, model, sentence_losses, source)
    for number in range(config.rounds if config.clips is not None else 0):
        assert config.clips is not None
        clips = AlignedClips(source, aligner if aligner and not number else model, config.clip_frames)
        steps = StepClassifiers(model, derive_seed(seed, f"classifiers {number}"))
        stage(f"clips {number}", config.clips, steps, lambda _, batch, steps=steps: steps.losses(batch), clips)
        stage(f"again {number}", config.again, model, sentence_losses, source)
    return found


def sentence_losses(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `STMC.losses`, for `rlsuite.fit.fit`."""
    assert isinstance(model, STMC)
    return model.losses(batch)


def pose_losses(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the loss of the pose branch alone, which is not run over time."""
    assert isinstance(model, STMC)
    there = torch.arange(batch["video"].shape[1], device=batch["video"].device) < batch["length"].unsqueeze(1)
    _, found = model.spatial(batch["video"][there])
    require(found is not None, "the network looks for no key points; leave the stage of the pose out")
    assert found is not None
    return {"loss": functional.smooth_l1_loss(found, batch["keypoints"][there])}


def long_enough(source: Source, model: STMC) -> Subset:
    """Return the videos of a source that are long enough for CTC to spell their words."""
    frames = 2**model.config.blocks
    kept = []
    for index in torch.arange(len(source)).split(64):
        batch = source.examples(index)
        kept.append(index[feasible(batch["length"] // frames, batch["words"], batch["count"])])
    found = torch.cat(kept)
    require(len(found) > 0, "no video is long enough for its words; use longer ones")
    return Subset(source, found)


class StepClassifiers(nn.Module):
    """A network whose streams are classified step by step: no LSTM, a linear layer on each.

    Args:
        model: the network, which learns with them.
        seed: of the layers.
    """

    def __init__(self, model: STMC, seed: int) -> None:
        super().__init__()
        self.model = model
        cues, channels, words = len(model.config.spatial.cues), model.config.channels, len(model.vocabulary)
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(seed)
            self.inter = SequenceHead(channels, 0, words)
            self.intra = nn.ModuleList(SequenceHead(channels // cues, 0, words) for _ in range(cues))
        self.to(next(model.parameters()).device)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return 0-d losses as `STMC.losses`, cross-entropy for CTC; "labels" (B, S) are classes, or -100 for none."""
        config, labels = self.model.config, batch["labels"]
        found = self.model.streams(batch["video"], batch["length"])

        def cross_entropy(head: nn.Module, stream: Tensor) -> Tensor:
            log_probs = head(stream, found.lengths).flatten(0, 1)
            return functional.nll_loss(log_probs, labels.flatten(), ignore_index=_IGNORED)

        losses = {"inter": cross_entropy(self.inter, found.inter)}
        loss = losses["inter"]
        if config.alpha:
            each = [cross_entropy(head, stream) for head, stream in zip(self.intra, found.intra, strict=True)]
            losses["intra"] = torch.stack(each).sum()
            loss = loss + config.alpha * losses["intra"]
        if config.beta and found.keypoints is not None and "keypoints" in batch:
            losses["pose"] = pose_loss(found.keypoints, batch["keypoints"], batch["length"])
            loss = loss + config.beta * losses["pose"]
        return {"loss": loss, **losses}


class AlignedClips:
    """Clips of a source's videos with the label of each step, by an aligner's likeliest path.

    Args:
        source: videos; those too short for their words have to be left out before (`long_enough`).
        aligner: which network labels.
        frames: of a clip, a multiple of those of a step; what is left over at a video's end is in no clip, unless the
            video is shorter than a clip.

    Attributes:
        clips: (M, 2) int64: the number of the video, and the first frame.
        labels: by video, the class of each of its steps.
    """

    def __init__(self, source: Source, aligner: STMC, frames: int) -> None:
        self.step = 2**aligner.config.blocks
        require(frames % self.step == 0, f"clip_frames={frames}: use a multiple of {self.step}")
        self.source, self.frames = source, frames
        self.labels: list[list[int]] = []
        clips: list[tuple[int, int]] = []
        for index in torch.arange(len(source)).split(32):
            batch = source.examples(index)
            for label, length in zip(labels_of(aligner, batch), batch["length"].tolist(), strict=True):
                video = len(self.labels)
                self.labels.append(label)
                clips += [(video, first) for first in range(0, max(1, length - frames + 1), frames)]
        self.clips = torch.tensor(clips)

    def __len__(self) -> int:
        return len(self.clips)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return clips at index (B,): "video", "length", "keypoints" where there are, and "labels" (B, S)."""
        videos, first = self.clips[index].unbind(1)
        batch = self.source.examples(videos)
        length = (batch["length"] - first).clamp(max=self.frames)
        place = first.unsqueeze(1) + torch.arange(self.frames)
        place = place.clamp_max(batch["video"].shape[1] - 1)
        row = torch.arange(len(index)).unsqueeze(1)
        found = {name: batch[name][row, place] for name in ("video", "keypoints") if name in batch}
        labels = torch.full((len(index), self.frames // self.step), _IGNORED)
        for number, (video, at, long) in enumerate(zip(videos.tolist(), first.tolist(), length.tolist(), strict=True)):
            steps = self.labels[video][at // self.step :][: long // self.step]
            labels[number, : len(steps)] = torch.tensor(steps)
        return {**found, "length": length, "labels": labels}


@torch.no_grad()
def labels_of(aligner: STMC, batch: Mapping[str, Tensor]) -> list[list[int]]:
    """Return the class of each step of each video on the likeliest path that spells its words."""
    device = next(aligner.parameters()).device
    log_probs, steps = aligner(batch["video"].to(device), batch["length"].to(device))
    rows = zip(log_probs.cpu(), steps.tolist(), batch["words"].tolist(), batch["count"].tolist(), strict=True)
    return [align(row[:length], words[:count]) for row, length, words, count in rows]
