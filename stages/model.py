"""The networks, the device they run on, and their answers."""

import ctypes
import os
import sys
from pathlib import Path
from typing import Literal

import torch
from dataset import to_floats
from torch import Tensor, nn

Device = Literal["auto", "cuda", "mps", "cpu"]
Network = Literal["mlp", "cnn", "resnet"]


class MLP(nn.Module):
    """The PyTorch Quickstart's network: images [N, 1, 28, 28] to logits [N, 10]."""

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


class Convolution(nn.Linear):
    """A 3x3 convolution: a linear layer of each pixel's neighbourhood, with weights [outputs, inputs * 9]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs * 9, outputs, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.conv2d(input, self.weight.unflatten(1, (-1, 3, 3)), padding=1)


class Residual(nn.Sequential):
    """Adds what its layers make of their input to it."""

    def forward(self, input: Tensor) -> Tensor:
        return input + super().forward(input)


def convolution(inputs: int, outputs: int, pool: int = 1) -> nn.Sequential:
    """A 3x3 convolution, its maxima over squares of pool x pool pixels, batch-normalised."""
    pooling = nn.MaxPool2d(pool) if pool > 1 else nn.Identity()
    return nn.Sequential(Convolution(inputs, outputs), pooling, nn.BatchNorm2d(outputs), nn.ReLU())


def cnn(width: int) -> nn.Sequential:
    """Four convolutions, at 28x28, 14x14, 7x7 and 3x3 pixels."""
    return nn.Sequential(
        nn.Conv2d(1, width // 2, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        convolution(width // 2, width, pool=2),
        convolution(width, 2 * width, pool=2),
        convolution(2 * width, 4 * width),
        nn.MaxPool2d(3),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    )


def resnet(width: int, blocks: int) -> nn.Sequential:
    """Convolutions at 27x27 pixels, then `blocks` residual blocks each at 13x13, 6x6 and 3x3 pixels."""
    layers: list[nn.Module] = [nn.Conv2d(1, width // 2, 2), nn.ReLU()]
    for inputs, outputs in ((width // 2, width), (width, 2 * width), (2 * width, 4 * width)):
        layers.append(convolution(inputs, outputs, pool=2))
        layers += [Residual(convolution(outputs, outputs), convolution(outputs, outputs)) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(4 * width, 10))


def build(network: Network, hidden_size: int, width: int, blocks: int) -> nn.Module:
    """The network that the section `model` of params.yaml declares: images [N, 1, 28, 28] to logits [N, 10]."""
    match network:
        case "mlp":
            built = MLP(hidden_size)
        case "cnn":
            built = cnn(width)
        case "resnet":
            built = resnet(width, blocks)
    return built.to(memory_format=torch.channels_last)


def load(file: Path, network: Network, hidden_size: int, width: int, blocks: int) -> nn.Module:
    """The declared network with the weights in `file`, on the CPU."""
    built = build(network, hidden_size, width, blocks)
    try:
        built.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except OSError as error:
        sys.exit(f"{file}: {error.strerror or error}; `dvc repro train` makes it, `dvc pull {file}` fetches it")
    except Exception:  # a damaged pickle can raise any
        sys.exit(
            f"{file}: not the weights of {network} (hidden_size {hidden_size}, width {width}, blocks {blocks}); "
            "run `dvc repro train`, or declare its own network in params.yaml"
        )
    return built


def infer(network: nn.Module, images: Tensor, test_time_flip: bool = False, test_time_shift: int = 0) -> Tensor:
    """The logits [N, 10] of images, uint8 [N, 1, 28, 28].

    They are means: with `test_time_flip` also over the mirror image, with `test_time_shift` also over the image moved
    so many pixels towards each corner.
    """
    network.eval()
    answers = []
    with torch.inference_mode():
        for batch in images.split(1000):
            seen = views(to_floats(batch), test_time_flip, test_time_shift)
            answers.append(torch.stack([network(view) for view in seen]).mean(0))
    return torch.cat(answers)


def views(images: Tensor, flip: bool, shift: int) -> list[Tensor]:
    """The images [N, 1, H, W], moved where `shift` is not 0, and the mirror images of all of these."""
    corners = [(x, y) for x in (shift, -shift) for y in (shift, -shift)] if shift else []
    moved = [images, *(nn.functional.pad(images, [x, -x, y, -y]) for x, y in corners)]
    return moved + [view.flip(-1) for view in moved] if flip else moved


def set_up(device: Device, threads: int) -> torch.device:
    """Make PyTorch compute reproducibly on `device`, with `threads` threads where that is the CPU."""
    torch.set_num_threads(threads)
    if sys.platform == "linux":  # keep what a step frees for the next one: a seventh less time for the resnet
        for option, value in ((-1, 2**31 - 1), (-4, 0)):  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
            ctypes.CDLL(None).mallopt(option, value)
    available = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    if device not in ("auto", "cpu", available.type):
        sys.exit(f"--device {device}: not on this machine; choose auto or {available.type}")
    chosen = torch.device("cpu") if device == "cpu" else available
    if chosen.type != "cpu":  # the CPU's kernels are deterministic, and the call takes a second
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it CUDA's matrix products refuse to be
        torch.use_deterministic_algorithms(True)
        torch.accelerator.set_device_index(int(os.environ.get("LOCAL_RANK", 0)))  # as torchrun numbers its processes
    print(f"Using {chosen} device")
    return chosen
