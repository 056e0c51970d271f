"""One GRPO step on the same work, ours beside TRL's: CPU-seconds on one thread, medians.

A random Qwen3 of 0.87 M parameters plays 8 tasks x 8 rollouts x 3 turns x 32 tokens; then comes one
update. Full fine-tuning and LoRA rank 8 in 32 bits; ours in bfloat16 and on NF4 too, where the peer
cannot train on a CPU; then with 512 more tokens that all prompts share. Ours by padded rows is
there for comparison. TRL runs in .venvs/trl (made on first use); `--no-peer` leaves it out.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from peer_process import run

import turnhalle as th
from turnhalle.agents.chat import ChatOptions, load_chat
from turnhalle.agents.engines.base import Sampling
from turnhalle.agents.engines.local import TransformersEngine
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.agents.process import tune_process
from turnhalle.agents.rollout import Job, rollout_groups
from turnhalle.envs.registry import EnvFactory
from turnhalle.training.batch import make_batch
from turnhalle.training.credit.assign import assign_credit
from turnhalle.training.credit.episodes import read_episodes
from turnhalle.training.credit.options import CreditOptions
from turnhalle.training.learn_options import LearnOptions
from turnhalle.training.learner import Learner

TASKS, GROUP, TURNS, TOKENS = 8, 8, 3, 32


class Game(th.TextEnv):
    """Three turns; the reward is a checksum of what was said."""

    max_turns = TURNS
    opening = ""

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"game": rng.randrange(10**6)}

    def start(self) -> str:
        return f"{self.opening}Game {self.instance['game']}: reach the goal. Guess."

    def respond(self, action: str) -> th.Reply:
        return th.Reply(f"obs {self.turn}: try again", reward=sum(map(ord, action)) % 7 / 7)


class LongGame(Game):
    """Rules that every task shows, of 512 tokens."""

    opening = "All is allowed. " * 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4, help="measured steps, after one warm-up")
    parser.add_argument("--no-peer", action="store_true", help="leave TRL out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        print("| CPU-s | step | of it update | by rows | TRL 1.16, step | of it update |")
        print("|---|---|---|---|---|---|")
        for name, game, precision, is_lora in (
            ("full, 32 bits", Game, "fp32", False),
            ("LoRA r8, 32 bits", Game, "fp32", True),
            ("full, 16 bits", Game, "bf16", False),
            ("LoRA r8, 16 bits", Game, "bf16", True),
            ("LoRA r8, NF4", Game, "nf4", True),
            ("full, shared prompt of 512", LongGame, "fp32", False),
            ("LoRA r8, shared prompt of 512", LongGame, "fp32", True),
        ):
            step, update = _ours(folder, game, precision, is_lora, arguments.steps, "tree")
            _, by_rows = _ours(folder, game, precision, is_lora, arguments.steps, "rows")
            cells = [f"{seconds:.2f}" for seconds in (step, update, by_rows)]
            if arguments.no_peer or precision != "fp32":
                cells += ["-", "-"]
            else:
                peer = _trl(folder, game, is_lora, arguments.steps)
                cells += [f"{seconds:.2f}" for seconds in peer]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _ours(
    folder: str, game: type[Game], precision: Any, is_lora: bool, steps: int, packing: Any
) -> tuple[float, float]:
    """Medians of steps and of the updates in them."""
    options = ModelOptions(name=folder, precision=precision, lora_rank=8, lora_alpha=16)
    lm = load_model(options, lora_seed=0 if is_lora else None)
    tune_process(lm.num_parameters)
    if not is_lora:
        lm.model.requires_grad_(True)
    chat = load_chat(folder, ChatOptions(system_prompt=""))
    chat.stop_ids = frozenset()  # every turn has all its tokens, as in the peer's run
    engine = TransformersEngine(lm)
    policy = LLMPolicy("policy", engine, chat, Sampling(max_new_tokens=TOKENS))
    learner = Learner(lm, LearnOptions(minibatches=1, packing=packing), 1.0)
    seconds, updates = [], []
    for step in range(steps + 1):
        started = time.process_time()
        tasks = [step * TASKS + i for i in range(TASKS)]
        groups = rollout_groups(
            EnvFactory(game), policy, [Job("train", task, seed=step) for task in tasks], GROUP
        )
        batch = make_batch(groups, assign_credit(read_episodes(groups), CreditOptions()))
        played = time.process_time()
        learner.update(batch, 1e-5, step)
        updates.append(time.process_time() - played)
        engine.load_adapter(step, lm.trainable())
        seconds.append(time.process_time() - started)
        assert batch.num_rows == TASKS * GROUP * TURNS * TOKENS
    return statistics.median(seconds[1:]), statistics.median(updates[1:])


def _trl(folder: str, game: type[Game], is_lora: bool, steps: int) -> tuple[float, float]:
    work = {
        "model": folder, "out": f"{folder}/out", "lora": is_lora, "steps": steps + 1,
        "tasks": TASKS, "group_size": GROUP, "turns": TURNS, "tokens": TOKENS,
        "opening": game.opening,
    }  # fmt: skip
    seconds = run_trl(work)
    step, rollout = (statistics.median(seconds[name]) for name in ("step", "rollout"))
    return step, step - rollout


def run_trl(work: dict[str, Any]) -> dict[str, list[float]]:
    """CPU-seconds of TRL's steps, and of the rollouts in them."""
    return run("trl", "trl_step.py", json.dumps(work))


def write_model(folder: Path) -> None:
    """A random Qwen3 with a byte-level tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(
        models.BPE(vocab={t: i for i, t in enumerate([*special, *alphabet])}, merges=[])
    )
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<|pad|>", eos_token="<|im_end|>"
    )
    from turnhalle.agents.chat import CHATML

    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=640, hidden_size=128, intermediate_size=384, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=32, max_position_embeddings=2048,
        tie_word_embeddings=True, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(main())
