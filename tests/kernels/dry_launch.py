"""Run by `test_resources.py`: the hosts' own launches on sm_90, compiled but not run.

Triton is given a driver that only names a device, and CPU tensors stand in for the GPU's. What a
launch fixes (types, constants, descriptors, options) is what a GPU would get.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from turnhalle.kernels import logprob_triton, nf4, rms_norm, rope, swiglu
from turnhalle.kernels.scores import FrozenHead

HALF = torch.bfloat16


class NoDevice:
    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _: int) -> int:
        return 0


def logprobs(rows: int, softcap: float | None = None, width: int = 64) -> None:
    bias = torch.zeros(499, dtype=HALF) if softcap else None
    head = FrozenHead(torch.zeros(499, width, dtype=HALF), bias, softcap, 1.0)
    hidden, targets = torch.zeros(rows, width, dtype=HALF), torch.zeros(rows, dtype=torch.long)
    logprob_triton.score_triton(hidden, head, targets, wants_gradient=True)
    logprob_triton.score_triton(hidden, head, targets, wants_gradient=False)


def others() -> None:
    values = torch.zeros(4096, dtype=torch.uint8)
    pairs, code = torch.zeros(256, dtype=torch.int64), torch.zeros(16)
    absmax = torch.zeros(128, dtype=torch.uint8)
    scales = nf4.Scales(torch.zeros(1), torch.zeros(256), torch.zeros(()), 256)
    weight = nf4.Packed(values, absmax, code, pairs, scales, 64, (64, 128))
    nf4.dequantize_triton(weight, torch.empty(64, 128, dtype=HALF))
    nf4.dequantize_triton(weight, torch.empty(64, 144, dtype=HALF)[:, :128])
    for module in (rms_norm, rope, swiglu):
        module.accelerated = lambda _: True  # type: ignore[attr-defined]
    x = torch.ones(5, 96, dtype=HALF, requires_grad=True)
    sum(rms_norm.add_rms_norm(x, 1 * x, torch.ones(96, dtype=HALF), 1e-6)).sum().backward()  # type: ignore[union-attr]
    heads = torch.ones(2, 5, 3, 64, dtype=HALF, requires_grad=True)
    angles = torch.ones(2, 5, 64, dtype=HALF)
    norm = rope.HeadNorm(torch.ones(64, dtype=HALF), 1e-6)
    for how in (None, norm):
        rope.rope(heads, angles, angles, how).sum().backward()
    gate = torch.ones(4, 1100, dtype=HALF, requires_grad=True)
    swiglu.swiglu(1 * gate, 1 * gate).sum().backward()


def main() -> None:
    launched: list[str] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, **kwargs: Any) -> Any:
        launched.append(self.fn.__name__)
        return run(self, *args, **{**kwargs, "warmup": True})

    JITFunction.run = compile_only
    driver.set_active(NoDevice())
    logprob_triton.capability = lambda _: 90

    def compiled() -> int:
        return sum(len(c[0]) for c in logprob_triton.logit_kernel.device_caches.values())

    logprobs(300)
    first = compiled()
    for rows in (1, 16, 17, 2000):
        logprobs(rows)
    after = compiled()
    logprobs(300, softcap=9.0)
    logprobs(3, width=60)  # rows that the tensor memory accelerator cannot load
    others()
    print(json.dumps({"launched": sorted(set(launched)), "first": first, "after": after}))


if __name__ == "__main__":
    main()
