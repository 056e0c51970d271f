"""Priming: any environment with an oracle, from a model or from nothing, and a card that tells."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import turnhalle as th
from turnhalle.agents.chat import ChatOptions, load_chat
from turnhalle.agents.engines.base import Sampling
from turnhalle.agents.engines.local import TransformersEngine
from turnhalle.agents.evaluate import evaluate
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.models import ModelOptions, load_model, load_tokenizer, read_settings
from turnhalle.envs.errors import ConfigError, ModelError, StoreError
from turnhalle.envs.registry import EnvFactory, resolve
from turnhalle.training.card import weights_digest
from turnhalle.training.demos import demonstrate, to_example
from turnhalle.training.options import TrainOptions
from turnhalle.training.prime import PrimeOptions, prime
from turnhalle.training.progress import Silent
from turnhalle.training.scratch import ScratchOptions, new_tokenizer
from turnhalle.training.stages import stages_before
from turnhalle.training.trainer import Trainer


class Parrot(th.TextEnv):
    """Say the letter again."""

    max_turns = 1

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"letter": rng.choice("abcdefgh"), "number": rng.randrange(100)}

    def start(self) -> str:
        return f"{self.instance['number']} {self.instance['letter']}"

    def respond(self, action: str) -> th.Reply:
        success = action == self.instance["letter"]
        return th.End("", success=success, reward=float(success))

    def oracle(self) -> str:
        return str(self.instance["letter"])


HERE = f"{__file__}:Parrot"
NAME = f"{Path(__file__).name}:Parrot"
"""As it calls itself."""
QUICK = {"sft": {"steps": 2, "batch_tokens": 256}}


def options(**changes: Any) -> PrimeOptions:
    data: dict[str, Any] = {
        "demos": [{"env": {"id": HERE}, "episodes": 400, "mistakes": 0.2}],
        "stages": [{"sft": {"steps": 100, "batch_tokens": 1024, "warmup_steps": 5}}],
        "evaluate_every": 50,
        "evaluate_tasks": 50,
        "max_new_tokens": 4,
        "stop_at": 1.0,
    }
    return PrimeOptions.model_validate(data | changes)


@pytest.fixture(scope="module")
def primed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "parrot"
    prime(options(), folder, Silent())
    return folder


def test_an_own_environment_is_primed_from_its_oracle_alone(primed: Path) -> None:
    lm = load_model(ModelOptions(name=str(primed)))
    assert lm.num_parameters == load_model(ModelOptions()).num_parameters
    card = (primed / "README.md").read_text(encoding="utf-8")
    assert weights_digest(primed) in card
    rate = float(card.partition("Parrot | ")[2].partition(" %")[0])
    assert rate > 40, "before priming it was one in eight at best"


def test_the_same_options_give_the_same_file(primed: Path, tmp_path: Path) -> None:
    prime(options(), tmp_path / "again", Silent())
    assert weights_digest(tmp_path / "again") == weights_digest(primed)


def test_a_primed_model_loses_nothing_in_four_bits(primed: Path) -> None:
    ids = torch.arange(6, 40)[None]
    with torch.no_grad():
        a, b = (
            lm.head(lm.hidden_states(ids))
            for lm in (
                load_model(ModelOptions(name=str(primed), precision=precision))  # type: ignore[arg-type]
                for precision in ("nf4", "fp32")
            )
        )
    assert (a - b).abs().max() < 1e-4


def test_the_model_keeps_how_it_is_spoken_to(primed: Path) -> None:
    assert read_settings(str(primed)) == read_settings("tiny")


@pytest.fixture(scope="module")
def primed_adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on a base in 4 bits, after imitation and preferences."""
    folder = tmp_path_factory.mktemp("adapters") / "parrot"
    pairs = folder.parent / "pairs.jsonl"
    rated = [{"text": "a", "rating": 2}, {"text": "b", "rating": 1}]
    pairs.write_text(json.dumps({"prompt": "7 a", "answers": rated}) + "\n", encoding="utf-8")
    stages = [
        {"sft": {"steps": 60, "batch_tokens": 1024, "warmup_steps": 5, "learning_rate": 5e-3}},
        {"pairs": str(pairs), "prefer": {"steps": 2}},
    ]
    prime(options(adapter={"rank": 8, "precision": "nf4"}, stages=stages), folder, Silent())
    return folder


def test_an_adapter_is_primed_on_a_base_that_stays_as_it_is(primed_adapter: Path) -> None:
    weights = load_file(primed_adapter / "adapter_model.safetensors")
    assert all("lora_" in name for name in weights)
    assert {t.shape[0] for name, t in weights.items() if "lora_A" in name} == {8}
    assert not (primed_adapter / "model.safetensors").exists()
    lm = load_model(ModelOptions(name="tiny", precision="nf4"), adapter=primed_adapter)
    policy = LLMPolicy(
        "primed",
        TransformersEngine(lm),
        load_chat("tiny", ChatOptions()),
        Sampling(max_new_tokens=4),
    )
    assert evaluate(resolve(HERE), policy, 50).success.value > 0.4, "one in eight before"
    card = (primed_adapter / "README.md").read_text(encoding="utf-8")
    assert weights_digest(primed_adapter) in card
    assert "snapped" not in card
    with pytest.raises(ModelError, match=f"is an adapter: .* --set start_from={primed_adapter}"):
        load_model(ModelOptions(name=str(primed_adapter)))


