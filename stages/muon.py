"""Muon, the optimizer of Jordan et al. (2024), in fp32."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class MuonFP32(torch.optim.Muon):
    """PyTorch's Muon, which computes its steps in bf16: slow on a processor that has no instructions for it."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        with WithoutBF16():
            return super().step(closure)


class WithoutBF16(TorchFunctionMode):
    """What is converted to bf16 becomes fp32 instead."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        return args[0].float() if func is Tensor.bfloat16 else func(*args, **kwargs or {})
