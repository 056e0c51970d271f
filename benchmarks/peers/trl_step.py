"""TRL's GRPO on the work of `grpo_step.py`; run by it, in a virtual environment of its own.

The random model never writes a tool call, so TRL's parser is replaced by one that reads every
completion as a call of `step`; that makes every episode three turns long. All else is TRL's.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TRL_EXPERIMENTAL_SILENCE="1")
warnings.filterwarnings("ignore")

import torch  # noqa: E402
import trl  # noqa: E402
import trl.trainer.grpo_trainer as grpo  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback  # noqa: E402

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% if m.tool_calls %}{% for c in m.tool_calls %}<tool_call>{{ c.function.name }}"
    "{{ c.function.arguments | tojson }}</tool_call>{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Game:
    """Three turns; the reward is a checksum of what was said."""

    def reset(self, **_: object) -> str:
        self.turn, self.reward = 0, 0.0
        return " Guess."

    def step(self, action: str) -> str:
        """Say something.

        Args:
            action: What is said.
        """
        self.turn += 1
        self.reward += sum(map(ord, action)) % 7 / 7
        return f"obs {self.turn}: try again"

    def get_reward(self) -> float:
        return self.reward


def read_as_call(tokenizer, ids, prefix=None, tools=None):  # type: ignore[no-untyped-def]
    said = tokenizer.decode(ids, skip_special_tokens=True)
    call = {"type": "function", "function": {"name": "step", "arguments": {"action": said}}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


class Clock(TrainerCallback):
    """CPU-seconds of every step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: object, **__: object) -> None:
        self.started = time.process_time()

    def on_step_end(self, *_: object, **__: object) -> None:
        self.seconds.append(time.process_time() - self.started)


ROLLOUTS: list[float] = []


class Timed(grpo.GRPOTrainer):
    """Notes what its rollouts cost: generating and playing, no scoring."""

    def _generate(self, *arguments, **rest):  # type: ignore[no-untyped-def]
        started = time.process_time()
        played = super()._generate(*arguments, **rest)
        ROLLOUTS.append(time.process_time() - started)
        return played


def main() -> None:
    work = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    grpo.parse_response = read_as_call
    tokenizer = AutoTokenizer.from_pretrained(work["model"])
    tokenizer.chat_template = TEMPLATE
    tokenizer.response_schema = {"type": "object"}
    tokenizer.response_template = {"none": True}
    episodes = work["tasks"] * work["group_size"]
    arguments = trl.GRPOConfig(
        output_dir=work["out"],
        per_device_train_batch_size=episodes,
        num_generations=work["group_size"],
        max_completion_length=work["turns"] * work["tokens"] + 80,
        max_tool_calling_iterations=work["turns"] - 1,
        max_steps=work["steps"],
        generation_kwargs={"max_new_tokens": work["tokens"], "min_new_tokens": work["tokens"]},
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        beta=0.0,
        learning_rate=1e-5,
        logging_steps=1000,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=0,
    )
    lora = None
    if work["lora"]:
        from peft import LoraConfig

        lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")
    opening = work.get("opening", "")
    prompts = [
        [{"role": "user", "content": f"{opening}Game {i}: reach the goal."}] for i in range(64)
    ]
    clock = Clock()
    Timed(
        model=AutoModelForCausalLM.from_pretrained(work["model"]),
        processing_class=tokenizer,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        environment_factory=Game,
        callbacks=[clock],
        peft_config=lora,
    ).train()
    print(json.dumps({"step": clock.seconds[1:], "rollout": ROLLOUTS[1:]}))


if __name__ == "__main__":
    main()
