"""Priming: a policy imitates oracles, mistakes and all, until it succeeds sometimes.

Reinforcement learning sharpens what a policy can already do by luck; one that never succeeds learns
nothing. Priming makes such a start, for any environment that has an oracle, from a model that
exists or from nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from torch.nn.utils import parametrize

from turnhalle.agents.chat import Chat
from turnhalle.agents.engines.base import Sampling
from turnhalle.agents.engines.local import TransformersEngine
from turnhalle.agents.evaluate import Evaluation, evaluate
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import held_precision
from turnhalle.agents.process import tune_process
from turnhalle.envs.errors import ConfigError
from turnhalle.envs.options import EnvOptions
from turnhalle.envs.seeding import derive_seed

from .card import write_primed_card
from .chats import read_chats
from .demos import Demonstration, demonstrate, to_example
from .labels import labels
from .new_folder import require_new
from .pairs import RaterOptions, read_pairs, sampled_answers
from .prefer import PreferOptions, prefer
from .primed import StartOptions, begin, load_saved, save
from .progress import Listener
from .sft import SftOptions, fit
from .stages import Stage, stages_before, write_stages
from .unused import refuse_unused


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
    """JSONL file of preferences (`training/pairs.py`): the stage learns those by DPO, and imitates
    nothing."""
    rater: RaterOptions | None = None
    """A reward that rates the answers in `pairs`, or the model's own; None asks people's."""
    prefer: PreferOptions = PreferOptions()
    """How it learns from `pairs`."""
    mistakes: float | None = Field(None, ge=0, le=1)
    """Replaces the mistakes of every environment in this stage."""
    imitate_mistakes: bool = False
    """Learn the mistakes too. Else they only show what comes after one, and the policy learns what
    the oracle does there."""

    @property
    def descent(self) -> SftOptions:
        """How the stage learns."""
        return self.sft if self.pairs is None else self.prefer

    def check(self, name: str) -> None:
        """Refuse options that have no effect.

        Raises:
            ConfigError: Says which.
        """
        if self.pairs is None:
            refuse_unused(
                name, self, {"sft", "mistakes", "imitate_mistakes"}, f"{name}.pairs unset"
            )
        else:
            refuse_unused(name, self, {"pairs", "rater", "prefer"}, f"{name}.pairs")


class PrimeOptions(StartOptions):
    """Everything that a priming is."""

    demos: list[DemoOptions] = Field([DemoOptions()], min_length=1)
    chats: list[str] = Field([])
    """JSONL files of chats (`training/chats.py`), imitated along with the demonstrations."""
    stages: list[PrimeStage] = Field([PrimeStage()], min_length=1)
    stop_at: float = Field(0.4, gt=0, le=1)
    """End a stage once success at temperature 1 has reached this in every environment: what
    follows is the business of reinforcement learning. 1 goes through all steps, most likely."""
    evaluate_every: int = Field(20, ge=1)
    evaluate_tasks: int = Field(200, ge=10)
    max_new_tokens: int = Field(64, ge=1)

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            ConfigError: Says what, and the fix.
        """
        self.check_start()
        for number, stage in enumerate(self.stages):
            stage.check(f"stages[{number}]")
            if self.adapter.rank is not None and stage.descent.snap:
                raise ConfigError(
                    f"stages[{number}] is to snap weights, and adapter.rank = {self.adapter.rank} "
                    "leaves them as they are; leave snap out"
                )


@dataclass(frozen=True, slots=True)
class PrimeResult:
    """What a priming came to."""

    folder: Path
    evaluations: dict[str, Evaluation]
    """Of the saved model at temperature 1, held as training will hold it, by environment
    (`training/labels.py`)."""
    greedy: dict[str, Evaluation]
    """The same at temperature 0."""


def prime(options: PrimeOptions, folder: Path, listener: Listener) -> PrimeResult:
    """Make demonstrations, imitate them, save the model with its card.

    Raises:
        ConfigError: An environment without an oracle, or twice the same; a folder that cannot be
            made.
        ModelError: A model that cannot be used.
        StoreError: The folder holds something.
    """
    options.check()
    require_new(folder)
    priming = _Priming(options, listener)
    for number in range(len(options.stages)):
        priming.run_stage(number)
    lm, chat = priming.lm, priming.chat
    assert lm is not None
    assert chat is not None
    save(lm, chat, folder)
    evaluations, greedy = priming.measure_saved(folder)
    stages = _history(options, evaluations)
    write_stages(folder, stages)
    write_primed_card(
        folder,
        options,
        evaluations,
        greedy,
        stages=stages,
        precision="nf4" if options.adapter.rank is None else held_precision(options.held),
        is_snapped=options.adapter.rank is None and options.stages[-1].descent.snap is not False,
    )
    return PrimeResult(folder, evaluations, greedy)


