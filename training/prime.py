"""Priming: a policy imitates oracles, mistakes and all, until it succeeds sometimes.

Reinforcement learning sharpens what a policy can already do by luck; one that never succeeds learns
nothing. Priming makes such a start, for any environment that has an oracle, from a model that
exists or from nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from torch.nn.utils import parametrize

from turnhalle.agents.chat import Chat, ChatOptions
from turnhalle.agents.engines.base import Sampling
from turnhalle.agents.engines.local import TransformersEngine
from turnhalle.agents.evaluate import Evaluation, evaluate
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import SETTINGS_FILE, ModelOptions, load_model, read_settings
from turnhalle.agents.process import tune_process
from turnhalle.envs.errors import ConfigError, StoreError
from turnhalle.envs.options import EnvOptions
from turnhalle.envs.registry import EnvFactory
from turnhalle.envs.seeding import derive_seed
from turnhalle.envs.tools.formats import from_canonical

from .card import write_card
from .demos import Demonstration, Example, demonstrate, to_example
from .progress import Listener
from .scratch import ScratchOptions, new_model, new_tokenizer
from .sft import SftOptions, fit


class DemoOptions(BaseModel):
    """Demonstrations of one environment."""

    model_config = ConfigDict(extra="forbid")

    env: EnvOptions = EnvOptions()
    episodes: int = Field(2000, ge=1)
    """Different tasks that the oracle plays, in each stage."""
    mistakes: float = Field(0.5, ge=0, le=1)
    """Mean rate at which demonstrators err; see `training/demos.py`."""


class PrimeStage(BaseModel):
    """One round of imitation."""

    model_config = ConfigDict(extra="forbid")

    sft: SftOptions = SftOptions()
    mistakes: float | None = Field(None, ge=0, le=1)
    """Replaces the mistakes of every environment in this stage."""


class PrimeOptions(BaseModel):
    """Everything that a priming is."""

    model_config = ConfigDict(extra="forbid")

    demos: list[DemoOptions] = [DemoOptions()]
    scratch: ScratchOptions | None = None
    """Make the model from nothing; None starts from `model`."""
    model: ModelOptions = ModelOptions(precision="fp32")
    chat: ChatOptions = ChatOptions()
    stages: list[PrimeStage] = Field([PrimeStage()], min_length=1)
    stop_at: float | None = Field(0.3, gt=0, le=1)
    """End a stage once success at temperature 1 has reached this in every environment: what
    follows is the business of reinforcement learning. None goes through all steps."""
    evaluate_every: int = Field(50, ge=1)
    evaluate_tasks: int = Field(200, ge=10)
    max_new_tokens: int = Field(64, ge=1)
    seed: int = Field(0, ge=0)


@dataclass(frozen=True, slots=True)
class PrimeResult:
    """What a priming came to."""

    folder: Path
    evaluations: dict[str, Evaluation]
    """Of the saved model, held as training will hold it, by environment."""


def prime(options: PrimeOptions, folder: Path, listener: Listener) -> PrimeResult:
    """Make demonstrations, imitate them, save the model with its card.

    Raises:
        ConfigError: An environment without an oracle, or options that cannot work.
        StoreError: The folder exists.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} exists and is not empty; give another folder")
    if options.scratch is None:
        settings = read_settings(options.model.name)
        options = options.model_copy(update={"chat": options.chat.over(settings)})
    factories = [demo.env.factory() for demo in options.demos]
    for factory in factories:
        factory().reset(options={"split": "eval", "task": 0})
    if options.scratch is None and options.model.precision != "fp32":
        raise ConfigError("priming trains all weights; model.precision must be fp32")
    played = _play(options, factories, 0, listener)
    lm = _start(options, played)
    tune_process(lm.num_parameters)
    chat = Chat(lm.tokenizer, options.chat, options.model.name)
    for number in range(len(options.stages)):
        if number:
            played = _play(options, factories, number, listener)
        examples = [to_example(demo, chat) for demos in played for demo in demos]
        _fit_stage(lm, chat, examples, options, number, factories, listener)
    _save(lm, options, folder)
    evaluations = _measure_saved(options, folder, factories)
    write_card(folder, options, evaluations, lm.num_parameters)
    return PrimeResult(folder, evaluations)


