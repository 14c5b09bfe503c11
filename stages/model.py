"""The networks, the device they run on, and their answers."""

import os
import sys
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

Device = Literal["auto", "cuda", "mps", "cpu"]
Network = Literal["mlp", "cnn"]


class MLP(nn.Module):
    """The PyTorch Quickstart's network: images [N, 1, 28, 28] to logits [N, 10]."""

    def __init__(self, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(  # of five, so that the weights have the Quickstart's names
            nn.Linear(28 * 28, hidden_size),
            nn.Sequential(nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(hidden_size, hidden_size),
            nn.Sequential(nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(hidden_size, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.linear_relu_stack(self.flatten(images))


def convolution(inputs: int, outputs: int, pool: int = 1) -> nn.Sequential:
    """A 3x3 convolution, batch-normalised; its maxima over squares of pool x pool pixels."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.MaxPool2d(pool) if pool > 1 else nn.Identity(),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def cnn(width: int, dropout: float) -> nn.Sequential:
    """Four convolutions at 14x14, 7x7, 7x7 and 3x3 pixels, of `width` to four times as many channels."""
    return nn.Sequential(
        nn.PixelUnshuffle(2),  # each square of 2x2 pixels becomes one of four channels: a quarter of the work
        convolution(4, width, pool=2),
        convolution(width, 2 * width),
        convolution(2 * width, 4 * width, pool=2),
        convolution(4 * width, 4 * width),
        nn.MaxPool2d(3),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(4 * width, 10),
    )


def build(network: Network, hidden_size: int, width: int, dropout: float = 0.0) -> nn.Module:
    """The network that the section `model` of params.yaml declares: images [N, 1, 28, 28] to logits [N, 10]."""
    return MLP(hidden_size, dropout) if network == "mlp" else cnn(width, dropout)


def load(file: Path, network: Network, hidden_size: int, width: int) -> nn.Module:
    """The declared network with the weights in `file`, on the CPU."""
    built = build(network, hidden_size, width)
    try:
        built.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception:  # a damaged pickle can raise any
        size = f"hidden_size {hidden_size}" if network == "mlp" else f"width {width}"
        sys.exit(f"{file}: not the weights of the network {network} of {size}; run `dvc repro train`")
    return built


def infer(network: nn.Module, images: Tensor, test_time_flip: bool = False) -> Tensor:
    """The logits [N, 10] of images [N, 1, 28, 28], without dropout; `test_time_flip` averages with the mirror image."""
    network.eval()
    with torch.inference_mode():
        logits = torch.cat([network(batch) for batch in images.split(1000)])
        return (logits + infer(network, images.flip(-1))) / 2 if test_time_flip else logits


def set_up(device: Device, threads: int) -> torch.device:
    """Make PyTorch compute reproducibly on `device`, with `threads` threads where that is the CPU."""
    torch.set_num_threads(threads)
    available = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    if device not in ("auto", "cpu", available.type):
        sys.exit(f"--device {device}: not on this machine; choose auto or {available.type}")
    chosen = torch.device("cpu") if device == "cpu" else available
    if chosen.type != "cpu":  # whose kernels are deterministic, and the call takes a second
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it CUDA's matrix products refuse to be
        torch.use_deterministic_algorithms(True)
    print(f"Using {chosen} device")
    return chosen
