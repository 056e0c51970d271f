"""Policies by name, as people give them to `bench` and others."""

from __future__ import annotations

from pathlib import Path

from turnhalle.envs.errors import ModelError, unknown_name
from turnhalle.envs.registry import EnvFactory

from .engines.base import Sampling
from .engines.options import DEFAULT_ENGINE, EngineOptions
from .policy import Policy
from .saved import read_options
from .scripted import SCRIPTED, scripted_policy
from .store import FILE, RunStore


def open_policy(
    name: str,
    factory: EnvFactory,
    sampling: Sampling,
    engine: EngineOptions = DEFAULT_ENGINE,
) -> Policy:
    """Open a policy: "oracle", "random", "null", a run's folder, or a model.

    Args:
        name: A run's folder stands for the model it trained with the adapter it came to.
        factory: The environment that scripted policies are for.
        sampling: How a language model samples.
        engine: What samples for it.

    Raises:
        UnknownNameError: No such policy.
        ModelError: No such model, or an unfinished run.
        StoreError: A run that had not begun.
        ConfigError: A package is missing, the environment has no oracle, or a run's options are
            of another version.
    """
    if name in SCRIPTED:
        return scripted_policy(name, factory)
    if name != "tiny" and "/" not in name and not Path(name).exists():
        hint = "Or give the folder of a run or model, or a Hugging Face name (owner/name)."
        raise unknown_name("policy", name, (*SCRIPTED, "tiny"), hint)
    from .models import ModelOptions, load_model, require_packages

    options = ModelOptions(name=name)
    require_packages(options.precision)
    from .chat import ChatOptions, load_chat

    chat_options, adapter = ChatOptions(), None
    if (Path(name) / FILE).is_file():
        store = RunStore(Path(name), read_only=True)
        saved = store.get("options") or {}
        store.close()
        options = read_options(ModelOptions, saved.get("model"), Path(name))
        options = options.model_copy(update={"compile": False})  # that is for who learns
        chat_options = read_options(ChatOptions, saved.get("chat"), Path(name))
        adapter = Path(name) / "adapter"
        if not adapter.is_dir():
            raise ModelError(f"{name} is unfinished; go on with: turnhalle train --resume {name}")
    chat = load_chat(options.name, chat_options)
    lm = load_model(options, adapter=adapter)
    from .engines.open import open_engine
    from .llm import LLMPolicy
    from .process import tune_process

    tune_process(lm.num_parameters)
    opened = open_engine(engine, lm, decode=chat.tokenizer.decode)
    return LLMPolicy(name, opened, chat, sampling)
