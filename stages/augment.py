"""Changes of training images that keep their class."""

from itertools import product

import torch
from torch import Tensor, nn


def flip(images: Tensor, flipped: Tensor) -> Tensor:
    """Flip those of the images [N, 1, H, W] that `flipped`, bool [N], marks."""
    return torch.where(flipped[:, None, None, None], images.flip(-1), images)


def shift(images: Tensor, pixels: int) -> Tensor:
    """Move each of the images [N, 1, H, W] by up to `pixels` along each axis, drawn at random; black comes in."""
    shifted = torch.empty_like(images)
    moves = torch.randint(-pixels, pixels + 1, (len(images), 2)).to(images.device)
    for x, y in product(range(-pixels, pixels + 1), repeat=2):
        chosen = (moves == torch.tensor([x, y], device=images.device)).all(1)
        shifted[chosen] = nn.functional.pad(images[chosen], [x, -x, y, -y])
    return shifted
