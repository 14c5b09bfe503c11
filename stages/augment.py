"""Changes of training images."""

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


def cutmix(images: Tensor, labels: Tensor, batch_size: int, share: float) -> tuple[Tensor, Tensor]:
    """In about that share of the batches, put a rectangle of another image into each, and mix the classes accordingly.

    CutMix, of Yun et al. (2019). The labels, int64 [N], become the probabilities of the classes, float [N, 10].
    """
    from torchvision.transforms.v2 import CutMix  # takes two seconds, which other trainings are spared

    mix = CutMix(num_classes=10)
    probabilities = nn.functional.one_hot(labels, 10).float()
    batches = zip(images.split(batch_size), probabilities.split(batch_size), strict=True)
    mixed = [mix(*batch) if torch.rand(()) < share else batch for batch in batches]
    return torch.cat([images for images, _ in mixed]), torch.cat([labels for _, labels in mixed])
