"""A small model from nothing: a byte-level tokenizer and a Qwen3 architecture, for priming.

The tokenizer keeps every digit and sign a token of its own, so that a small model can copy and
compute; frequent words are one token. Any text can be written: bytes are the fallback.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from turnhalle.agents.quantization.bnb import BLOCK_SIZE
from turnhalle.envs.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant", "tool")
PAD, END = "<|pad|>", "<|end|>"
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


COMMON_WORDS = (
    "a again all an and answer are at back begin below black blue board book box but by can card "
    "city clear close coin color correct count cross day do done door draw east empty end enter "
    "error exit false find first fish food for free from full game get give go gold good green "
    "guess hand have help here high hint hit hot house how if in is it item key kill last leave "
    "left less letter light list look lose lost low map me miss more move my name new next no "
    "none north not number of off old on one open or out over pass place play player please put "
    "red right room round rule same say score see send set south start stop sun swap table take "
    "task than that the then there this three time to too top true try turn two unknown up use "
    "value wait wall was water way west what where white win with word wrong yes you your"
)
"""Words that environments often use; they become tokens after those of the demonstrations."""


class ScratchOptions(BaseModel):
    """Shape of a model that is made from nothing."""

    model_config = ConfigDict(extra="forbid")

    vocabulary: int = Field(384, ge=300)
    hidden: int = 128
    intermediate: int = 256
    layers: int = Field(3, ge=1)
    heads: int = 4
    max_context: int = 1024
    init_std: float = 0.04

    def check(self) -> None:
        """Refuse shapes that NF4 cannot hold on the CPU.

        Raises:
            ConfigError: A dimension is no multiple of 64.
        """
        for name in ("hidden", "intermediate"):
            if getattr(self, name) % BLOCK_SIZE:
                raise ConfigError(
                    f"scratch.{name} must be a multiple of {BLOCK_SIZE}, got {getattr(self, name)}"
                )


def new_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE tokenizer on texts; digits and signs are never merged.

    Merges that the texts leave free go to `COMMON_WORDS`.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    # Words with the space before them; every other character alone.
    split = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|[^A-Za-z]"), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, END, *(f"<|{role}|>" for role in ROLES)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, f" {COMMON_WORDS}"], trainer)
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, additional_special_tokens=special
    )
    fast.chat_template = TEMPLATE
    return fast  # type: ignore[no-any-return]


def new_model(
    options: ScratchOptions, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    """A Qwen3-architecture model with random weights."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    options.check()
    config = Qwen3Config(
        vocab_size=options.vocabulary,
        hidden_size=options.hidden,
        intermediate_size=options.intermediate,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        head_dim=options.hidden // options.heads,
        max_position_embeddings=options.max_context,
        initializer_range=options.init_std,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)