def _history(options: PrimeOptions, evaluations: dict[str, Evaluation]) -> list[Stage]:
    """What the model went through, these stages included."""
    history = stages_before(options.model, options.start)
    if options.scratch is not None:
        history = [Stage(kind="base", what="random weights")]
    adapter = options.adapter
    trained = "all weights" if adapter.rank is None else f"an adapter of rank {adapter.rank}"
    for stage in options.stages:
        steps = f"{trained}, at most {stage.descent.steps} steps of"
        if stage.pairs is None:
            named = zip(evaluations, options.demos, strict=True)
            demos = [f"{label} ({demo.episodes})" for label, demo in named if demo.episodes]
            taught = ", ".join([*(f"the oracle of {demo}" for demo in demos), *options.chats])
            what = f"{steps} imitating {taught}"
        else:
            judge = "people" if stage.rater is None else f"the reward {stage.rater.name}"
            what = f"{steps} DPO on what {judge} preferred in {stage.pairs}"
        changed = stage.model_dump(mode="json", exclude_defaults=True)
        kind = "imitation" if stage.pairs is None else "preferences"
        history.append(Stage(kind=kind, what=what, options=changed))
    measured = {label: done.success.percent() for label, done in evaluations.items()}
    return [*history[:-1], history[-1].model_copy(update={"success": measured})]


class _Priming:
    """The model on its way through the stages."""

    def __init__(self, options: PrimeOptions, listener: Listener) -> None:
        self.options, self.listener = options, listener
        self.factories = [demo.env.factory() for demo in options.demos]
        self.labels = labels(self.factories)
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
            self.lm, self.chat = begin(self.options, played)
            tune_process(self.lm.num_parameters)
        lm, chat, steps = self.lm, self.chat, stage.descent.steps
        losses: list[float] = []

        def on_step(step: int, loss: float) -> bool:
            losses.append(loss)
            self.listener.progress(f"stage {number + 1}", step, steps)
            if step % self.options.evaluate_every and step < steps:
                return False
            # One pass of snapping serves the whole evaluation.
            with parametrize.cached():
                done = self._measure(lm, chat, 1.0)
            rates = {label: evaluation.success.value for label, evaluation in done.items()}
            shown = ", ".join(f"{label} {rate:.0%}" for label, rate in rates.items())
            mean = sum(losses) / len(losses)
            losses.clear()
            self.listener.note(f"step {step}/{steps}: loss {mean:.3f}, success {shown}")
            return min(rates.values()) >= self.options.stop_at

        seed = derive_seed("stage", self.options.seed, number)
        if stage.pairs is not None:
            sampling = Sampling(max_new_tokens=self.options.max_new_tokens)
            draw = sampled_answers(TransformersEngine(lm), chat, sampling, seed)
            pairs = read_pairs(Path(stage.pairs), chat, stage.rater, draw)
            self.listener.note(f"{len(pairs)} pairs of answers")
            prefer(lm, pairs, stage.prefer, seed, on_step)
            return
        examples = [to_example(demo, chat, stage.imitate_mistakes) for demo in played]
        examples = [example for example in examples if any(example.is_action)]
        if not examples:
            raise ConfigError(
                f"stages[{number}] has nothing to imitate: set demos[].episodes above 0, or chats"
            )
        fit(lm, examples, stage.sft, seed, on_step)

    def measure_saved(self, folder: Path) -> tuple[dict[str, Evaluation], dict[str, Evaluation]]:
        """What was saved, held as training will hold it, at temperature 1 and 0."""
        lm, chat = load_saved(self.options, folder)
        return self._measure(lm, chat, 1.0), self._measure(lm, chat, 0.0)

    def _play(self, number: int) -> list[Demonstration]:
        """Demonstrations of a stage; no stage repeats a task of another."""
        stage = self.options.stages[number]
        if stage.pairs is not None and (self.lm is not None or self.options.scratch is None):
            return []  # a tokenizer is made of what is demonstrated
        played = list(self.chats)
        parts = zip(self.options.demos, self.factories, self.labels, strict=True)
        for demo, factory, label in parts:
            if not demo.episodes:
                continue
            mistakes = demo.mistakes if stage.mistakes is None else stage.mistakes
            first = number * demo.episodes
            demos = demonstrate(factory, demo.episodes, mistakes, self.options.seed, first)
            rate = sum(d.success for d in demos) / len(demos)
            self.listener.note(f"{label}: {len(demos)} demonstrations, {rate:.0%} of them succeed")
            if not rate and mistakes < 1:
                raise ConfigError(
                    f"none of {len(demos)} demonstrations of {label} succeeds; is its oracle "
                    f"right? turnhalle check {factory.id} says"
                )
            played += demos
        return played

    def _measure(self, lm: LanguageModel, chat: Chat, temperature: float) -> dict[str, Evaluation]:
        """Success on held-out tasks, by environment."""
        sampling = Sampling(temperature=temperature, max_new_tokens=self.options.max_new_tokens)
        policy = LLMPolicy("primed", TransformersEngine(lm), chat, sampling)
        tasks = self.options.evaluate_tasks
        each = zip(self.labels, self.factories, strict=True)
        return {label: evaluate(factory, policy, tasks) for label, factory in each}
