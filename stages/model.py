"""The network, the device it runs on, and its answers."""

import os
import sys
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

Device = Literal["auto", "cuda", "mps", "cpu"]


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


def load(file: Path, hidden_size: int) -> MLP:
    """A network with the weights in `file`, on the CPU."""
    network = MLP(hidden_size, dropout=0.0)
    try:
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception:  # a damaged pickle can raise any
        sys.exit(f"{file}: not the weights of a network of hidden_size {hidden_size}; run `dvc repro train`")
    return network


def infer(network: nn.Module, images: Tensor) -> Tensor:
    """The logits [N, 10] of images [N, 1, 28, 28], without dropout."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(batch) for batch in images.split(1000)])


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
