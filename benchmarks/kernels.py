"""Kernels: built, checked and timed in one call; peers beside them in the same process.

On a GPU (`python benchmarks/kernels.py --csv docs/kernels.csv --plot docs/kernels.svg`): every op
at 8,192 tokens, medians of interleaved rounds on fresh inputs, memory that outputs land in poisoned
with NaN, errors against float64 on a part of the rows. Peers that are not installed (trl,
bitsandbytes) are left out and named. Without a GPU the same ops run small, as PyTorch references in
CPU-seconds of one thread, and the compile-time resources are printed: registers, spills,
tensor-core instructions.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from turnhalle.kernels import resources
from turnhalle.kernels.head import LinearHead, checkpointed
from turnhalle.kernels.logprob import token_logprobs
from turnhalle.kernels.lora_linear import Layer, lora_linear, lora_linear_reference
from turnhalle.kernels.nf4 import dequantize, packed
from turnhalle.kernels.rms_norm import add_rms_norm
from turnhalle.kernels.rope import rope
from turnhalle.kernels.swiglu import swiglu
from turnhalle.kernels.tree_attention import tree_attention, tree_of

ROUNDS = {"cuda": 9, "cpu": 3}
FLOPS, BANDWIDTH = 790e12, 4.3e12
"""Of an H200, measured: what floors are computed from."""


class Case(NamedTuple):
    """One op at one size: contenders by name (ours first), and the floor of the work."""

    name: str
    runs: dict[str, Callable[[], Any]]
    floor_s: float
    inputs: tuple[torch.Tensor, ...]
    """Drawn anew before every round."""
    error: Callable[[], float] | None = None


class Sizes(NamedTuple):
    """Tokens, vocabulary, hidden sizes, MLP and heads (of 128) of a run."""

    tokens: int
    words: int
    hidden: tuple[int, ...]
    inner: int
    heads: int


GPU = Sizes(8192, 151_936, (2048, 4096), 14_336, 32)
CPU = Sizes(1024, 32_000, (256, 1024), 2048, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path, help="write the rows here")
    parser.add_argument("--plot", type=Path, help="draw them here")
    arguments = parser.parse_args()
    # bitsandbytes looks for a package named `kernels`, and would find this script.
    sys.path.remove(str(Path(__file__).parent))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    rows = []
    print("| op | contender | ms | of the floor | extra MiB | error |\n|---|---|---|---|---|---|")
    for case in cases(device, GPU if device == "cuda" else CPU):
        for row in measure(case, device):
            rows.append(row)
            share = f"{row['floor_share']:.0%}" if device == "cuda" else "-"
            print(
                f"| {row['op']} | {row['contender']} | {row['ms']:.3f} | {share} | "
                f"{row['extra_mib']:.0f} | {row['error']} |",
                flush=True,
            )
        torch.cuda.empty_cache()
    if device == "cpu":
        print_resources()
    if arguments.csv:
        write(rows, arguments.csv)
    if arguments.plot:
        draw(rows, arguments.plot)


def cases(device: str, sizes: Sizes) -> Iterator[Case]:
    """All ops; a case's inputs live until the next one."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    for hidden in sizes.hidden:
        yield from logprob_cases(device, dtype, sizes, hidden)
    yield from linear_cases(device, dtype, sizes)
    yield from elementwise_cases(device, dtype, sizes)
    yield tree_case(device, dtype, sizes)


