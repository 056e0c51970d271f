"""What each kernel takes of a GPU, compiled ahead of time: no GPU is needed.

Triton compiles to the assembler's input, its own assembler reports registers and spills, and the
disassembly says which instructions do the work. `python -m turnhalle.kernels.resources` prints all
kernels; a test compares that with `tests/kernels/resources.json`. Nothing here says how fast a
kernel is; it says that it keeps its numbers in registers and uses the tensor cores.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import logprob_triton, nf4, rms_norm, rope, swiglu
from .jit import triton

CAPABILITIES = (75, 80, 90)
SHARED_BYTES = {75: 64 * 1024, 80: 163 * 1024, 90: 227 * 1024}
"""Most shared memory of a program."""

TENSOR_CORE = {75: "HMMA", 80: "HMMA", 90: "HGMMA"}
"""The instruction that multiplies matrices of 16 bits."""


class Variant(NamedTuple):
    """A kernel with what its launch fixes; `arguments` maps names to Triton's type strings."""

    name: str
    kernel: Any
    arguments: dict[str, str]
    constants: dict[str, Any]
    num_warps: int = 4
    num_stages: int = 3
    fuses_multiply_add: bool = True


class Resources(NamedTuple):
    """Of one program: registers a thread, bytes spilled a thread, shared bytes, instructions."""

    registers: int
    spill_bytes: int
    shared_bytes: int
    instructions: int
    tensor_core: int
    bulk_loads: int


def variants(capability: int) -> Iterator[Variant]:
    """Every kernel as it is launched on a device of that capability, in 16 bits."""
    half = "fp16" if capability < 80 else "bf16"
    yield from _logprob(capability, half)
    yield _nf4(half)
    yield from _elementwise(half)


