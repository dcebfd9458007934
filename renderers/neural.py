"""The neural renderer: a network that imitates the exact rasterizer, so that strokes have gradients.

    shape (B, 10) -> Linear, ReLU, ... -> (B, c, w, w)
      -> [Conv3x3 c -> 2c, ReLU, Conv3x3 2c -> 2c, PixelShuffle(2)] -> (B, c/2, 2w, 2w)  each stage but the last
      -> [Conv3x3 c -> 2c, ReLU, Conv3x3 2c -> 4,  PixelShuffle(2)] -> (B, 1, W, W) -> sigmoid

No activation between the second convolution of a pair and PixelShuffle, no normalization (Learning to Paint,
arXiv:1903.04411, section 3.1; 11,040,812 parameters at W = 128 with the paper's widths). The network's sigmoid is the
opacity; the official code draws 1 minus that, on white paper.

decoder="nearest" is the older network of the same authors (arXiv:1806.08990, model.py; 11,029,441 parameters at W=64):

    -> (B, 16, W/4, W/4) -> nearest x2 -> [Conv3x3 16 -> 16, ReLU] twice -> nearest x2 -> Conv3x3 16 -> 16, ReLU
      -> Conv3x3 16 -> 1 -> sigmoid

Shapes: B strokes, W side of the canvas.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from renderers.strokes import GLYPH, GLYPH_SIZE, RASTERIZED, SHAPE_SIZE
from rlsuite.errors import require, require_choice
from rlsuite.weights_file import read_weights, write_weights

FORMAT = "rlsuite neural renderer 1"
# Side of the canvas -> widths of the fully connected layers, channels of their reshaped output, stages.
PAPER_SIZES = {128: ((512, 1024, 2048, 4096), 16, 3), 64: ((256, 512, 1024, 2048), 8, 2), 32: ((256, 512, 1024), 16, 2)}
NEAREST_SIZES = {64: ((512, 1024, 2048, 4096), 16, 2), 32: ((256, 512, 1024), 16, 2)}
DECODERS = {"shuffle": PAPER_SIZES, "nearest": NEAREST_SIZES}


class NeuralRenderer(nn.Module):
    """A stroke's shape -> its opacity map.

    Args:
        size: W; 128 has the paper's network, 64 and 32 smaller ones.
        brush: whose strokes it imitates; kept with the weights.
        decoder: "shuffle" or "nearest", see above.
        initialization: "kaiming" or "default" (torch's own, as in the official code). From the default, with a large
            learning rate, training can stay at the mean picture for thousands of steps.
        generator: random stream of the initial weights.

    Raises:
        UserError: if there is no network of this size, or no such decoder.
    """

    def __init__(
        self,
        size: int = 128,
        *,
        brush: str = "bezier",
        decoder: str = "shuffle",
        initialization: str = "kaiming",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        require_choice("decoder", decoder, DECODERS)
        sizes = DECODERS[decoder]
        require(size in sizes, f"size={size}: neural renderers have {', '.join(map(str, sorted(sizes)))}")
        self.size, self.brush, self.decoder = size, brush, decoder
        self.inputs = GLYPH_SIZE if brush == GLYPH else SHAPE_SIZE
        widths, channels, stages = sizes[size]
        self.channels, self.start = channels, size >> stages
        layers: list[nn.Module] = []
        for inputs, outputs in zip((self.inputs, *widths[:-1]), widths, strict=True):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.dense = nn.Sequential(*layers)
        pairs: list[nn.Module] = []
        if decoder == "nearest":
            for outputs in ((channels, channels), (channels, 1)):
                pairs.append(nn.Upsample(scale_factor=2))
                for out in outputs:
                    pairs += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()]
            pairs.pop()  # a sigmoid comes last
            stages = 0
        for stage in range(stages):
            out = 4 if stage == stages - 1 else 2 * channels
            pairs += [
                nn.Conv2d(channels, 2 * channels, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(2 * channels, out, 3, padding=1),
                nn.PixelShuffle(2),
            ]
            channels //= 2
        self.convolutions = nn.Sequential(*pairs)
        initial = nn.init.kaiming_normal_ if decoder == "shuffle" else nn.init.kaiming_uniform_
        if initialization == "kaiming":
            for module in self.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    initial(module.weight, nonlinearity="relu", generator=generator)
                    nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, shape: Tensor) -> Tensor:
        """Draw shapes (..., 10); return opacity maps (..., W, W)."""
        flat = self.dense(shape.reshape(-1, shape.shape[-1])[:, : self.inputs])
        picture = self.convolutions(flat.view(-1, self.channels, self.start, self.start))
        return torch.sigmoid(picture).view(*shape.shape[:-1], self.size, self.size)


def save_renderer(renderer: NeuralRenderer, path: Path, metadata: dict[str, Any]) -> None:
    """Write weights and metadata (how they were made, how good they are) to a safetensors file."""
    about = {"size": renderer.size, "brush": renderer.brush, "decoder": renderer.decoder, **metadata}
    write_weights(path, renderer.state_dict(), about, format=FORMAT)


def load_renderer(path: Path | str, *, device: torch.device | str = "cpu") -> NeuralRenderer:
    """Read what save_renderer wrote; the weights are frozen.

    Raises:
        UserError: if the file is missing or is none of a neural renderer's.
    """
    about, tensors = read_weights(
        path,
        format=FORMAT,
        fields={"size": int, "brush": str},
        expected=lambda about: _from(about).state_dict(),
        refusal=lambda reason: (
            f"renderer_weights={path}: no neural renderer can be read from it ({reason}); make one with: "
            "python scripts/painter/train_renderer.py output=PATH"
        ),
    )
    renderer = _from(about)
    renderer.load_state_dict(tensors)
    return renderer.to(device).requires_grad_(False)


def _from(about: dict[str, Any]) -> NeuralRenderer:
    require(about["brush"] in RASTERIZED, f"its brush is {about['brush'][:40]!r}")
    return NeuralRenderer(about["size"], brush=about["brush"], decoder=str(about.get("decoder", "shuffle")))
