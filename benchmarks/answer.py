"""What model.pth answers, with the values of params.yaml."""

from pathlib import Path

from compute import Compute, place, set_up
from dvc.api import params_show
from infer import Infer, average_logits, load
from model import Model
from torch import Tensor


def answer(images: Tensor) -> Tensor:
    """The logits [N, 10] for images, uint8 [N, 1, 28, 28], as `evaluate` computes them."""
    params = params_show()
    compute = Compute(**params["compute"])
    device = set_up(compute)
    network = place(load(Path("model.pth"), Model(**params["model"])), compute, device)
    return average_logits(network, images.to(device), Infer(**params["infer"])).cpu()


def accuracy(images: Tensor, labels: Tensor) -> float:
    """The share of the images that it answers correctly."""
    return (answer(images).argmax(1) == labels).double().mean().item()
