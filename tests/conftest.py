"""What tests share: small transformers folders, made on the spot, and rows of word problems."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from turnhalle.envs.errors import SandboxUnavailableError
from turnhalle.envs.sandbox.options import SandboxOptions, open_sandbox

MakeModel = Callable[..., Path]

ARCHITECTURES = ("qwen3", "llama", "gemma", "gemma3", "mistral")
_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


GSM8K = Path("/work/shared/data/gsm8k/test.jsonl")
HUMANEVAL = Path("/work/shared/data/humaneval/HumanEval.jsonl.gz")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The pages of the docs first: some take a minute, for which the other worker would wait."""
    items.sort(key=lambda item: item.path.name != "test_docs.py")


def pytest_configure(config: pytest.Config) -> None:
    """Kernels run in Triton's interpreter, on the CPU, wherever no GPU was asked for."""
    if config.option.markexpr != "gpu":
        os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session", autouse=True)
def gsm8k_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows that `Gsm8k-v0` reads in tests: GSM8K's where it is here, else some of our own."""
    path = GSM8K if GSM8K.is_file() else write_rows(tmp_path_factory.mktemp("rows") / "own.jsonl")
    os.environ["TURNHALLE_GSM8K"] = str(path)
    os.environ.pop("TURNHALLE_GSM8K_TEST", None)  # the tests say themselves what is held out
    return path


@pytest.fixture(scope="session", autouse=True)
def humaneval_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows that `HumanEval-v0` reads in tests: HumanEval's where it is here, else our own."""
    path = HUMANEVAL if HUMANEVAL.is_file() else tmp_path_factory.mktemp("code") / "own.jsonl"
    if path != HUMANEVAL:
        write_code_rows(path)
    os.environ["TURNHALLE_HUMANEVAL"] = str(path)
    return path


@pytest.fixture(scope="session")
def need_sandbox() -> Callable[..., None]:
    """Skips where a tier is missing, or where nothing contains code; in CI that is a failure."""
    known: set[str] = set()

    def need(tier: Any = "auto") -> None:
        if tier in known:
            return
        try:
            open_sandbox(SandboxOptions(tier=tier, slots=1)).close()
        except SandboxUnavailableError as error:
            missing = f"the tier {tier!r} is not available here: {error}"
            if os.environ.get("TURNHALLE_CI") == "1":
                pytest.fail(missing)
            pytest.skip(missing)
        known.add(tier)

    return need


def write_code_rows(path: Path, count: int = 60) -> Path:
    """Coding tasks in HumanEval's format."""
    lines = []
    for n in range(count):
        row = {
            "task_id": f"own/{n}",
            "prompt": f'def plus(x):\n    """ x plus {n}.\n    >>> plus(1)\n    {n + 1}\n    """\n',
            "entry_point": "plus",
            "canonical_solution": f"    return x + {n}\n",
            "test": "def check(candidate):\n"
            + "".join(f"    assert candidate({x}) == {x + n}\n" for x in (0, 3, -n)),
        }
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_rows(path: Path, count: int = 400) -> Path:
    """Word problems in GSM8K's format."""
    rng = random.Random(0)
    lines = []
    for _ in range(count):
        boxes, each = rng.randint(2, 99), rng.randint(11, 60)
        total = boxes * each
        question = f"Ada packs {each} pears into each of {boxes} boxes. How many pears are that?"
        answer = f"They are {boxes}*{each}=<<{boxes}*{each}={total}>>{total} pears.\n#### {total:,}"
        lines.append(json.dumps({"question": question, "answer": answer}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _config(architecture: str, vocabulary: int, hidden: int) -> Any:
    import transformers

    common = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 2,
    }
    if architecture == "gemma3":
        # A window shorter than an episode, and a layer of each kind.
        return transformers.Gemma3TextConfig(
            **common,
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention"],
            query_pre_attn_scalar=16,
        )
    if architecture == "deepseek_v3":
        # Keys, and values of another width, are made from a latent.
        del common["head_dim"]
        return transformers.DeepseekV3Config(
            **common | {"num_key_value_heads": 4},
            q_lora_rank=16,
            kv_lora_rank=16,
            qk_nope_head_dim=8,
            qk_rope_head_dim=8,
            v_head_dim=12,
            first_k_dense_replace=2,
            moe_intermediate_size=16,
            n_routed_experts=4,
            n_group=2,
            topk_group=1,
            num_experts_per_tok=2,
        )
    classes = {
        "qwen3": transformers.Qwen3Config,
        "llama": transformers.LlamaConfig,
        "gemma": transformers.GemmaConfig,
        "mistral": transformers.MistralConfig,
        "qwen2": transformers.Qwen2Config,
        "phi3": transformers.Phi3Config,
        "smollm3": transformers.SmolLM3Config,
        "qwen3_moe": transformers.Qwen3MoeConfig,
        "mixtral": transformers.MixtralConfig,
    }
    extra: dict[str, dict[str, Any]] = {
        "mistral": {"sliding_window": 8},
        "smollm3": {"no_rope_layer_interval": 2},  # every second layer has no positions
        "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64},
        "mixtral": {"num_local_experts": 4},
    }
    return classes[architecture](**common, **extra.get(architecture, {}))


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Write a folder with random weights and a byte-level tokenizer, once for each description."""
    made: dict[tuple[object, ...], Path] = {}

    def make(
        architecture: str = "qwen3", *, hidden: int = 64, template: str | None = _CHATML
    ) -> Path:
        key = (architecture, hidden, template)
        if key not in made:
            made[key] = _write(tmp_path_factory.mktemp(architecture), *key)
        return made[key]

    return make


def _write(folder: Path, architecture: str, hidden: int, template: str | None) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<|pad|>", eos_token="<|im_end|>"
    )
    if template is not None:
        tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(_config(architecture, len(vocabulary) + 1, hidden))
        # Peaked logits: near-uniform ones would hide errors.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(3.0)
            model.get_output_embeddings().weight.mul_(8.0)
    model.save_pretrained(folder)
    return folder
