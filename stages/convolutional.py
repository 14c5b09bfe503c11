"""Networks of convolutions: float images [N, 1, 28, 28] to logits [N, 10]."""

import torch
from torch import Tensor, nn


def cnn(width: int) -> nn.Sequential:
    """Three convolutions, at 14x14, 7x7 and 3x3 pixels, after a transform that does not learn."""
    return nn.Sequential(
        CosineTransform(),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(9, eps=1.0, affine=False),  # keeps fine patterns small, which differ in photographs
        conv_block(9, width, pool=2),
        conv_block(width, 2 * width, pool=2),
        conv_block(2 * width, 4 * width),
        nn.MaxPool2d(3),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    )


def resnet(width: int, blocks: int) -> nn.Sequential:
    """Convolutions at 27x27 pixels, then `blocks` residual blocks each at 13x13, 6x6 and 3x3 pixels."""
    layers: list[nn.Module] = [nn.Conv2d(1, width // 2, 2), nn.ReLU()]
    for inputs, outputs in ((width // 2, width), (width, 2 * width), (2 * width, 4 * width)):
        layers.append(conv_block(inputs, outputs, pool=2))
        layers += [Residual(conv_block(outputs, outputs), conv_block(outputs, outputs)) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(4 * width, 10))


def conv_block(inputs: int, outputs: int, pool: int = 1) -> nn.Sequential:
    """A 3x3 convolution, max-pooled over squares of pool x pool pixels, batch-normalised."""
    pooling = nn.MaxPool2d(pool) if pool > 1 else nn.Identity()
    return nn.Sequential(Convolution(inputs, outputs), pooling, nn.BatchNorm2d(outputs), nn.ReLU())


class CosineTransform(nn.Module):
    """The discrete cosine transform of the 3x3 pixels around each one: [N, 1, H, W] to [N, 9, H, W]; it does not learn.

    Unlike neighbouring pixels, its numbers are nearly uncorrelated, so that the next layer learns faster: a whitening,
    as in Jordan (2024), for which no images are needed.
    """

    patterns: Tensor

    def __init__(self) -> None:
        super().__init__()
        cosines = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
        patterns = torch.einsum("iy,jx->ijyx", cosines, cosines).reshape(9, 1, 3, 3)
        self.register_buffer("patterns", patterns, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.conv2d(input, self.patterns, padding=1)


class Convolution(nn.Linear):
    """A 3x3 convolution whose weights are a matrix [outputs, inputs * 9], as Muon wants them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs * 9, outputs, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.conv2d(input, self.weight.unflatten(1, (-1, 3, 3)), padding=1)


class Residual(nn.Sequential):
    """Adds the output of its layers to their input."""

    def forward(self, input: Tensor) -> Tensor:
        return input + super().forward(input)
