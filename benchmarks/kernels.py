"""Kernels: built, checked and timed in one call; peers beside them in the same process.

On a GPU (`python benchmarks/kernels.py --csv docs/kernels.csv --plot docs/kernels.svg`): every op
at 8,192 tokens, medians of interleaved rounds on fresh inputs, memory that outputs land in poisoned
with NaN, errors against float64 on a part of the rows, and at the end what was asked for beside
what was measured. Peers that are not installed (trl, liger-kernel, bitsandbytes) are left out and
named; a contender that fails is named too, and the rest goes on. Without a GPU the same ops run
small, as PyTorch references in CPU-seconds of one thread, and the compile-time resources are
printed: registers, spills, tensor-core instructions.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from kernels_report import draw, print_asked, print_resources, write
from kernels_timing import poison, timed

from turnhalle.kernels import rms_norm, rope, swiglu
from turnhalle.kernels.head import LinearHead, checkpointed
from turnhalle.kernels.jit import cdiv
from turnhalle.kernels.logprob import token_logprobs
from turnhalle.kernels.lora_linear import Layer, lora_linear, lora_linear_reference
from turnhalle.kernels.nf4 import Packed, Scales, dequantize, dequantize_reference, packed
from turnhalle.kernels.rms_norm import add_rms_norm
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
    """Tokens, vocabulary and hidden size of heads; of layers tokens, hidden, MLP, heads of 128."""

    head: tuple[tuple[int, int, int], ...]
    tokens: int
    hidden: int
    inner: int
    heads: int


GPU = Sizes(((8192, 151_936, 2048), (8192, 151_936, 4096)), 8192, 4096, 14_336, 32)
CPU = Sizes(
    ((1024, 32_000, 256), (1024, 32_000, 1024), (4096, 32_000, 256),
     (256, 151_936, 256), (1024, 151_936, 256), (512, 151_936, 1024)),
    1024, 1024, 2048, 4,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path, help="write the rows here")
    parser.add_argument("--plot", type=Path, help="draw them here")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    arguments = parser.parse_args()
    # bitsandbytes looks for a package named `kernels`, and would find this script.
    sys.path.remove(str(Path(__file__).parent))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    else:
        print_ceilings()
    rows = []
    print("| op | contender | ms | of the floor | extra MiB | error |\n|---|---|---|---|---|---|")
    for case in cases(device, GPU if device == "cuda" else CPU):
        if arguments.only not in case.name:
            continue
        for row in measure(case, device):
            rows.append(row)
            share = f"{row['floor_share']:.0%}" if device == "cuda" else "-"
            print(
                f"| {row['op']} | {row['contender']} | {row['ms']:.3f} | {share} | "
                f"{row['extra_mib']:.0f} | {row['error']} |",
                flush=True,
            )
        torch.cuda.empty_cache()
    if arguments.csv and rows:
        write(rows, arguments.csv)
    if arguments.plot and rows:
        draw(rows, arguments.plot)
    if device == "cpu":
        print_resources()
    else:
        print_asked(rows)
    if FAILED:
        sys.exit(f"failed: {', '.join(FAILED)}")


FAILED: list[str] = []
"""Ops of ours that did not run."""


def cases(device: str, sizes: Sizes) -> Iterator[Case]:
    """All ops; a case's inputs live until the next one."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    for tokens, words, hidden in sizes.head:
        yield from logprob_cases(device, dtype, tokens, words, hidden)
    yield from linear_cases(device, dtype, sizes)
    yield from elementwise_cases(device, dtype, sizes)
    yield tree_case(device, dtype, sizes)


