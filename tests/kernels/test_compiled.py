"""Layers through torch.compile: the same numbers, few graphs, the way back, clear refusals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from turnhalle import kernels
from turnhalle.agents.adapters import twin
from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.envs.errors import ModelError
from turnhalle.kernels.compiled import compile_layers
from turnhalle.kernels.tree_attention import tree_of

pytestmark = [  # torch hides them otherwise than by filters
    pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Number of graphs so far; traced and differentiated, but not compiled to C++.

    One of them is compiled to see that it can be done.
    """
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    # Under pytest torch would write all that it does as JSON, which takes ten times as long.
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "handlers", [])
    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"] - 1
    torch._dynamo.reset()


def load(folder: Path | str, precision: str = "fp32", **extra: Any) -> LanguageModel:
    held = {"kernels": "off", "precision": precision, "device": "cpu"} | extra
    options = ModelOptions(name=str(folder), **held)
    lm = load_model(options, lora_seed=0)
    for name, parameter in lm.trainable().items():
        if "lora_B" in name:  # a fresh adapter changes nothing
            torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(1))
    return lm


def run(lm: LanguageModel, rows: int = 2, length: int = 30, tree: bool = False) -> Any:
    """Hidden states, and the adapter's gradients."""
    generator = torch.Generator().manual_seed(100 * rows + length)
    ids = torch.randint(3, 250, (rows, length), generator=generator)
    if tree:
        states = lm.tree_states(ids.flatten(), tree_of(np.arange(-1, ids.numel() - 1)))
    else:
        states = lm.hidden_states(ids)
    loss = lm.head(states).log_softmax(-1)[..., 7].sum()
    gradients = torch.autograd.grad(loss, list(lm.trainable().values()))
    return [states.detach(), *gradients]


def check(ours: list[torch.Tensor], plain: list[torch.Tensor], bound: float = 1e-5) -> None:
    for one, two in zip(ours, plain, strict=True):
        assert (one - two).norm() <= bound * two.norm()


