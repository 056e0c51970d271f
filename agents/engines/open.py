"""Engines by name, as options give them."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..lm import LanguageModel
from .base import Engine
from .options import EngineOptions


def open_engine(
    options: EngineOptions,
    lm: LanguageModel,
    max_context: int | None = None,
    decode: Callable[[list[int]], str] | None = None,
) -> Engine:
    """The engine that the options name, with the model's adapter in force where it has one.

    Args:
        options: Which engine, and how it is run.
        lm: The trainer's model; the transformers engine shares it, vLLM copies its base, a server
            must have been given the same.
        max_context: Most tokens of an episode; None is what the model knows.
        decode: Text of token ids, for stop texts.

    Raises:
        ConfigError: vLLM is not installed.
        EngineError: vLLM does not start, or the server cannot be used.
    """
    if options.name == "vllm":
        from .vllm import VllmEngine

        engine: Engine = VllmEngine(lm, options.vllm, max_context)
    elif options.name.startswith("http"):
        from .server import ServerEngine

        engine = ServerEngine(lm, options.name, options.adapter_folder, max_context)
    else:
        from .local import TransformersEngine

        gib = math.inf if options.cache_gib is None else options.cache_gib
        engine = TransformersEngine(lm, max_context, max_cache_bytes=gib * 2**30, decode=decode)
    if lm.peft is not None:
        engine.load_adapter(0, lm.trainable())
    return engine
