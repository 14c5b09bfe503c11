"""The networks: images in, logits out."""

import sys
from typing import Annotated, Literal, get_args

from command import number, section
from convolutional import cnn, resnet
from dataset import to_floats
from published import Published, build_published
import torch
from torch import Tensor, nn


@section
class Model:
    network: Literal["mlp", "cnn", "resnet", Published]
    hidden_size: Annotated[int, number(gte=1, lte=10_000)]
    width: Annotated[int, number(gte=2, lte=1024)]
    blocks: Annotated[int, number(gte=0, lte=100)]


def build(model: Model) -> nn.Module:
    """The network that the section declares: float images [N, 1, 28, 28] to logits [N, 10]."""
    match model.network:
        case "mlp":
            network = MLP(model.hidden_size)
        case "cnn":
            network = cnn(model.width)
        case "resnet":
            network = resnet(model.width, model.blocks)
        case name:
            network = build_published(name)
    return network.to(memory_format=torch.channels_last)


def least_batch(model: Model) -> int:
    """How many images a batch needs in training: torchvision's networks normalise a single pixel over it."""
    return 2 if model.network in get_args(Published) else 1


class MLP(nn.Module):
    """The PyTorch Quickstart's network."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(28 * 28, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.linear_relu_stack(self.flatten(images))


@torch.inference_mode()
def compute_logits(network: nn.Module, images: Tensor) -> Tensor:
    """The logits [N, 10] of images, uint8 [N, 1, 28, 28], of the network as it is used after training.

    Ends with a line if they are not all numbers: the network has diverged.
    """
    network.eval()
    logits = torch.cat([network(to_floats(batch)) for batch in images.split(1000)])
    if not logits.isfinite().all():
        sys.exit("The network has diverged: its answers are not numbers. Train it with a lower `train.learning_rate`.")
    return logits
