"""How `kernels.py` measures one run: time and memory, on a GPU and on a CPU."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def poison(device: str) -> None:
    """Leave NaN in the memory that the next outputs will be given."""
    if device == "cuda":
        torch.full((2**28,), torch.nan, device=device)


def timed(run: Callable[[], Any], device: str) -> tuple[float, float]:
    """Seconds (of the GPU, or CPU-seconds), and the most bytes held beyond those before."""
    if device == "cpu":
        return timed_on_cpu(run)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    run()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1000, torch.cuda.max_memory_allocated() - before


def timed_on_cpu(run: Callable[[], Any]) -> tuple[float, float]:
    """Memory in a run of its own, for which freed pages are given back first: they cost time."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew
    before = resident("VmRSS")
    run()
    extra = resident("VmHWM") - before
    start = time.process_time()
    run()
    return time.process_time() - start, extra


def resident(field: str) -> float:
    """Bytes of this process in memory, now (VmRSS) or at the most (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024.0 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")
