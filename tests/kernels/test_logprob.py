"""Log-probs from hidden states: algebra in float64, the kernel in the interpreter, the contract."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from turnhalle.kernels import logprob, logprob_triton
from turnhalle.kernels.head import LinearHead, checkpointed
from turnhalle.kernels.logprob import score_reference, token_logprobs
from turnhalle.kernels.logprob_triton import Tile, score_triton
from turnhalle.kernels.scores import FrozenHead


class Problem(NamedTuple):
    hidden: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    targets: torch.Tensor

    def head(self, softcap: float | None = None) -> LinearHead:
        linear = torch.nn.Linear(*self.weight.T.shape, bias=self.bias is not None)
        linear.weight.data = self.weight
        if self.bias is not None:
            linear.bias.data = self.bias
        return LinearHead(linear.requires_grad_(False), softcap)


def problem(
    rows: int = 7,
    width: int = 5,
    words: int = 499,
    *,
    dtype: torch.dtype = torch.float64,
    bias: bool = False,
    sharpness: float = 1.0,
) -> Problem:
    generator = torch.Generator().manual_seed(rows + words)
    hidden = torch.randn(rows, width, generator=generator, dtype=torch.float64) * sharpness
    weight = torch.randn(words, width, generator=generator, dtype=torch.float64)
    shift = torch.randn(words, generator=generator, dtype=torch.float64) if bias else None
    targets = torch.randint(words, (rows,), generator=generator)
    return Problem(
        hidden.to(dtype), weight.to(dtype), None if shift is None else shift.to(dtype), targets
    )


def truth(
    p: Problem, temperature: float = 1.0, softcap: float | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probs, entropies and dlogp/dh in float64, by autograd over all logits."""
    hidden = p.hidden.double().requires_grad_(True)
    logits = hidden @ p.weight.double().T
    if p.bias is not None:
        logits = logits + p.bias.double()
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    full = (logits / temperature).log_softmax(-1)
    logprobs = full.gather(1, p.targets[:, None])[:, 0]
    (gradient,) = torch.autograd.grad(logprobs.sum(), hidden)
    return logprobs.detach(), -(full.exp() * full).sum(-1).detach(), gradient


def relative(ours: torch.Tensor | None, exact: torch.Tensor) -> float:
    assert ours is not None
    return float((ours.double() - exact).norm() / exact.norm())


