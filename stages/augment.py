"""Changes of training images that leave their class as it is."""

import torch
from torch import Tensor, nn


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror those of the images [N, 1, H, W] that `mirrored`, bool [N], names."""
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def shift(images: Tensor, pixels: int) -> Tensor:
    """Move the images [N, 1, H, W] by up to `pixels` along each axis, drawn for each; black comes in."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, [pixels] * 4)
    rows, columns = (torch.randint(2 * pixels + 1, (count, 1)) + torch.arange(size) for size in (height, width))
    return padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