def _play(
    options: PrimeOptions, factories: Sequence[EnvFactory], number: int, listener: Listener
) -> list[list[Demonstration]]:
    """Demonstrations of a stage, by environment; no stage repeats a task of another."""
    played = []
    for demo, factory in zip(options.demos, factories, strict=True):
        stage = options.stages[number]
        mistakes = demo.mistakes if stage.mistakes is None else stage.mistakes
        first = number * demo.episodes
        demos = demonstrate(factory, demo.episodes, mistakes, options.seed, first)
        rate = sum(d.success for d in demos) / len(demos)
        listener.note(f"{factory.id}: {len(demos)} demonstrations, {rate:.0%} of them succeed")
        played.append(demos)
    return played


def _start(options: PrimeOptions, played: Sequence[Sequence[Demonstration]]) -> LanguageModel:
    if options.scratch is None:
        return load_model(options.model)
    texts = [text for demos in played for demo in demos for text in _texts(demo, options.chat)]
    tokenizer = new_tokenizer(texts, options.scratch.vocabulary)
    model = new_model(options.scratch, tokenizer, derive_seed("model", options.seed) % 2**31)
    return LanguageModel(model.eval(), tokenizer)


def _texts(demo: Demonstration, chat: ChatOptions) -> list[str]:
    texts = [message.content for message in demo.opening if message.role != "system"]
    for action, answer in demo.exchanges:
        texts.append(from_canonical(action, chat.tool_format or "hermes", demo.tools))
        texts += [message.content for message in answer]
    return texts


def _fit_stage(
    lm: LanguageModel,
    chat: Chat,
    examples: Sequence[Example],
    options: PrimeOptions,
    number: int,
    factories: Sequence[EnvFactory],
    listener: Listener,
) -> None:
    steps = options.stages[number].sft.steps
    losses: list[float] = []

    def on_step(step: int, loss: float) -> bool:
        losses.append(loss)
        listener.progress(f"stage {number + 1}", step + 1, steps)
        if (step + 1) % options.evaluate_every and step + 1 < steps:
            return False
        # One pass of snapping serves the whole evaluation.
        with parametrize.cached():
            rates = [_measure(lm, chat, options, f).success.value for f in factories]
        mean = sum(losses) / len(losses)
        shown = ", ".join(f"{f.id} {r:.0%}" for f, r in zip(factories, rates, strict=True))
        listener.note(f"step {step + 1}/{steps}: loss {mean:.3f}, success {shown}")
        losses.clear()
        return options.stop_at is not None and min(rates) >= options.stop_at

    seed = derive_seed("stage", options.seed, number)
    fit(lm, examples, options.stages[number].sft, seed, on_step)


def _measure(
    lm: LanguageModel, chat: Chat, options: PrimeOptions, factory: EnvFactory
) -> Evaluation:
    """Success at temperature 1 on held-out tasks."""
    engine = TransformersEngine(lm)
    policy = LLMPolicy("primed", engine, chat, Sampling(max_new_tokens=options.max_new_tokens))
    return evaluate(factory, policy, options.evaluate_tasks)


def _save(lm: LanguageModel, options: PrimeOptions, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    settings = options.chat.model_dump_json(exclude={"chat_template"}, exclude_none=True, indent=2)
    (folder / SETTINGS_FILE).write_text(settings + "\n", encoding="utf-8")
    # Sampling is the business of whoever samples; a default of the model's would surprise.
    (folder / "generation_config.json").unlink(missing_ok=True)


def _measure_saved(
    options: PrimeOptions, folder: Path, factories: Sequence[EnvFactory]
) -> dict[str, Evaluation]:
    lm = load_model(ModelOptions(name=str(folder), precision="nf4", device=options.model.device))
    chat = Chat(lm.tokenizer, options.chat, str(folder))
    return {f.id: _measure(lm, chat, options, f) for f in factories}
