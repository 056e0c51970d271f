"""Decoder layers through `torch.compile`: what the ops of this package leave to PyTorch.

A layer that is called without a cache runs compiled: that is how a learner computes, with gradients
and without. With a cache, as an engine samples, it runs as it is. Nothing is compiled before the
first such call. Shapes are dynamic: one graph serves any number of tokens. There are more graphs
than one where layers differ in kind, the first layer's input has no gradient, or a batch has one
row; attention in a tree cuts a layer in pieces.

What `patch.apply` replaced is called and not traced: layers of which it replaced all have nothing
left to compile. The compiled function stands where `torch.nn.Module.compile` puts it, so
checkpoints, hooks and `patch.apply` work as without, and a copy of the model is not compiled.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch

_MAX_GRAPHS = 64
"""Graphs of one function before `torch.compile` gives up and runs it as it is; its own 8 are fewer
than a model with layers of several kinds needs."""


class Compiled:
    """The layers of a model that are compiled, and the way back."""

    def __init__(self, layers: list[Any]) -> None:
        self._layers = layers

    def undo(self) -> None:
        """Run all layers as they are."""
        for layer in self._layers:
            del layer._compiled_call_impl
        self._layers.clear()

    def __str__(self) -> str:
        return f"{len(self._layers)} layers by torch.compile"


def compile_layers(model: Any) -> Compiled:
    """Let `torch.compile` run the decoder layers wherever no cache is given.

    Args:
        model: A causal transformers model.

    Raises:
        ValueError: The model has no decoder layers, or is compiled already.
        RuntimeError: What `torch.compile` needs is missing on this machine; says what.
    """
    layers = _layers(model)
    if not layers:
        raise ValueError(f"{type(model).__name__} has no decoder layers that are known here")
    if is_compiled(model):
        raise ValueError("the layers are compiled already")
    _require_compiler(model.device)
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, _MAX_GRAPHS)
    for layer in layers:
        layer._compiled_call_impl = _dispatch(layer)
    return Compiled(layers)


def is_compiled(model: Any) -> bool:
    """Are decoder layers of the model compiled?"""
    return any("_compiled_call_impl" in vars(layer) for layer in _layers(model))


def _layers(model: Any) -> list[Any]:
    return list(getattr(model.get_decoder(), "layers", ()))


def _dispatch(layer: Any) -> Callable[..., Any]:
    compiled = torch.compile(layer._call_impl, dynamic=True)

    def call(*args: Any, **kwargs: Any) -> Any:
        run = compiled if kwargs.get("past_key_values") is None else layer._call_impl
        return run(*args, **kwargs)

    return call


def _require_compiler(device: torch.device) -> None:
    """Compile next to nothing, so that what is missing shows before anything long starts."""
    if device.type == "cpu":
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise RuntimeError(
                f"torch.compile on a CPU needs a C++ compiler, and there is no {compiler!r}: "
                "install g++, or name another in the environment variable CXX"
            )
    try:
        torch.compile(torch.exp, dynamic=True)(torch.ones(8, device=device))
    except Exception as error:
        # What follows the first line is advice for developers of PyTorch.
        reason = str(error).strip().partition("\n")[0]
        raise RuntimeError(f"torch.compile does not work on this machine: {reason}") from error