def test_the_cards_tell_all_stages_from_the_base_to_reinforcement_learning(
    primed_adapter: Path, tmp_path: Path
) -> None:
    """Priming goes on from an adapter, and so does training; each copies what was before."""
    again = options(adapter={"rank": 8, "start_from": str(primed_adapter)}, stages=[QUICK])
    prime(again, tmp_path / "again", Silent())
    given = TrainOptions.model_validate(
        {
            "env": {"id": HERE},
            "start_from": str(tmp_path / "again"),
            "rollout": {"tasks": 4, "group_size": 4, "max_new_tokens": 4},
            "evaluate": {"tasks": 10, "every": 0},
            "steps": 1,
        }
    )
    trainer = Trainer(given, tmp_path / "run", Silent())
    result = trainer.run()
    trainer.close()
    stages = stages_before("tiny", result.adapter)
    assert [stage.kind for stage in stages] == [
        "base",
        "imitation",
        "preferences",
        "imitation",
        "reinforcement",
    ]
    assert stages[0].what == "tiny"
    assert stages[2].success.keys() == {NAME}
    assert stages[-1].success == {NAME: result.after.success.percent()}
    card = (result.adapter / "README.md").read_text(encoding="utf-8")
    assert f"| after | {result.after.success.percent()} |" in card
    assert "| 4 | reinforcement | 1 steps of grpo with the loss ppo in" in card
    assert '"start_from"' in card


def test_a_model_can_be_made_from_nothing(tmp_path: Path) -> None:
    scratch = {"vocabulary": 320, "hidden": 64, "intermediate": 64, "layers": 1, "heads": 2}
    given = options(scratch=scratch, chat={"system_prompt": ""})
    prime(given, tmp_path / "new", Silent())
    lm = load_model(ModelOptions(name=str(tmp_path / "new")))
    assert lm.config.hidden_size == 64
    assert load_tokenizer(str(tmp_path / "new")).chat_template
    saved = json.loads((tmp_path / "new" / "config.json").read_text(encoding="utf-8"))
    assert saved["model_type"] == "qwen3"


def test_priming_ends_once_it_is_good_enough(tmp_path: Path) -> None:
    notes: list[str] = []

    class Noting(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    prime(options(stop_at=0.01), tmp_path / "early", Noting())
    assert [note for note in notes if note.startswith("step")][-1].startswith("step 50/100")


def test_shapes_that_four_bits_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"scratch.hidden must be a multiple of 64, got 96"):
        prime(options(scratch={"hidden": 96}), tmp_path / "x", Silent())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapter": {"alpha": 4}}, "adapter.alpha = 4 has no effect with adapter.rank unset"),
        ({"adapter": {"rank": 4}, "scratch": {}}, "leave adapter.rank out, or scratch"),
        (
            {"adapter": {"rank": 4}, "stages": [{"sft": {"snap": True}}]},
            r"stages\[0\] is to snap weights, and adapter.rank = 4 leaves them",
        ),
        (
            {"stages": [{"rater": {"name": "length"}}]},
            r"stages\[0\].rater = .* has no effect with stages\[0\].pairs unset",
        ),
        (
            {"stages": [{"pairs": "p.jsonl", "mistakes": 0.1}]},
            r"stages\[0\].mistakes = 0.1 has no effect with stages\[0\].pairs",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        prime(options(**changes), tmp_path / "x", Silent())


def test_what_cannot_be_primed_is_refused(tmp_path: Path) -> None:
    class NoOracle(Parrot):
        """Knows no answer."""

        oracle = th.TextEnv.oracle

    with pytest.raises(ConfigError, match="has no oracle"):
        demonstrate(EnvFactory(NoOracle), 1, 0.5, 0)
    with pytest.raises(ModelError, match="no model 'tinny'"):
        prime(options(model="tinny"), tmp_path / "x", Silent())
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match="not empty"):
        prime(options(), tmp_path, Silent())


def test_demonstrators_err_as_often_as_they_should() -> None:
    for mistakes in (0.0, 0.3, 0.5, 0.9, 1.0):
        demos = demonstrate(resolve("pacman"), 300, mistakes, 0)
        turns = [exchange.is_mistake for demo in demos for exchange in demo.exchanges[:3]]
        assert sum(turns) / len(turns) == pytest.approx(mistakes, abs=0.06)


def test_demonstrations_are_training_tasks_and_repeat_none() -> None:
    first = demonstrate(resolve("math"), 20, 0.0, 0)
    second = demonstrate(resolve("math"), 20, 0.0, 0, first=20)
    openings = [demo.opening[-1].content for demo in first + second]
    assert len(set(openings)) > 35
    env = th.make("math")
    env.reset(options={"split": "train", "task": 20})
    assert openings[20] == env.instance["question"]


@pytest.mark.parametrize("imitate", [False, True])
def test_only_actions_are_learned_and_mistakes_on_request(imitate: bool) -> None:
    chat = load_chat("tiny", ChatOptions())
    for demo in demonstrate(resolve("tools"), 50, 0.5, 0):
        example = to_example(demo, chat, imitate)
        learned = [
            i
            for i, is_action in zip(example.token_ids, example.is_action, strict=True)
            if is_action
        ]
        wanted = [
            token
            for exchange in demo.exchanges
            if imitate or not exchange.is_mistake
            for token in chat.write(exchange.action, demo.tools)
        ]
        assert learned == wanted


def test_the_tokenizer_writes_any_text_and_keeps_digits_apart() -> None:
    tokenizer = new_tokenizer(["up 12 down 34 up 12 left right"] * 10, ScratchOptions().vocabulary)
    text = "Up 123456 ☃ \n\t<|nothing|> été"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("1234", add_special_tokens=False)) == 4
    assert len(tokenizer.encode(" left right", add_special_tokens=False)) == 2