def logprob_cases(device: str, dtype: torch.dtype, sizes: Sizes, hidden: int) -> Iterator[Case]:
    linear = torch.nn.Linear(hidden, sizes.words, bias=False, device=device, dtype=dtype)
    head = LinearHead(linear.requires_grad_(False))
    x = torch.randn(sizes.tokens, hidden, device=device, dtype=dtype, requires_grad=True)
    targets = torch.randint(sizes.words, (sizes.tokens,), device=device)

    def full() -> tuple[torch.Tensor, torch.Tensor]:
        return checkpointed(x, head, targets, 1.0, x.shape[0] * sizes.words)

    def chunked() -> tuple[torch.Tensor, torch.Tensor]:
        return checkpointed(x, head, targets, 1.0, sizes.tokens // 8 * sizes.words)

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        return token_logprobs(x, head, targets)

    def error() -> float:
        part = slice(0, 64)
        logits = x[part].detach().double() @ linear.weight.double().T
        exact = logits.log_softmax(-1).gather(1, targets[part, None])[:, 0]
        return float((ours()[0][part].detach() - exact).abs().max())

    contenders = {"turnhalle": ours, "full logits": full, "chunks, recomputed": chunked}
    if device == "cuda":
        contenders["torch.compile of chunks"] = torch.compile(chunked)
        contenders |= trl_logprobs(x, linear.weight, targets)
    work = 2 * sizes.tokens * hidden * sizes.words / FLOPS
    name = f"H {hidden}, V {sizes.words}"

    def without_gradient(run: Callable[[], Any]) -> Callable[[], Any]:
        return torch.no_grad()(run)

    def with_gradient(run: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(run()[0].sum(), x)

    plain = {k: without_gradient(run) for k, run in contenders.items()}
    yield Case(f"log-probs, {name}", plain, work, (x,), error)
    both = {k: with_gradient(run) for k, run in contenders.items()}
    yield Case(f"log-probs and dX, {name}", both, 2 * work, (x,))


def trl_logprobs(
    x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
) -> dict[str, Callable[[], Any]]:
    """TRL 1.16's op, if it is installed."""
    if importlib.util.find_spec("trl") is None:
        print("(trl is not installed: its op is left out)", file=sys.stderr)
        return {}
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction

    apply: Any = ChunkedLogProbFunction.apply
    return {"trl 1.16": lambda: apply(x, weight, targets)}


def linear_cases(device: str, dtype: torch.dtype, sizes: Sizes) -> Iterator[Case]:
    if importlib.util.find_spec("bitsandbytes") is None:
        print("(bitsandbytes is not installed: 4-bit layers are left out)", file=sys.stderr)
        return
    import bitsandbytes as bnb

    width, rank = sizes.hidden[-1], 16
    parameter = bnb.nn.Params4bit(
        torch.randn(sizes.inner, width), False, quant_type="nf4", compress_statistics=True
    ).to(device)
    weight, state = packed(parameter), parameter.quant_state
    state.dtype = dtype
    yield Case(
        f"4 bits to 16, {width} x {sizes.inner}",
        {
            "turnhalle": lambda: dequantize(weight, dtype),
            "bitsandbytes": lambda: bnb.functional.dequantize_4bit(parameter.data, state),
        },
        width * sizes.inner * (0.5 + 1 / 64 + 2) / BANDWIDTH,
        (),
        lambda: float(
            (dequantize(weight, dtype) - bnb.functional.dequantize_4bit(parameter.data, state))
            .abs()
            .max()
        ),
    )
    a = torch.randn(rank, width, device=device, requires_grad=True)
    b = torch.randn(sizes.inner, rank, device=device, requires_grad=True)
    layer = Layer(weight, a, b, 2.0)
    x = torch.randn(sizes.tokens, width, device=device, dtype=dtype, requires_grad=True)

    def step(run: Callable[..., Any]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(run(x, [layer])[0].sum(), (x, a, b))

    yield Case(
        f"4-bit layer with adapter, {width} x {sizes.inner}",
        {"turnhalle": step(lora_linear), "apart": step(lora_linear_reference)},
        4 * sizes.tokens * width * sizes.inner / FLOPS,
        (x, a, b),
    )


def elementwise_cases(device: str, dtype: torch.dtype, sizes: Sizes) -> Iterator[Case]:
    """Copies of the same bytes stand beside them."""
    width = sizes.hidden[-1]
    x, residual = (torch.randn(sizes.tokens, width, device=device, dtype=dtype) for _ in range(2))
    weight = torch.ones(width, device=device, dtype=dtype)
    pair = torch.randn(2, *x.shape, device=device, dtype=dtype)
    yield Case(
        f"sum and norm, H {width}",
        {
            "turnhalle": lambda: add_rms_norm(x, residual, weight, 1e-6),
            "copy of as many bytes": pair.clone,
        },
        8 * x.numel() / BANDWIDTH,
        (x, residual, pair),
    )
    both = torch.randn(sizes.tokens, 2 * sizes.inner, device=device, dtype=dtype)
    gate, up = both.split(sizes.inner, dim=1)
    yield Case(
        f"gate, I {sizes.inner}",
        {
            "turnhalle": lambda: swiglu(gate, up),
            "eager": lambda: torch.nn.functional.silu(gate) * up,
        },
        6 * gate.numel() / BANDWIDTH,
        (both,),
    )
    heads = torch.randn(1, sizes.tokens, sizes.heads, 128, device=device, dtype=dtype)
    cos, sin = torch.randn(2, 1, sizes.tokens, 128, device=device, dtype=dtype).unbind()
    yield Case(
        f"rotary positions, {sizes.heads} heads",
        {"turnhalle": lambda: rope(heads, cos, sin), "copy of as many bytes": heads.clone},
        4 * heads.numel() / BANDWIDTH,
        (heads,),
    )


def tree_case(device: str, dtype: torch.dtype, sizes: Sizes) -> Case:
    """Eight branches behind a prompt of half the tokens, forward and backward."""
    prompt = sizes.tokens // 2
    branch = prompt // 8
    parents = list(range(-1, prompt - 1))
    for first in range(prompt, sizes.tokens, branch):
        parents += [prompt - 1, *range(first, first + branch - 1)]
    tree = tree_of(parents).to(torch.device(device))
    q, k, v = (
        torch.randn(1, sizes.heads, sizes.tokens, 128, device=device, dtype=dtype) for _ in range(3)
    )
    q.requires_grad_(True)
    alone = [t[:, :, : prompt + branch].repeat(8, 1, 1, 1) for t in (q.detach(), k, v)]
    alone[0].requires_grad_(True)
    attend = torch.nn.functional.scaled_dot_product_attention
    pairs = prompt * (prompt + 1) / 2 + 8 * branch * (prompt + (branch + 1) / 2)
    return Case(
        f"tree of {sizes.tokens:,} nodes, 8 branches",
        {
            "turnhalle": lambda: torch.autograd.grad(tree_attention(q, k, v, tree).sum(), q),
            "branches alone": lambda: torch.autograd.grad(
                attend(*alone, is_causal=True).sum(), alone[0]
            ),
        },
        3.5 * 4 * pairs * 128 * sizes.heads / FLOPS,
        (q, k, v, *alone),
    )


def measure(case: Case, device: str) -> Iterator[dict[str, Any]]:
    """Medians of interleaved rounds after one to warm up (and compile)."""
    times: dict[str, list[float]] = {name: [] for name in case.runs}
    memory: dict[str, float] = {}
    for round_ in range(ROUNDS[device] + 1):
        for tensor in case.inputs:
            tensor.data.normal_()
        for name, run in case.runs.items():
            poison(device)
            seconds, extra = timed(run, device)
            memory[name] = extra
            if round_:
                times[name].append(seconds)
    error = f"{case.error():.1e}" if case.error is not None else "-"
    for name, seconds_ in times.items():
        median = statistics.median(seconds_)
        yield {
            "op": case.name,
            "contender": name,
            "ms": 1000 * median,
            "floor_share": case.floor_s / median,
            "extra_mib": memory[name] / 2**20,
            "error": error if name == "turnhalle" else "-",
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        }


def poison(device: str) -> None:
    """Leave NaN in the memory that the next outputs will be given."""
    if device == "cuda":
        torch.full((2**28,), torch.nan, device=device)


def timed(run: Callable[[], Any], device: str) -> tuple[float, float]:
    """Seconds (of the GPU, or CPU-seconds), and the most bytes held beyond those before."""
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew
        before = resident("VmRSS")
        start = time.process_time()
        run()
        return time.process_time() - start, resident("VmHWM") - before
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    run()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1000, torch.cuda.max_memory_allocated() - before


def resident(field: str) -> float:
    """Bytes of this process in memory, now (VmRSS) or at the most (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024.0 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")


def print_resources() -> None:
    """Compiled in a process of its own, without the interpreter."""
    if importlib.util.find_spec("triton") is None:
        print("\n(triton is not installed: no compile-time resources)")
        return
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_DEFAULT_FP_FUSION": "1"}
    command = [sys.executable, "-m", resources.__name__]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    print("\n| kernel | " + " | ".join(resources.Resources._fields) + " |")
    print("|---|" + "---|" * len(resources.Resources._fields))
    for name, values in json.loads(out.stdout)["kernels"].items():
        print(f"| {name} | " + " | ".join(str(v) for v in values.values()) + " |")


def write(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Time as a multiple of the fastest contender, ours marked."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    best: dict[str, float] = {}
    for row in rows:
        best[row["op"]] = min(best.get(row["op"], row["ms"]), row["ms"])
    labels = [f"{row['op']}: {row['contender']}" for row in rows]
    figure, axes = pyplot.subplots(figsize=(8, 0.3 * len(rows) + 1))
    colours = ["#2a6f97" if row["contender"] == "turnhalle" else "#b0b0b0" for row in rows]
    axes.barh(labels, [row["ms"] / best[row["op"]] for row in rows], color=colours)
    axes.invert_yaxis()
    axes.set_xlabel(f"time / fastest ({rows[0]['device']})")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
