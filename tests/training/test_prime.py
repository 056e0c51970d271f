"""Priming: any environment with an oracle, from a model or from nothing, and a card that tells."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

import turnhalle as th
from turnhalle.agents.chat import ChatOptions, load_chat
from turnhalle.agents.models import ModelOptions, load_model, load_tokenizer, read_settings
from turnhalle.envs.errors import ConfigError, ModelError, StoreError
from turnhalle.envs.registry import EnvFactory, resolve
from turnhalle.training.card import weights_digest
from turnhalle.training.demos import demonstrate, to_example
from turnhalle.training.prime import PrimeOptions, prime
from turnhalle.training.progress import Silent
from turnhalle.training.scratch import ScratchOptions, new_tokenizer


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