def logprob_cases(
    device: str, dtype: torch.dtype, tokens: int, words: int, hidden: int
) -> Iterator[Case]:
    linear = torch.nn.Linear(hidden, words, bias=False, device=device, dtype=dtype)
    head = LinearHead(linear.requires_grad_(False))
    x = torch.randn(tokens, hidden, device=device, dtype=dtype, requires_grad=True)
    targets = torch.randint(words, (tokens,), device=device)

    def full() -> torch.Tensor:
        return checkpointed(x, head, targets, 1.0, tokens * words)[0]

    def chunked() -> torch.Tensor:
        return checkpointed(x, head, targets, 1.0, tokens // 8 * words)[0]

    def ours() -> torch.Tensor:
        return token_logprobs(x, head, targets)[0]

    def error() -> float:
        part = slice(0, 64)
        logits = x[part].detach().double() @ linear.weight.double().T
        exact = logits.log_softmax(-1).gather(1, targets[part, None])[:, 0]
        return float((ours()[part].detach() - exact).abs().max())

    contenders = {"turnhalle": ours, "full logits": full, "chunks, recomputed": chunked}
    if device == "cuda":
        contenders["torch.compile of chunks"] = torch.compile(chunked)
        contenders |= trl_logprobs(x, linear.weight, targets)
    work = 2 * tokens * hidden * words / FLOPS
    name = f"M {tokens:,}, V {words:,}, H {hidden:,}"

    def without_gradient(run: Callable[[], Any]) -> Callable[[], Any]:
        return torch.no_grad()(run)

    def with_gradient(run: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(run().sum(), x)

    plain = {k: without_gradient(run) for k, run in contenders.items()}
    yield Case(f"log-probs, {name}", plain, work, (x,), error)
    both = {k: with_gradient(run) for k, run in contenders.items()}
    if device == "cuda":
        both |= liger_grpo(x, linear.weight, targets)
    yield Case(f"log-probs and dX, {name}", both, 2 * work, (x,))


def trl_logprobs(
    x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
) -> dict[str, Callable[[], Any]]:
    """TRL 1.16's op, as its trainers call it."""
    if not is_installed("trl"):
        return {}
    from trl.kernels import ChunkedLogProbFunction

    apply: Any = ChunkedLogProbFunction.apply
    return {"trl 1.16": lambda: apply(x, weight, None, targets, 1.0, 32768, None, 1.0, ())[0]}


def liger_grpo(
    x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
) -> dict[str, Callable[[], Any]]:
    """Liger 0.8.5's fused loss: GRPO on eight rows, and dX."""
    if not is_installed("liger_kernel"):
        return {}
    from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

    loss: Any = LigerFusedLinearGRPOLoss(beta=0.0, use_ref_model=False)
    ids = targets.view(8, -1)
    mask, advantages = torch.ones_like(ids), torch.linspace(-1, 1, 8, device=x.device)

    def run() -> Any:
        total = loss(x.view(*ids.shape, -1), weight, ids, mask, advantages)[0]
        return torch.autograd.grad(total, x)

    return {"liger 0.8.5, fused GRPO": run}


def is_installed(name: str) -> bool:
    found = importlib.util.find_spec(name) is not None
    if not found:
        print(f"({name} is not installed: left out)", file=sys.stderr)
    return found


def linear_cases(device: str, dtype: torch.dtype, sizes: Sizes) -> Iterator[Case]:
    """Without bitsandbytes on random bits: a dequantisation takes as long on any."""
    width, rank = sizes.hidden, 16
    contenders: dict[str, Callable[[], Any]] = {}
    if is_installed("bitsandbytes"):
        import bitsandbytes as bnb

        parameter = bnb.nn.Params4bit(
            torch.randn(sizes.inner, width), False, quant_type="nf4", compress_statistics=True
        ).to(device)
        weight, state = packed(parameter), parameter.quant_state
        state.dtype = dtype
        contenders["bitsandbytes"] = lambda: bnb.functional.dequantize_4bit(parameter.data, state)
    else:
        weight = random_bits(sizes.inner, width, device)
    out = torch.empty(sizes.inner, width, device=device, dtype=dtype)

    def error() -> float:
        dequantize_reference(weight, out)
        others = [out, *(run() for run in contenders.values())]
        ours = dequantize(weight, dtype)
        return max(float((ours - other).abs().max()) for other in others)

    yield Case(
        f"4 bits to 16, {width} x {sizes.inner}",
        {"turnhalle": lambda: dequantize(weight, dtype), **contenders},
        width * sizes.inner * (0.5 + 1 / 64 + 2) / BANDWIDTH,
        (),
        error,
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


def random_bits(rows: int, columns: int, device: str) -> Packed:
    """A matrix in 4 bits with double quantisation that nobody quantised."""
    blocks = rows * columns // 64

    def draw(size: int) -> torch.Tensor:
        return torch.randint(256, (size,), dtype=torch.uint8, device=device)

    code, levels = (torch.linspace(-1, 1, n, device=device) for n in (16, 256))
    offset = torch.tensor(0.05, device=device)
    scales = Scales(torch.full((cdiv(blocks, 256),), 0.01, device=device), levels, offset, 256)
    byte = torch.arange(256, device=device)
    pairs = torch.stack([code[byte >> 4], code[byte & 15]], dim=1).view(torch.int64)[:, 0]
    values = draw(rows * columns // 2)
    return Packed(values, draw(blocks), code, pairs, scales, 64, (rows, columns))


def elementwise_cases(device: str, dtype: torch.dtype, sizes: Sizes) -> Iterator[Case]:
    """Copies of the same bytes stand beside them; backward passes where kernels run them."""
    width, inner = sizes.hidden, sizes.inner

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, dtype=dtype)

    def case(
        name: str, run: Callable[[], Any], num_values: int, inputs: tuple[torch.Tensor, ...]
    ) -> Case:
        """`num_values` are read and written; a copy reads half of them."""
        half = draw(num_values // 2)
        contenders = {"turnhalle": run, "copy of as many bytes": half.clone}
        return Case(name, contenders, 2 * num_values / BANDWIDTH, inputs)

    x, residual, dtotal = draw(3, sizes.tokens, width).unbind()
    weight, rows = torch.ones(width, device=device, dtype=dtype), (x, residual, dtotal)
    name = f"sum and norm, H {width:,}"
    yield case(name, lambda: add_rms_norm(x, residual, weight, 1e-6), 4 * x.numel(), rows)
    if device == "cuda":
        rstd = torch.ones(sizes.tokens, device=device)
        saved = (x, weight, rstd)
        back = lambda: rms_norm.backward_triton(saved, residual, dtotal, 0.0)  # noqa: E731
        yield case(f"{name}, backward", back, 4 * x.numel(), rows)
    both, dout = draw(sizes.tokens, 2 * inner), draw(sizes.tokens, inner)
    gate, up = both.split(inner, dim=1)
    name = f"gate, I {inner:,}"
    yield case(name, lambda: swiglu.swiglu(gate, up), 3 * gate.numel(), (both,))
    if device == "cuda":
        back = lambda: swiglu.backward_triton(gate, up, dout, "silu")  # noqa: E731
        yield case(f"{name}, backward", back, 5 * gate.numel(), (both, dout))
    heads = draw(1, sizes.tokens, sizes.heads, 128)
    cos, sin = draw(2, 1, sizes.tokens, 128).unbind()
    name = f"rotary positions, {sizes.heads} heads"
    yield case(name, lambda: rope.rope(heads, cos, sin), 2 * heads.numel(), (heads,))


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


def print_ceilings() -> None:
    """What this device does at most: a copy of 4 GiB, a product of 8,192 x 8,192 matrices."""
    big = torch.zeros(2**31, device="cuda", dtype=torch.bfloat16)
    a, b = torch.randn(2, 8192, 8192, device="cuda", dtype=torch.bfloat16).unbind()
    copy = statistics.median(timed(big.clone, "cuda")[0] for _ in range(9))
    product = statistics.median(timed(lambda: a @ b, "cuda")[0] for _ in range(9))
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}: copies "
        f"{8e-12 * 2**30 / copy:.2f} TB/s (floors take {BANDWIDTH / 1e12}), products "
        f"{2e-12 * 8192**3 / product:.0f} TFLOP/s ({FLOPS / 1e12:.0f})\n"
    )


def measure(case: Case, device: str) -> Iterator[dict[str, Any]]:
    """Medians of interleaved rounds after one to warm up (and compile)."""
    times: dict[str, list[float]] = {name: [] for name in case.runs}
    memory: dict[str, list[float]] = {name: [] for name in case.runs}
    for round_ in range(ROUNDS[device] + 1):
        for tensor in case.inputs:
            tensor.data.normal_()
        for name in list(times):
            poison(device)
            try:
                seconds, extra = timed(case.runs[name], device)
            except Exception as failure:  # a peer's, or ours: the lease is short, so go on
                print(f"({case.name}: {name} failed: {failure!r:.300})", file=sys.stderr)
                FAILED.extend([case.name] * (name == "turnhalle"))
                del times[name]
                continue
            if round_:
                times[name].append(seconds)
                memory[name].append(extra)
    error = f"{case.error():.1e}" if case.error is not None and "turnhalle" in times else "-"
    for name, seconds_ in times.items():
        median = statistics.median(seconds_)
        yield {
            "op": case.name,
            "contender": name,
            "ms": 1000 * median,
            "floor_share": case.floor_s / median,
            "extra_mib": statistics.median(memory[name]) / 2**20,
            "error": error if name == "turnhalle" else "-",
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        }


if __name__ == "__main__":
    main()
