"""Muon, the optimizer of Jordan et al. (2024), in fp32."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class MuonFP32(torch.optim.Muon):
    """PyTorch's Muon with its steps in fp32; a processor that has no instructions for bf16 is slow in it."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        with WithoutBF16():
            return super().step(closure)


class WithoutBF16(TorchFunctionMode):
    """What is converted to bf16 becomes fp32 instead."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func is Tensor.bfloat16:
            return args[0].to(torch.float32, copy=True)  # a copy, as bf16 would be, for Muon changes it in place
        return func(*args, **kwargs or {})
