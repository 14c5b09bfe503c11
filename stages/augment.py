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


def erase(images: Tensor, probability: float) -> Tensor:
    """Fill a rectangle of 2 to 33 % of the area with noise, in that share of the images, uint8 [N, 1, H, W].

    Random erasing, of Zhong et al. (2017).
    """
    count, _, height, width = images.shape
    area = torch.empty(count, 1).uniform_(0.02, 0.33) * height * width
    ratio = torch.empty(count, 1).uniform_(0.3, 1 / 0.3)
    inside = []
    for size, side in ((height, (area * ratio).sqrt()), (width, (area / ratio).sqrt())):
        start = torch.rand(count, 1) * (size - side).clamp(min=0)
        inside.append((torch.arange(size) >= start) & (torch.arange(size) < start + side))
    erased = inside[0][:, :, None] & inside[1][:, None, :] & (torch.rand(count, 1, 1) < probability)
    return torch.where(erased[:, None].to(images.device), torch.randint_like(images, 256), images)
