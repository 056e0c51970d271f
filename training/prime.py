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

from turnhalle.agents.chat import Chat, ChatOptions, load_chat
from turnhalle.agents.engines.base import Sampling
from turnhalle.agents.engines.local import TransformersEngine
from turnhalle.agents.evaluate import Evaluation, evaluate
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import SETTINGS_FILE, ModelOptions, load_model
from turnhalle.agents.process import tune_process
from turnhalle.agents.quiet import Quiet
from turnhalle.envs.errors import ConfigError, StoreError
from turnhalle.envs.options import EnvOptions
from turnhalle.envs.seeding import derive_seed
from turnhalle.envs.tools.formats import from_canonical

from .card import write_card
from .chats import read_chats, read_pairs
from .demos import Demonstration, demonstrate, to_example
from .prefer import PreferOptions, prefer
from .progress import Listener
from .scratch import ScratchOptions, new_model, new_tokenizer
from .sft import SftOptions, fit


class DemoOptions(BaseModel):
    """Demonstrations of one environment."""

    model_config = ConfigDict(extra="forbid")

    env: EnvOptions = EnvOptions()
    episodes: int = Field(8000, ge=0)
    """Different tasks that the oracle plays, in each stage; 0 only measures there."""
    mistakes: float = Field(0.5, ge=0, le=1)
    """Mean rate at which demonstrators err; see `training/demos.py`."""


class PrimeStage(BaseModel):
    """One round of imitation, or of preference tuning."""

    model_config = ConfigDict(extra="forbid")

    sft: SftOptions = SftOptions()
    pairs: str | None = None
    """JSONL file of preferences (`training/chats.py`): the stage learns those by DPO, and imitates
    nothing."""
    prefer: PreferOptions = PreferOptions()
    """How it learns from `pairs`."""
    mistakes: float | None = Field(None, ge=0, le=1)
    """Replaces the mistakes of every environment in this stage."""
    imitate_mistakes: bool = False
    """Learn the mistakes too. Else they only show what comes after one, and the policy learns what
    the oracle does there."""


class PrimeOptions(BaseModel):
    """Everything that a priming is."""

    model_config = ConfigDict(extra="forbid")

    demos: list[DemoOptions] = Field([DemoOptions()], min_length=1)
    chats: list[str] = []
    """JSONL files of chats (`training/chats.py`), imitated along with the demonstrations."""
    scratch: ScratchOptions | None = None
    """Make the model from nothing; None starts from `model`."""
    model: str = "tiny"
    """Folder or Hugging Face name of the model to start from; all its weights are trained."""
    device: str = "auto"
    chat: ChatOptions = ChatOptions()
    stages: list[PrimeStage] = Field([PrimeStage()], min_length=1)
    stop_at: float = Field(0.4, gt=0, le=1)
    """End a stage once success at temperature 1 has reached this in every environment: what
    follows is the business of reinforcement learning. 1 goes through all steps, most likely."""
    evaluate_every: int = Field(20, ge=1)
    evaluate_tasks: int = Field(200, ge=10)
    max_new_tokens: int = Field(64, ge=1)
    seed: int = Field(0, ge=0)


@dataclass(frozen=True, slots=True)
class PrimeResult:
    """What a priming came to."""

    folder: Path
    evaluations: dict[str, Evaluation]
    """Of the saved model at temperature 1, held as training will hold it, by environment."""
    greedy: dict[str, Evaluation]
    """The same at temperature 0."""


