"""A discriminator is shown older generated pictures beside new ones (Shrivastava et al. 2017, arXiv:1612.07828)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PicturePool(nn.Module):
    """Generated pictures that are kept, as buffers, so that they travel with checkpoints.

    While it is not full, pictures are kept and returned as they came. Then each is returned as it came, or, half of the
    time, takes the place of a kept one, which is returned. Draws come from what layers draw from. CycleGAN's pool draws
    one picture after the other; here those of one batch take places apart, which for its batch of one is the same.

    Args:
        shape: of a picture.
        size: how many are kept, CycleGAN's 50; 0 for none: pictures are returned as they came.
    """

    pictures: Tensor
    kept: Tensor

    def __init__(self, shape: tuple[int, ...], size: int = 50) -> None:
        super().__init__()
        self.register_buffer("pictures", torch.zeros(size, *shape))
        self.register_buffer("kept", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def exchange(self, made: Tensor) -> Tensor:
        """Return as many pictures as were made, (B, *shape), new or older.

        Raises:
            ValueError: if more come at once than are kept.
        """
        size, count = len(self.pictures), len(made)
        if size == 0:
            return made
        if count > size:
            raise ValueError(f"{count} pictures come at once and {size} are kept; use a pool of {count} or more, or 0")
        full = self.kept >= size
        next_place = self.kept + torch.arange(count, device=made.device)
        place = torch.where(full, torch.randperm(size, device=made.device)[:count], next_place % size)
        older = (full & (torch.rand(count, device=made.device) < 0.5)).view(-1, *[1] * (made.dim() - 1))
        stored = older | (next_place < size).view_as(older)
        before = self.pictures[place]
        self.pictures[place] = torch.where(stored, made, before)
        self.kept.copy_((self.kept + count).clamp(max=size))
        return torch.where(older, before, made)