def test_4_bit_layers_with_adapters_are_traced_whole_for_any_number_of_tokens(
    make_model: Any, graphs: Callable[[], int]
) -> None:
    lm = load(make_model(), "nf4")
    sizes = [(2, 30), (3, 18), (4, 5), (7, 31)]
    plain = [run(lm, *size) for size in sizes]
    compiled = compile_layers(lm.model)
    for size, theirs in zip(sizes, plain, strict=True):
        check(run(lm, *size), theirs)
    assert not counters["graph_break"]
    # The first layer's input has no gradient, the second's has.
    assert graphs() == 2
    compiled.undo()
    assert all(torch.equal(a, b) for a, b in zip(run(lm, 2, 30), plain[0], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma", "gemma3", "mistral"])
def test_rows_and_trees_have_the_same_states_and_gradients(
    make_model: Any, architecture: str, graphs: Callable[[], int]
) -> None:
    lm = load(make_model(architecture))
    sizes = [(2, 30, False), (2, 30, True), (3, 20, False), (3, 5, True)]
    plain = [run(lm, *size) for size in sizes]
    compile_layers(lm.model)
    seen = []
    for size, theirs in zip(sizes, plain, strict=True):
        check(run(lm, *size), theirs)
        seen.append(graphs())
    assert seen[1] == seen[3]  # both layouts were known by then


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_other_precisions_are_traced_whole(
    make_model: Any, precision: str, graphs: Callable[[], int]
) -> None:
    lm = load(make_model(), precision)
    plain = run(lm)
    compile_layers(lm.model)
    check(run(lm), plain, 0.05 if precision == "bf16" else 1e-5)
    assert not counters["graph_break"]
    assert graphs() == 2


@pytest.mark.slow
def test_checkpointed_gradients_are_the_same(make_model: Any) -> None:
    plain = run(load(make_model(), "nf4"))
    lm = load(make_model(), "nf4", gradient_checkpointing=True)
    compile_layers(lm.model)
    check(run(lm), plain)


@pytest.mark.parametrize("first", ["kernels", "compile"])
def test_kernels_and_compilation_go_in_and_out_in_any_order(
    make_model: Any, first: str, graphs: Callable[[], int]
) -> None:
    """Of Qwen3 kernels replace everything, so that nothing is left to compile."""
    lm = load(make_model(), "nf4")
    plain = run(lm)
    if first == "kernels":
        patched = kernels.apply(lm.model)
        compiled = compile_layers(lm.model)
        check(run(lm), plain)
        assert graphs() == 0
        patched.undo()
        check(run(lm), plain)
        assert graphs() == 2
        compiled.undo()
    else:
        compiled = compile_layers(lm.model)
        check(run(lm), plain)
        patched = kernels.apply(lm.model)
        check(run(lm), plain)
        compiled.undo()
        check(run(lm), plain)
        patched.undo()
    assert all(torch.equal(a, b) for a, b in zip(run(lm), plain, strict=True))


@pytest.mark.slow
def test_what_the_kernels_leave_is_compiled(make_model: Any, graphs: Callable[[], int]) -> None:
    """Of Phi3 they replace the norms alone."""
    lm = load(make_model("phi3"))
    plain = run(lm)
    kernels.apply(lm.model)
    compile_layers(lm.model)
    check(run(lm), plain)
    assert graphs() > 0


def test_an_engine_with_a_cache_runs_the_layers_as_they_are(
    make_model: Any, graphs: Callable[[], int]
) -> None:
    lm = load(make_model())
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        plain = lm.model(input_ids=ids, use_cache=True).logits
        compile_layers(lm.model)
        assert torch.equal(lm.model(input_ids=ids, use_cache=True).logits, plain)
    assert graphs() == 0


def test_a_copy_is_not_compiled_and_the_original_still_is(
    make_model: Any, graphs: Callable[[], int]
) -> None:
    lm = load(make_model(), compile=True)
    assert lm.notes == ["compiled: 2 layers by torch.compile"]
    assert graphs() == 0  # nothing before the first call
    run(twin(lm))
    assert graphs() == 0
    run(lm)
    assert graphs() == 2


@pytest.mark.slow
def test_an_adapter_that_is_switched_off_is_off(make_model: Any) -> None:
    lm = load(make_model())
    ids = torch.arange(3, 40)[None]
    with torch.no_grad(), lm.peft.disable_adapter():  # type: ignore[union-attr]
        plain = lm.hidden_states(ids)
    compile_layers(lm.model)
    with torch.no_grad():
        adapted = lm.hidden_states(ids)
        with lm.peft.disable_adapter():  # type: ignore[union-attr]
            assert torch.allclose(lm.hidden_states(ids), plain, atol=1e-5)
    assert not torch.allclose(adapted, plain, atol=1e-2)


def test_a_second_compilation_and_a_model_without_layers_are_refused(make_model: Any) -> None:
    import transformers

    lm = load(make_model())
    compile_layers(lm.model)
    with pytest.raises(ValueError, match="compiled already"):
        compile_layers(lm.model)
    config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=20)
    config.bos_token_id = config.eos_token_id = 1
    with pytest.raises(ValueError, match="GPT2LMHeadModel has no decoder layers"):
        compile_layers(transformers.GPT2LMHeadModel(config))


def test_a_machine_without_a_compiler_is_told_so_before_anything_runs(
    make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ModelError, match=r"no 'no-such-compiler'.*model.compile=false"):
        load(make_model(), compile=True)
    monkeypatch.delenv("CXX")

    def broken(*_: Any, **__: Any) -> Any:
        def call(_: torch.Tensor) -> None:
            raise RuntimeError("CppCompileError: no Python.h\nadvice")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ModelError, match=r"not work on this machine: CppCompileError: no Python.h"):
        load(make_model(), compile=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("precision", ["fp32", "nf4"])
def test_the_compiler_s_code_computes_the_same(
    make_model: Any, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With PyTorch's own compiler, in C++."""
    monkeypatch.undo()
    lm = load(make_model(), precision)
    plain = [run(lm), run(lm, 3, 12, tree=True)]
    compile_layers(lm.model)
    check(run(lm), plain[0])
    check(run(lm, 3, 12, tree=True), plain[1])
