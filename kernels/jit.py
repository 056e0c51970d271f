"""Triton where it is installed; without it every op runs its plain PyTorch reference.

Under `TRITON_INTERPRET=1` kernels run on the CPU, one program at a time, for tests. bfloat16 is
silently wrong there, so `accelerated` never sends a CPU tensor to a kernel by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

triton: Any
tl: Any
try:
    import triton
    import triton.language as tl
except ImportError:  # the CPU builds of PyTorch bring none
    triton = tl = None


def jit(*dynamic: str) -> Callable[[Any], Any]:
    """`triton.jit`; without Triton the function as it is, which then nothing calls.

    Args:
        dynamic: Arguments that change from call to call (numbers of tokens). Triton compiles anew
            for integers that are 1 or divisible by 16, but not for these.
    """

    def decorate(function: Any) -> Any:
        if triton is None:
            return function
        return triton.jit(function, do_not_specialize=list(dynamic))

    return decorate


def accelerated(tensor: torch.Tensor, least: int = 75) -> bool:
    """Whether a kernel, and not the reference, runs for this tensor.

    Args:
        tensor: On the device in question.
        least: Compute capability that the kernel needs; 80 where it multiplies matrices.
    """
    return triton is not None and tensor.is_cuda and capability(tensor) >= least


def is_interpreted() -> bool:
    """Whether kernels run in Triton's interpreter."""
    return triton is not None and bool(triton.knobs.runtime.interpret)


def capability(tensor: torch.Tensor) -> int:
    """Compute capability of the tensor's device, as 75, 80, 90; 0 for the interpreter on a CPU."""
    if not tensor.is_cuda:
        return 0
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return 10 * major + minor


def cdiv(a: int, b: int) -> int:
    """The quotient, rounded up."""
    return -(-a // b)