def prime(options: PrimeOptions, folder: Path, listener: Listener) -> PrimeResult:
    """Make demonstrations, imitate them, save the model with its card.

    Raises:
        ConfigError: An environment without an oracle.
        ModelError: A model that cannot be used.
        StoreError: The folder exists.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} exists and is not empty; give another folder")
    priming = _Priming(options, listener)
    for number in range(len(options.stages)):
        priming.run_stage(number)
    lm, chat = priming.lm, priming.chat
    assert lm is not None
    assert chat is not None
    _save(lm, chat, folder)
    evaluations, greedy = priming.measure_saved(folder)
    write_card(folder, options, evaluations, greedy)
    return PrimeResult(folder, evaluations, greedy)


class _Priming:
    """The model on its way through the stages."""

    def __init__(self, options: PrimeOptions, listener: Listener) -> None:
        self.options, self.listener = options, listener
        self.factories = [demo.env.factory() for demo in options.demos]
        for factory in self.factories:
            factory().reset(options={"split": "eval", "task": 0})
        self.chats = [chat for path in options.chats for chat in read_chats(Path(path))]
        self.lm: LanguageModel | None = None
        self.chat: Chat | None = None

    def run_stage(self, number: int) -> None:
        """Demonstrate and imitate."""
        stage = self.options.stages[number]
        played = self._play(number)
        if self.lm is None or self.chat is None:
            self.lm, self.chat = self._start(played)
        lm, chat = self.lm, self.chat
        steps = stage.prefer.steps if stage.pairs is not None else stage.sft.steps
        losses: list[float] = []

        def on_step(step: int, loss: float) -> bool:
            losses.append(loss)
            self.listener.progress(f"stage {number + 1}", step, steps)
            if step % self.options.evaluate_every and step < steps:
                return False
            # One pass of snapping serves the whole evaluation.
            with parametrize.cached():
                done = self._measure(lm, chat, 1.0)
            rates = {id: evaluation.success.value for id, evaluation in done.items()}
            shown = ", ".join(f"{id} {rate:.0%}" for id, rate in rates.items())
            mean = sum(losses) / len(losses)
            losses.clear()
            self.listener.note(f"step {step}/{steps}: loss {mean:.3f}, success {shown}")
            return min(rates.values()) >= self.options.stop_at

        seed = derive_seed("stage", self.options.seed, number)
        if stage.pairs is not None:
            prefer(lm, read_pairs(Path(stage.pairs), chat), stage.prefer, seed, on_step)
            return
        examples = [to_example(demo, chat, stage.imitate_mistakes) for demo in played]
        examples = [example for example in examples if any(example.is_action)]
        if not examples:
            raise ConfigError(
                f"stages[{number}] has nothing to imitate: set demos[].episodes above 0, or chats"
            )
        fit(lm, examples, stage.sft, seed, on_step)

    def measure_saved(self, folder: Path) -> tuple[dict[str, Evaluation], dict[str, Evaluation]]:
        """The saved model, held in NF4 as training will hold it, at temperature 1 and 0."""
        held = ModelOptions(name=str(folder), precision="nf4", device=self.options.device)
        lm = load_model(held)
        chat = load_chat(str(folder), ChatOptions())
        return self._measure(lm, chat, 1.0), self._measure(lm, chat, 0.0)

    def _play(self, number: int) -> list[Demonstration]:
        """Demonstrations of a stage; no stage repeats a task of another."""
        stage = self.options.stages[number]
        if stage.pairs is not None and self.lm is not None:
            return []
        played = list(self.chats)
        for demo, factory in zip(self.options.demos, self.factories, strict=True):
            if not demo.episodes:
                continue
            mistakes = demo.mistakes if stage.mistakes is None else stage.mistakes
            first = number * demo.episodes
            demos = demonstrate(factory, demo.episodes, mistakes, self.options.seed, first)
            rate = sum(d.success for d in demos) / len(demos)
            self.listener.note(
                f"{factory.id}: {len(demos)} demonstrations, {rate:.0%} of them succeed"
            )
            if not rate and mistakes < 1:
                raise ConfigError(
                    f"none of {len(demos)} demonstrations of {factory.id} succeeds; is its oracle "
                    f"right? turnhalle check {factory.id} says"
                )
            played += demos
        return played

    def _start(self, played: Sequence[Demonstration]) -> tuple[LanguageModel, Chat]:
        """The model to train, read or made from nothing, and how it is spoken to."""
        options = self.options
        if options.scratch is None:
            chat = load_chat(options.model, options.chat)
            start = ModelOptions(name=options.model, precision="fp32", device=options.device)
            lm = load_model(start)
        else:
            texts = [text for demo in played for text in _texts(demo, options.chat)]
            tokenizer = new_tokenizer(texts, options.scratch.vocabulary)
            chat = Chat(tokenizer, options.chat)
            seed = derive_seed("model", options.seed) % 2**31
            lm = LanguageModel(new_model(options.scratch, tokenizer, seed).eval())
        tune_process(lm.num_parameters)
        return lm, chat

    def _measure(self, lm: LanguageModel, chat: Chat, temperature: float) -> dict[str, Evaluation]:
        """Success on held-out tasks, by environment."""
        sampling = Sampling(temperature=temperature, max_new_tokens=self.options.max_new_tokens)
        policy = LLMPolicy("primed", TransformersEngine(lm), chat, sampling)
        tasks = self.options.evaluate_tasks
        return {factory.id: evaluate(factory, policy, tasks) for factory in self.factories}


def _texts(demo: Demonstration, chat: ChatOptions) -> list[str]:
    texts = [message.content for message in demo.opening if message.role != "system"]
    for exchange in demo.exchanges:
        format = chat.tool_format or "hermes"
        texts.append(from_canonical(exchange.action, format, demo.tools))
        texts += [message.content for message in exchange.answer]
    return texts


def _save(lm: LanguageModel, chat: Chat, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with Quiet():
        lm.model.save_pretrained(folder)
        chat.tokenizer.save_pretrained(folder)
    settings = chat.options.model_dump_json(exclude={"chat_template"}, exclude_none=True, indent=2)
    (folder / SETTINGS_FILE).write_text(settings + "\n", encoding="utf-8")
    # Sampling is the business of whoever samples; a default of the model's would surprise.
    (folder / "generation_config.json").unlink(missing_ok=True)