CASES = [
    (1.0, None, False, 1.0),
    (0.6, None, True, 1.0),
    (1.0, 4.0, False, 1.0),
    (1.7, 4.0, True, 3.0),
    (1.0, None, False, 60.0),  # p -> 1, and log-probs far below -80
]


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ragged last tiles of rows and of words, and no row left to plain autograd."""
    monkeypatch.setattr(logprob, "REFERENCE_TILE", (4, 128))
    monkeypatch.setattr(logprob, "MAX_AUTOGRAD_LOGITS", 0)


@pytest.mark.parametrize(("temperature", "softcap", "bias", "sharpness"), CASES)
def test_the_algebra_is_that_of_the_full_softmax(
    temperature: float, softcap: float | None, bias: bool, sharpness: float, small_tiles: None
) -> None:
    p = problem(bias=bias, sharpness=sharpness)
    hidden = p.hidden.clone().requires_grad_(True)
    ours, entropy = token_logprobs(hidden, p.head(softcap), p.targets, temperature)
    exact, exact_entropy, gradient = truth(p, temperature, softcap)
    assert torch.allclose(ours, exact, rtol=1e-12, atol=1e-12)
    assert torch.allclose(entropy, exact_entropy, rtol=1e-10, atol=1e-12)
    assert not entropy.requires_grad
    upstream = torch.randn(7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (backward,) = torch.autograd.grad(ours, hidden, upstream)
    assert torch.allclose(backward, upstream[:, None] * gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("temperature", "softcap", "bias", "sharpness"), CASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float16, 1e-3)], ids=["fp32", "fp16"]
)
def test_the_kernel_is_exact_in_the_interpreter(
    temperature: float,
    softcap: float | None,
    bias: bool,
    sharpness: float,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    """37 rows, 24 columns, 499 words: no tile divides any of them."""
    p = problem(37, 24, 499, dtype=dtype, bias=bias, sharpness=sharpness / 4)
    exact, exact_entropy, gradient = truth(p, temperature, softcap)
    head = FrozenHead(p.weight, p.bias, softcap, 1 / temperature)
    with np.errstate(over="ignore", invalid="ignore"):
        ours = score_triton(p.hidden, head, p.targets, wants_gradient=True)
    assert torch.allclose(ours.logprobs.double(), exact, rtol=2e-6, atol=1e-5)
    # The entropy is a difference of numbers as large as the log-prob.
    rounding = 3e-7 * float(exact.abs().max())
    assert torch.allclose(ours.entropies.double(), exact_entropy, atol=1e-5 + rounding)
    assert relative(ours.gradient, gradient) < tolerance


@pytest.mark.parametrize("use_tma", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
def test_every_form_of_the_kernel_gives_the_same(
    use_tma: bool, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile = Tile(16, 32, 16, 4, 1, use_tma=use_tma, parts=parts)
    monkeypatch.setitem(logprob_triton.TILES, 0, tile)
    monkeypatch.setattr(logprob_triton, "SOFTCAP_TILE", tile)
    p = problem(19, 40, 131, dtype=torch.float32, bias=True, sharpness=0.5)
    ours = score_triton(p.hidden, FrozenHead(p.weight, p.bias, 9.0, 1.0), p.targets, True)
    exact, entropies, gradient = truth(p, softcap=9.0)
    assert torch.allclose(ours.logprobs.double(), exact, atol=1e-5)
    assert torch.allclose(ours.entropies.double(), entropies, atol=1e-5)
    assert relative(ours.gradient, gradient) < 1e-6


def test_the_kernel_takes_a_real_vocabulary_and_chunks_of_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """151,936 words divide by 128 and not by 256; two chunks, the second of one row."""
    monkeypatch.setitem(logprob_triton.TILES, 0, Tile(16, 8192, 16, 4, 1))
    monkeypatch.setattr(logprob_triton, "chunk_rows", lambda *_: 2)
    p = problem(3, 16, 151_936, dtype=torch.float32)
    exact, entropies, gradient = truth(p)
    ours = score_triton(p.hidden, FrozenHead(p.weight, None, None, 1.0), p.targets, True)
    assert torch.allclose(ours.logprobs.double(), exact, atol=1e-5)
    assert torch.allclose(ours.entropies.double(), entropies, atol=1e-4)
    assert relative(ours.gradient, gradient) < 1e-4


@pytest.mark.parametrize("score", [score_reference, score_triton])
def test_a_confident_token_keeps_its_last_digits(score: Any) -> None:
    """At p = 1 - 1e-7 a softmax in float32 loses log-prob and gradient; this does not."""
    weight = torch.eye(4, 8)
    hidden = torch.zeros(1, 8)
    hidden[0, 0] = 17.0
    p = Problem(hidden, weight, None, torch.tensor([0]))
    exact, _, gradient = truth(p)
    assert -2e-7 < float(exact) < -1e-7
    ours = score(hidden, FrozenHead(weight, None, None, 1.0), p.targets, True)
    assert relative(ours.logprobs, exact) < 1e-5
    assert relative(ours.gradient, gradient) < 1e-5


@pytest.mark.parametrize("score", [score_reference, score_triton])
def test_rows_far_below_minus_80_are_done_again_and_no_others(
    score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.5, 0.0]])
    hidden = torch.tensor([[200.0, 0.0], [3.0, 0.0], [-300.0, 0.0], [1.0, 0.0]])
    p = Problem(hidden, weight, None, torch.tensor([1, 1, 0, 0]))
    exact, _, gradient = truth(p)
    assert exact[[0, 2]].max() < -300
    with np.errstate(over="ignore", invalid="ignore"):
        ours = score(hidden, FrozenHead(weight, None, None, 1.0), p.targets, True)
        assert torch.allclose(ours.logprobs.double(), exact, rtol=1e-6)
        assert torch.allclose(ours.gradient.double(), gradient, atol=1e-5)
        monkeypatch.setattr(logprob, "offset", lambda d, _: torch.zeros_like(d))
        monkeypatch.setattr(logprob_triton, "offset", lambda d, _: torch.zeros_like(d))
        unguarded = score(hidden, FrozenHead(weight, None, None, 1.0), p.targets, True)
    assert unguarded.logprobs.isinf().tolist() == [True, False, True, False]


def test_bfloat16_is_summed_in_float32_by_the_reference(small_tiles: None) -> None:
    p = problem(16, 64, 700, dtype=torch.bfloat16, sharpness=0.5)
    hidden = p.hidden.clone().requires_grad_(True)
    ours, _ = token_logprobs(hidden, p.head(), p.targets)
    exact, _, gradient = truth(p)
    assert (ours.double() - exact).abs().max() < 1e-5
    (backward,) = torch.autograd.grad(ours.sum(), hidden)
    # No worse than the exact gradient rounded to bfloat16.
    assert relative(backward, gradient) < 1.2 * relative(gradient.bfloat16(), gradient)


def test_masked_rows_never_enter(small_tiles: None) -> None:
    p = problem()
    keep = torch.tensor([0, 2, 6])
    hidden = p.hidden.clone()
    hidden[[1, 3, 4, 5]] = torch.nan
    hidden.requires_grad_(True)
    ours, _ = token_logprobs(hidden[keep], p.head(), p.targets[keep])
    (backward,) = torch.autograd.grad(ours.sum(), hidden)
    assert torch.allclose(backward[keep], truth(p)[2][keep])
    assert (backward[[1, 3, 4, 5]] == 0).all()


def test_no_rows_give_no_log_probs_and_a_gradient_of_zero() -> None:
    p = problem()
    hidden = p.hidden[:0].requires_grad_(True)
    ours, entropy = token_logprobs(hidden, p.head(), p.targets[:0])
    assert ours.shape == entropy.shape == (0,)
    ours.sum().backward()


def test_without_gradients_no_gradient_is_made(
    small_tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        logprob, "score_reference", lambda *a: seen.append(a[3]) or score_reference(*a)
    )
    p = problem()
    hidden = p.hidden.clone().requires_grad_(True)
    with torch.no_grad():
        token_logprobs(hidden, p.head(), p.targets)
    token_logprobs(p.hidden, p.head(), p.targets)
    token_logprobs(hidden, p.head(), p.targets)
    assert seen == [False, False, True]


def test_few_logits_on_a_cpu_are_bit_for_bit_those_of_plain_autograd() -> None:
    """What runs of the built-in policy computed before the op existed."""
    p = problem(50, 16, 300, dtype=torch.float32)
    hidden = p.hidden.clone().requires_grad_(True)
    ours, _ = token_logprobs(hidden, p.head(), p.targets, 0.7)
    logits = torch.nn.functional.linear(hidden, p.weight).float() / 0.7
    plain = logits.gather(1, p.targets[:, None])[:, 0] - logits.logsumexp(dim=-1)
    assert torch.equal(ours, plain)
    assert torch.equal(*(torch.autograd.grad(x.sum(), hidden)[0] for x in (ours, plain)))


def learning_heads() -> dict[str, LinearHead]:
    """Heads that a frozen matrix does not describe."""
    import peft

    p = problem(dtype=torch.float32)
    learns, hooked = p.head(), p.head()
    learns.module.requires_grad_(True)
    hooked.module.register_forward_hook(lambda _m, _i, out: 2 * out)
    model = torch.nn.Sequential(p.head().module)
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
    with_lora = peft.get_peft_model(model, config).base_model.model[0]
    return {"learns": learns, "hook": hooked, "lora": LinearHead(with_lora)}


@pytest.mark.parametrize("kind", ["learns", "hook", "lora"])
def test_a_head_that_is_no_frozen_matrix_is_called_not_bypassed(
    kind: str, small_tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprob, "MAX_AUTOGRAD_LOGITS", 1000)  # two rows a chunk
    with torch.random.fork_rng():
        head = learning_heads()[kind]
    assert not head.is_frozen
    p = problem(dtype=torch.float32)
    ours, _ = token_logprobs(p.hidden.clone().requires_grad_(True), head, p.targets)
    full = head(p.hidden).log_softmax(-1).gather(1, p.targets[:, None])[:, 0]
    assert torch.allclose(ours, full, atol=1e-5)
    learning = [q for q in head.module.parameters() if q.requires_grad]
    assert bool(learning) == (kind != "hook")
    if learning:
        pairs = zip(
            torch.autograd.grad(ours.sum(), learning),
            torch.autograd.grad(full.sum(), learning),
            strict=True,
        )
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)


def test_the_reference_holds_less_than_an_eighth_of_the_logits() -> None:
    rows, words, width = 1024, 100_000, 8
    p = problem(rows, width, words, dtype=torch.float32)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.untyped_storage() is not None:
                largest = max(largest, out.untyped_storage().nbytes())
            return out

    hidden = p.hidden.clone().requires_grad_(True)
    with Watch():
        ours, _ = token_logprobs(hidden, p.head(), p.targets)
        ours.sum().backward()
    # Two such tensors are alive at once, and no third.
    assert 3 * largest < rows * words * 4 / 8


def test_plain_checkpointing_agrees_with_the_op(small_tiles: None) -> None:
    p = problem(bias=True)
    one, two = (p.hidden.clone().requires_grad_(True) for _ in range(2))
    ours, _ = token_logprobs(one, p.head(), p.targets, 0.8)
    chunked, _ = checkpointed(two, p.head(), p.targets, 0.8, 1000)
    assert torch.allclose(ours, chunked)
    a, b = (torch.autograd.grad(x.sum(), h)[0] for x, h in ((ours, one), (chunked, two)))
    assert torch.allclose(a, b)


def test_a_planted_indexing_bug_shows_in_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last, ragged tile of words must be masked: verl#2656 was wrong by 123 nats there."""
    p = problem(5, 16, 499, dtype=torch.float32, sharpness=0.3)
    head = FrozenHead(p.weight, None, None, 1.0)
    exact = truth(p)[0]
    assert (score_triton(p.hidden, head, p.targets, False).logprobs - exact).abs().max() < 1e-5
    source = logprob_triton.logit_kernel

    class Planted:
        def __getitem__(self, grid: Any) -> Any:
            def launch(*args: Any, **kwargs: Any) -> None:
                words = list(args)
                words[9] = 512  # the tiles' words, not the head's
                padded = torch.zeros(512, 16)
                padded[:499] = p.weight
                words[1] = padded
                source[grid](*words, **kwargs)

            return launch

    monkeypatch.setattr(logprob_triton, "logit_kernel", Planted())
    planted = score_triton(p.hidden, head, p.targets, False).logprobs
    assert (planted - exact).abs().max() > 1e-3
