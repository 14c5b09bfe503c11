"""The processor that computes: the device, its threads and its memory."""

import ctypes
import os
import sys
from typing import Annotated, Literal

import torch
from command import section, whole


@section
class Compute:
    device: Literal["auto", "cuda", "mps", "cpu"]
    threads: Annotated[int, whole(gte=1, lte=1024)]


def set_up(compute: Compute) -> torch.device:
    """Make PyTorch compute reproducibly, as the section says; returns the device."""
    torch.set_num_threads(compute.threads)
    if sys.platform == "linux":  # keep the memory that a step frees for the next one: saves the resnet a seventh
        for option, value in ((-1, 2**31 - 1), (-4, 0)):  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
            ctypes.CDLL(None).mallopt(option, value)
    available = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    if compute.device not in ("auto", "cpu", available.type):
        sys.exit(f"--device {compute.device}: not on this machine; choose auto or {available.type}")
    device = torch.device("cpu") if compute.device == "cpu" else available
    if device.type != "cpu":  # the CPU's kernels are deterministic, and the call takes a second
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # which makes CUDA's matrix products deterministic
        torch.use_deterministic_algorithms(True)
        torch.accelerator.set_device_index(int(os.environ.get("LOCAL_RANK", 0)))  # as torchrun numbers its processes
    print(f"Using {device} device")
    return device
