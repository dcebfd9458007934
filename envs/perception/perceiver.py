"""What a perceiver is: fields of a camera frame come in, fields go out, all that it remembers is a state of tensors.

A wrapper calls it once for every step of the environments; between two camera frames the last one is shown again. Each
environment has its own clock, which begins with its episode:

    step              0      1      2      3      4          camera.every=2
    seen["rgb"]       P0     P0     P1     P1     P2
    seen["phase"]     0      1/2    0      1/2    0          0: a fresh frame

A perceiver whose `lookahead` is L returns what was at `step - L * every`: the interpolator, with L = 1, keeps the last
two frames in its state and returns, at step 3, what lay half-way between P0 and P1. In an episode's first L * every
steps, where there is nothing that old, it returns the oldest frame it has. A state belongs to one episode: the rows of
`init_state` replace those of environments that begin a new one, so nothing is ever made of two episodes' frames.

Shapes: B batch, H and W sides of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from rlsuite.data.source import Source
from rlsuite.errors import UserError

State = dict[str, Tensor]
Seen = dict[str, Tensor]


class Perceiver(nn.Module):
    """The base of all perceivers. It draws no random numbers: what it returns depends on frames and weights alone.

    A concrete one's constructor takes `config` by name, and nothing else that has no default.

    Attributes:
        Config: the frozen dataclass of its numbers. A learned one's has `weights: str = ""`, a path.
        inputs: names of fields it reads.
        outputs: names of fields it returns; one of the same name as an input takes its place.
        lookahead: camera frames by which what it returns lags.
        shipped: path of weights that come with the suite, for `weights=""`; "" where there are none.
        network: tensors in, tensors out: what is saved in a weights file and what evaluation judges. What only training
            needs, such as a teacher, is kept beside it.
    """

    Config: ClassVar[type[Any]]
    inputs: ClassVar[tuple[str, ...]] = ("rgb",)
    outputs: ClassVar[tuple[str, ...]] = ("rgb",)
    lookahead: ClassVar[int] = 0
    shipped: ClassVar[str] = ""
    network: nn.Module

    def __init__(self, *, config: Any) -> None:
        super().__init__()
        self.config = config
        self.network = nn.Identity()

    def init_state(self, batch: int, size: tuple[int, int]) -> State:
        """Return the state of B environments that have seen nothing yet: tensors (B, ...) on the network's device.

        Args:
            batch: B.
            size: (H, W) of the pictures to come.
        """
        return {}

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return what is perceived, and the state after it; arguments are left as they are. Row by row.

        Args:
            seen: the fields of `inputs`, and "phase" (B,) float32 in [0, 1): the time since the last camera frame, in
                camera frames. Fields are those of the last camera frame.
            state: of `init_state`, or what the last call returned.

        Returns:
            The fields of `outputs` (B, ...), and the new state, of the same names, shapes and dtypes.
        """
        raise NotImplementedError

    def source(self, data: str, size: int, seed: int, clips: Sequence[Tensor] = (), kept: int = 0) -> Source:
        """Return the examples that `losses` takes, for scripts/train_perceiver.py.

        Args:
            data: where real ones lie, or one of the names that the perceiver knows; "" for what it takes without.
            size: side of the pictures, in pixels.
            seed: of what is drawn.
            clips: frames of cameras that follow each other, each (T, 3, H, W) uint8, to be used instead.
            kept: how many examples are made and kept, to be seen again in other ways; 0 for new ones always.

        Raises:
            UserError: if there are none, or it learns from nothing.
        """
        raise UserError(f"{type(self).__name__} learns from no examples; name another perception=")

    def progress(self, share: float) -> None:
        """Take note, before each minibatch, of which share of a training is done; for losses that change with it."""

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return 0-d losses of a batch of examples, "loss" being what is minimized; for `rlsuite.fit.fit`."""
        raise NotImplementedError

    def metrics(self, predicted: Seen, truth: Seen) -> dict[str, Tensor]:
        """Return how good fields are, one number (B,) an example each."""
        raise NotImplementedError
