"""A base that vLLM holds in 4 bits too, by vllm-bnb-plugin: the trainer's own bits, in bfloat16.

In 16 bits two programs that do the same differ; how much is bounded as parity bounds it: 0.5 nats
at most and 0.05 on average, and no bias beyond chance. On a CPU the plugin is slow, but real.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from turnhalle.agents import models
from turnhalle.agents.engines.base import Request, Sampling
from turnhalle.agents.engines.options import VllmOptions
from turnhalle.agents.engines.parity import require_adapter_in_force, require_parity
from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import ModelOptions, load_model, load_tokenizer
from turnhalle.agents.process import tune_process
from turnhalle.agents.quantization.folder import write_folder
from turnhalle.envs.errors import ConfigError, EngineError

from .running import prompt, run, score, teach

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # vLLM's own, and of PyTorch's C++ side
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("vllm", "vllm_bnb_plugin")),
        reason="vLLM or vllm-bnb-plugin is not installed: make vllm",
    ),
]

NUM_TURNS, NUM_TOKENS = 32, 32


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("cpu", marks=pytest.mark.vllm),
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
)
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """The built-in policy with noise (its own weights are NF4 to the bit), some layers kept."""
    noisy, small = tmp_path_factory.mktemp("noisy"), tmp_path_factory.mktemp("small") / "nf4"
    write_noisy(noisy)
    qkv = [f"model.layers.0.self_attn.{part}_proj" for part in ("q", "k", "v", "qkv")]
    write_folder(str(noisy), small, "nf4", [*qkv, "model.layers.1.mlp.down_proj"])
    with pytest.MonkeyPatch.context() as patch:
        # A CPU computes in 32 bits elsewhere, in which vLLM's plugin cannot.
        patch.setattr(models, "_dtype", lambda precision, device: torch.bfloat16)
        lm = load_model(ModelOptions(name=str(small), device=request.param), lora_seed=0)
    tune_process(lm.num_parameters)
    return lm


def write_noisy(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(models.resolve_model("tiny"), dtype=torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("_proj.weight"):
                noise = torch.randn(weight.shape, generator=generator)
                weight.add_(noise.to(weight.dtype) * weight.std() * 0.3)
    model.save_pretrained(folder)
    load_tokenizer("tiny").save_pretrained(folder)


@pytest.fixture(scope="module")
def engine(lm: LanguageModel) -> Iterator[Any]:
    from turnhalle.agents.engines.vllm import VllmEngine

    engine = VllmEngine(lm, VllmOptions(base="bnb"), max_context=512)
    yield engine
    engine.shutdown()


def sample(engine: Any, lm: LanguageModel) -> tuple[torch.Tensor, Any]:
    """Log-probs `[M]` of sampled tokens by the engine, and a function that gives the trainer's."""
    sampling = Sampling(max_new_tokens=NUM_TOKENS)
    asked = [Request(i, prompt(i, 40), i, sampling, frozenset()) for i in range(NUM_TURNS)]
    done = run(engine, asked)
    sampled = torch.tensor([x for request in asked for x in done[request.session].logprobs])

    def rescore() -> torch.Tensor:
        return torch.tensor(
            [
                x
                for request in asked
                for x in score(lm, request.token_ids, done[request.session].token_ids, 1.0)
            ]
        )

    return sampled, rescore


@pytest.mark.parametrize("scale", [0.0, 0.05, 0.2])
def test_log_probs_are_the_trainers_within_a_statistical_bound(
    engine: Any, lm: LanguageModel, scale: float
) -> None:
    teach(lm, seed=1, scale=scale)
    engine.load_adapter(1, lm.trainable())
    sampled, rescore = sample(engine, lm)
    assert len(sampled) == NUM_TURNS * NUM_TOKENS
    require_parity(lm, sampled, rescore)
    difference = rescore() - sampled
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(len(difference))


def test_a_planted_adapter_is_in_force(engine: Any, lm: LanguageModel) -> None:
    require_adapter_in_force(lm, engine)


def test_another_adapter_or_other_bits_are_found_by_the_same_bound(
    engine: Any, lm: LanguageModel
) -> None:
    teach(lm, seed=1)
    engine.load_adapter(1, lm.trainable())
    sampled, rescore = sample(engine, lm)
    teach(lm, seed=2)
    with pytest.raises(EngineError, match="trainer and engine disagree"):
        require_parity(lm, sampled, rescore)
    teach(lm, seed=1)
    require_parity(lm, sampled, rescore)
    layer = lm.model.model.layers[2].mlp.up_proj.base_layer
    kept = layer.weight.data.clone()
    try:
        layer.weight.data.copy_(kept ^ 0x11)  # the lowest bit of every code
        with pytest.raises(EngineError, match="trainer and engine disagree"):
            require_parity(lm, sampled, rescore)
    finally:
        layer.weight.data.copy_(kept)


def test_a_missing_plugin_is_said_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from turnhalle.agents.engines import vllm_serving

    find = importlib.util.find_spec
    monkeypatch.setattr(
        vllm_serving.importlib.util,
        "find_spec",
        lambda name: None if name == "vllm_bnb_plugin" else find(name),
    )
    with pytest.raises(ConfigError, match="pip install --no-deps vllm-bnb-plugin"):
        vllm_serving.require_vllm(VllmOptions(base="bnb"))
