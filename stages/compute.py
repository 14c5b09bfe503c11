"""The processor that computes: the device, its threads, its memory and the kernels that it may use."""

import ctypes
import os
import sys
from typing import Annotated, Literal

from command import number, section
import torch
from torch import Tensor, nn

# Each library has its own name for the instructions that it may use. MKL's COMPATIBLE is the only one of its settings
# that gives the same bits on Intel and AMD; it is slow, so linear layers go to oneDNN instead.
PORTABLE = {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


@section
class Compute:
    device: Literal["auto", "cuda", "mps", "cpu"]
    threads: Annotated[int, number(gte=1, lte=1024)]
    kernels: Literal["portable", "native"]


def set_up(compute: Compute) -> torch.device:
    """Make PyTorch compute reproducibly, as the section says; it has to come before the first computation."""
    available = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    if compute.device not in ("auto", "cpu", available.type):
        sys.exit(f"--device {compute.device}: not on this machine; choose auto or {available.type}")
    device = torch.device("cpu") if compute.device == "cpu" else available
    print(f"Using {device} device")
    limit_kernels(compute, device)
    torch.set_num_threads(compute.threads)
    if sys.platform == "linux":  # keep the memory that a step frees for the next one: saves the resnet a seventh
        for option, value in ((-1, 2**31 - 1), (-4, 0)):  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
            ctypes.CDLL(None).mallopt(option, value)
    if device.type != "cpu":  # the CPU's kernels are deterministic, and the call takes a second
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # which makes CUDA's matrix products deterministic
        torch.use_deterministic_algorithms(True)
        rank = int(os.environ.get("LOCAL_RANK", 0))  # as torchrun numbers its processes
        if rank >= (count := torch.accelerator.device_count()):
            sys.exit(f"launch.train: more processes than this machine has devices, {count}; lower `--nproc-per-node`")
        torch.accelerator.set_device_index(rank)
    return device


def limit_kernels(compute: Compute, device: torch.device) -> None:
    """Let only the section decide what changes the last digits, and not the environment."""
    limit = os.environ.get("OMP_THREAD_LIMIT", "")  # OpenMP has already read this and the next two
    if limit.isdigit() and int(limit) < compute.threads:
        sys.exit(f"OMP_THREAD_LIMIT is {limit}, less than `compute.threads`, {compute.threads}; unset it")
    if os.environ.get("OMP_DYNAMIC", "false").lower() != "false":
        sys.exit("OMP_DYNAMIC is set, which overrides `compute.threads`; unset it")
    if os.environ.get("OMP_MAX_ACTIVE_LEVELS") == "0":
        sys.exit("OMP_MAX_ACTIVE_LEVELS is 0, which overrides `compute.threads`; unset it")
    for name in [name for name in os.environ if name.startswith(("ATEN_", "DNNL_", "MKL_", "NVIDIA_TF32_", "ONEDNN_"))]:
        del os.environ[name]
    torch.set_float32_matmul_precision("highest")  # fp32, and not the TF32 of GPUs, which drops 13 of its bits
    torch.backends.cudnn.allow_tf32 = False  # the same for convolutions, where TF32 is the default
    if is_portable(compute, device):
        os.environ.update(PORTABLE)
    elif compute.kernels == "portable":
        print("Portable kernels need the CPU, x86-64 and AVX2: the last digits are this machine's own")


def is_portable(compute: Compute, device: torch.device) -> bool:
    """Whether other machines compute the same bits."""
    return compute.kernels == "portable" and device.type == "cpu" and torch.cpu.get_capabilities().get("avx2", False)


def fastest_precision(compute: Compute, device: torch.device) -> Literal["fp32", "bf16"]:
    """bf16 where the device has instructions for it, and may use them; without them fp32 is ten times as fast."""
    match device.type:
        case "cpu":
            has_bf16 = not is_portable(compute, device) and torch.cpu.get_capabilities().get("avx512_bf16", False)
        case "cuda":
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        case _:
            has_bf16 = False
    return "bf16" if has_bf16 else "fp32"


def place(network: nn.Module, compute: Compute, device: torch.device) -> nn.Module:
    """The network on the device; where the kernels are portable, oneDNN computes its linear layers."""
    if is_portable(compute, device):
        for layer in network.modules():
            if type(layer) is nn.Linear:
                layer.register_forward_pre_hook(to_onednn)
                layer.register_forward_hook(lambda _, __, output: output.to_dense())
    return network.to(device)


def to_onednn(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    # autocast cannot convert oneDNN's tensors to bf16
    return inputs if torch.is_autocast_enabled("cpu") else (inputs[0].to_mkldnn(),)