def measure(variant: Variant, capability: int) -> Resources:
    """Compile for a capability.

    Raises:
        RuntimeError: Triton is missing, or runs as an interpreter.
    """
    if triton is None or triton.knobs.runtime.interpret:
        raise RuntimeError("compiling needs Triton, and TRITON_INTERPRET unset")
    source = triton.compiler.ASTSource(
        variant.kernel,
        signature=_signature(variant),
        constexprs=variant.constants,
        attrs={
            (variant.kernel.arg_names.index(name),): [["tt.divisibility", 16]]
            for name, kind in variant.arguments.items()
            if kind.startswith("*")
        },
    )
    compiled = triton.compile(
        source,
        target=triton.backends.compiler.GPUTarget("cuda", capability, 32),
        options={
            "num_warps": variant.num_warps,
            "num_stages": variant.num_stages,
            "enable_fp_fusion": variant.fuses_multiply_add,
        },
    )
    code = _disassemble(compiled.asm["cubin"])
    registers, spills = _assemble(compiled.asm["ptx"], capability)
    return Resources(
        registers=registers,
        spill_bytes=spills,
        shared_bytes=compiled.metadata.shared,
        instructions=len(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/", code, re.MULTILINE)),
        tensor_core=len(re.findall(rf"\b{TENSOR_CORE[capability]}\.", code)),
        bulk_loads=code.count("UTMALDG"),
    )


def table() -> dict[str, Any]:
    """Triton's version, and the resources of every kernel by `name sm_capability`."""
    kernels = {
        f"{variant.name} sm_{capability}": measure(variant, capability)._asdict()
        for capability in CAPABILITIES
        for variant in variants(capability)
    }
    return {"triton": triton.__version__, "kernels": kernels}


def _signature(variant: Variant) -> dict[str, str]:
    """Types in the order of the kernel's arguments; a pointer to nothing is a constant."""
    return {name: variant.arguments.get(name, "constexpr") for name in variant.kernel.arg_names}


def _assemble(ptx: str, capability: int) -> tuple[int, int]:
    """Registers and spilled bytes (stores and loads), as the assembler reports them."""
    from triton.backends.nvidia.compiler import get_ptxas

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        name = f"sm_{capability}{'a' if capability == 90 else ''}"
        report = subprocess.run(
            [get_ptxas(capability).path, "-v", f"--gpu-name={name}", str(path), "-o", "/dev/null"],
            check=True,
            capture_output=True,
            text=True,
        ).stderr
    registers = max(int(n) for n in re.findall(r"Used (\d+) registers", report))
    return registers, sum(int(n) for n in re.findall(r"(\d+) bytes spill", report))


def _disassemble(cubin: bytes) -> str:
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        return subprocess.run(
            [str(tool), "-c", str(path)], check=True, capture_output=True, text=True
        ).stdout


def _logprob(capability: int, half: str) -> Iterator[Variant]:
    """The plain head, and one with bias and softcap."""
    if capability >= 80:
        plain = logprob_triton.TILES[capability]
        yield _logits("logit_kernel", plain, half)
        yield _logits("logit_kernel again", plain, half, again=True)
        yield _logits("logit_kernel no gradient", plain, half, store_e=False)
        special = logprob_triton.SOFTCAP_TILE if plain.use_tma else plain
        yield _logits("logit_kernel bias softcap", special, half, special=True)
    rows = {"w_ptr": f"*{half}", "target_ptr": "*i64", "num_rows": "i32"}
    yield Variant(
        "target_kernel",
        logprob_triton.target_kernel,
        rows | {"x_ptr": f"*{half}", "z_ptr": "*fp32", "slope_ptr": "*fp32", "softcap": "fp32"},
        {"bias_ptr": None, "HIDDEN": 4096, "HAS_BIAS": False, "HAS_SOFTCAP": False, "BLOCK": 1024},
    )
    yield Variant(
        "gradient_kernel",
        logprob_triton.gradient_kernel,
        rows
        | {"product_ptr": "*fp32", "own_ptr": "*fp32", "factor_ptr": "*fp32"}
        | {"out_ptr": f"*{half}"},
        {"HIDDEN": 4096, "BLOCK": 1024},
    )


def _logits(
    name: str,
    tile: logprob_triton.Tile,
    half: str,
    *,
    special: bool = False,
    again: bool = False,
    store_e: bool = True,
) -> Variant:
    matrices = {"x": f"*{half}", "w": f"*{half}", "e": f"*{half}"}
    if tile.use_tma:
        matrices = {
            "x": f"tensordesc<{half}[{tile.rows}, {tile.depth}]>",
            "w": f"tensordesc<{half}[{tile.words}, {tile.depth}]>",
            "e": f"tensordesc<{half}[{tile.rows}, {tile.words // tile.parts}]>",
        }
    nothing = []
    if special:
        matrices["bias_ptr"] = f"*{half}"
    else:
        nothing.append("bias_ptr")
    if not store_e and tile.use_tma:
        nothing.append("e")
        del matrices["e"]
    return Variant(
        name,
        logprob_triton.logit_kernel,
        matrices
        | {"target_ptr": "*i64", "z_ptr": "*fp32", "shift_ptr": "*fp32", "partial_ptr": "*fp32"}
        | {"num_rows": "i32", "num_words": "i32", "e_stride": "i32"}
        | {"scale": "fp32", "softcap": "fp32"},
        dict.fromkeys(nothing)
        | {"HIDDEN": 4096, "HAS_BIAS": special, "HAS_SOFTCAP": special, "STORE_E": store_e}
        | {"AGAIN": again, "USE_TMA": tile.use_tma, "UPCAST": False, "PARTS": tile.parts}
        | {"ROWS": tile.rows, "WORDS": tile.words, "DEPTH": tile.depth},
        tile.num_warps,
        tile.num_stages,
    )


def _nf4(half: str) -> Variant:
    return Variant(
        "dequantize_kernel",
        nf4.dequantize_kernel,
        {"values_ptr": "*u8", "absmax_ptr": "*u8", "pairs_ptr": "*i64", "absmax2_ptr": "*fp32"}
        | {"code2_ptr": "*fp32", "offset_ptr": "*fp32", "out_ptr": f"*{half}"}
        | {"num_values": "i32", "row_stride": "i32"},
        {"NESTED": True, "COLUMNS": 4096, "DENSE": True, "BLOCK_SIZE": 64, "SCALE_BLOCK": 256}
        | {"BLOCKS": nf4.BLOCKS},
        fuses_multiply_add=False,
    )


def _elementwise(half: str) -> Iterator[Variant]:
    """At Llama 8B's sizes: 4,096 hidden, 14,336 in the MLP, 32 heads of 128."""
    like = f"*{half}"
    row = {"HAS_RESIDUAL": True, "HIDDEN": 4096, "BLOCK": 4096}
    yield Variant(
        "rms_norm.forward_kernel",
        rms_norm.forward_kernel,
        dict.fromkeys(["x_ptr", "residual_ptr", "w_ptr", "total_ptr", "y_ptr"], like)
        | {"rstd_ptr": "*fp32", "eps": "fp32", "offset": "fp32"},
        row,
        num_warps=8,
    )
    yield Variant(
        "rms_norm.backward_kernel",
        rms_norm.backward_kernel,
        dict.fromkeys(["total_ptr", "w_ptr", "dy_ptr", "dtotal_ptr", "dx_ptr"], like)
        | {"rstd_ptr": "*fp32", "offset": "fp32"},
        row,
        num_warps=8,
    )
    strides = {"gate_stride": "i32", "up_stride": "i32"}
    gate = {"WIDTH": 14336, "IS_GELU": False, "BLOCK": swiglu.BLOCK}
    for kernel, last in ((swiglu.forward_kernel, "out_ptr"), (swiglu.backward_kernel, "dout_ptr")):
        pointers = dict.fromkeys(["gate_ptr", "up_ptr", last], like)
        yield Variant(f"swiglu.{kernel.__name__}", kernel, pointers | strides, gate)
    for backward in (False, True):
        pointers = dict.fromkeys(["x_ptr", "cos_ptr", "sin_ptr", "w_ptr", "out_ptr"], like)
        yield Variant(
            f"rope_kernel {'backward' if backward else 'forward'}",
            rope.rope_kernel,
            pointers
            | ({"dy_ptr": like} if backward else {})
            | {"token_stride": "i32", "angle_rows": "i32", "eps": "fp32", "offset": "fp32"},
            {"HEADS": 32, "HALF": 64, "HAS_NORM": True, "BACKWARD": backward, "HEAD_BLOCK": 32}
            | {"BLOCK": 64}
            | ({} if backward else {"dy_ptr": None}),
        )


if __name__ == "__main__":
    json.dump(table(), sys.stdout, indent=1)
    print()
