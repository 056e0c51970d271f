"""Every op on a CUDA device, in bfloat16, against float64; run by `make test-gpu`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from turnhalle import kernels
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.kernels import logprob_triton
from turnhalle.kernels.head import LinearHead
from turnhalle.kernels.logprob import token_logprobs
from turnhalle.kernels.nf4 import dequantize, dequantize_reference, packed
from turnhalle.kernels.rms_norm import add_rms_norm, rms_norm_reference
from turnhalle.kernels.rope import HeadNorm, rope, rope_reference
from turnhalle.kernels.swiglu import swiglu, swiglu_reference
from turnhalle.kernels.tree_attention import tree_attention, tree_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def draw(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> torch.Tensor:
    """Behind a block of NaN that was given back, so that what is not written shows."""
    torch.full((2**26,), torch.nan, device="cuda")
    generator = torch.Generator("cuda").manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, device="cuda").to(dtype)


def compare(
    ours: Callable[..., Any], exact: Callable[..., Any], inputs: list[torch.Tensor]
) -> None:
    """No more than 1.5 times the error of rounding the exact result to bfloat16."""
    own = [t.clone().requires_grad_(True) for t in inputs]
    wide = [t.double().requires_grad_(True) for t in inputs]
    a, b = ours(*own), exact(*wide)
    a, b = (x if isinstance(x, tuple) else (x,) for x in (a, b))
    upstream = [torch.randn_like(y) for y in a]
    results = [y.detach().clone() for y in a]
    grads = torch.autograd.grad(a, own, upstream)
    exact_grads = torch.autograd.grad(b, wide, [u.double() for u in upstream])
    for one, two in zip((*results, *grads), (*b, *exact_grads), strict=True):
        rounded = (two.to(one.dtype).double() - two).norm()
        assert (one.double() - two).norm() <= 1.5 * rounded


@pytest.mark.parametrize("softcap", [None, 30.0])
@pytest.mark.parametrize("words", [499, 32_000, 151_936])
def test_log_probs_are_exact(words: int, softcap: float | None) -> None:
    """Two chunks and a ragged one; log-probs to 1e-5, gradients as if rounded once."""
    linear = torch.nn.Linear(1024, words, bias=False, device="cuda", dtype=torch.bfloat16)
    linear.weight.data = draw(words, 1024) * 0.1
    head = LinearHead(linear.requires_grad_(False), softcap)
    x = draw(2001, 1024).requires_grad_(True)
    targets = torch.randint(words, (2001,), device="cuda")
    ours, entropies = token_logprobs(x, head, targets, 0.8)
    (gradient,) = torch.autograd.grad(ours.sum(), x)
    wide = x.detach()[:200].double().requires_grad_(True)
    logits = wide @ linear.weight.double().T
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    full = (logits / 0.8).log_softmax(-1)
    exact = full.gather(1, targets[:200, None])[:, 0]
    (exact_gradient,) = torch.autograd.grad(exact.sum(), wide)
    assert (ours[:200].double() - exact).abs().max() < 1e-5
    assert torch.allclose(entropies[:200].double(), -(full.exp() * full).sum(-1), atol=1e-4)
    rounded = (exact_gradient.bfloat16().double() - exact_gradient).norm()
    assert (gradient[:200].double() - exact_gradient).norm() <= 1.2 * rounded
    again, _ = token_logprobs(x, head, targets, 0.8)
    assert torch.equal(again, ours)


def test_one_compile_serves_any_number_of_tokens() -> None:
    linear = torch.nn.Linear(256, 1000, bias=False, device="cuda", dtype=torch.bfloat16)
    head = LinearHead(linear.requires_grad_(False))

    def run(rows: int) -> None:
        x = draw(rows, 256).requires_grad_(True)
        token_logprobs(x, head, torch.zeros(rows, dtype=torch.long, device="cuda"))[0].sum()

    run(77)
    caches = logprob_triton.logit_kernel.device_caches
    before = sum(len(cache[0]) for cache in caches.values())
    rng = random.Random(0)
    for rows in (1, 16, *(rng.randint(1, 5000) for _ in range(50))):
        run(rows)
    assert sum(len(cache[0]) for cache in caches.values()) == before


def test_four_bits_are_those_of_bitsandbytes() -> None:
    bnb = pytest.importorskip("bitsandbytes")
    weight = torch.randn(1024, 4096)
    parameter = bnb.nn.Params4bit(weight, False, quant_type="nf4", compress_statistics=True)
    parameter = parameter.to("cuda")
    theirs = bnb.functional.dequantize_4bit(parameter.data, parameter.quant_state)
    ours = dequantize(packed(parameter), theirs.dtype)
    assert torch.equal(ours, theirs)
    plain = torch.empty_like(ours)
    dequantize_reference(packed(parameter), plain)
    assert torch.equal(ours, plain)


def test_elementwise_ops_round_once() -> None:
    weight = draw(4096, seed=3)
    compare(
        lambda x, r: add_rms_norm(x, r, weight, 1e-6),
        # What is normalised is the sum as it is stored.
        lambda x, r: rms_norm_reference(_stored(x + r), None, weight, 1e-6, 0.0),
        [draw(33, 4096), draw(33, 4096, seed=1)],
    )
    compare(
        swiglu,
        lambda g, u: swiglu_reference(g, u, "silu"),
        [draw(33, 14_336), draw(33, 14_336, seed=1)],
    )
    cos, sin = draw(2, 1, 40, 128).unbind()
    norm = HeadNorm(draw(128), 1e-6)
    compare(
        lambda x: rope(x, cos, sin, norm),
        lambda x: rope_reference(x, cos.double(), sin.double(), norm),
        [draw(2, 40, 8, 128)],
    )


def _stored(total: torch.Tensor) -> torch.Tensor:
    """The value rounded to bfloat16, the gradient as it is."""
    return total + (total.detach().bfloat16().double() - total.detach())


def test_trees_on_flex_attention_are_those_of_the_dense_mask() -> None:
    parents = [*range(-1, 255)]
    for _ in range(3):
        parents += [255, *range(len(parents), len(parents) + 127)]
    tree = tree_of(parents)
    q, k, v = (draw(1, 4, len(parents), 64, seed=i).requires_grad_(True) for i in range(3))
    ours = tree_attention(q, k, v, tree.to(torch.device("cuda")))
    wide = [t.detach().cpu().double().requires_grad_(True) for t in (q, k, v)]
    exact = tree_attention(*wide, tree)
    assert (ours.cpu().double() - exact).norm() < 0.01 * exact.norm()
    grads = torch.autograd.grad(ours.float().square().sum(), (q, k, v))
    exact_grads = torch.autograd.grad(exact.square().sum(), wide)
    for one, two in zip(grads, exact_grads, strict=True):
        assert (one.cpu().double() - two).norm() < 0.02 * two.norm()


@pytest.mark.parametrize("precision", ["bf16", "nf4"])
@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma", "gemma3", "mistral"])
def test_models_pass_their_own_check(make_model: Any, architecture: str, precision: str) -> None:
    if precision == "nf4":
        pytest.importorskip("bitsandbytes")
    options = ModelOptions(
        name=str(make_model(architecture)),
        precision=precision,
        device="cuda",
        kernels="off",  # type: ignore[arg-type]
    )
    lm = load_model(options, lora_seed=0)
    assert kernels.apply(lm.model).replaced["attention"] == 2
