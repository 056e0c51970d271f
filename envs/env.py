"""`TextEnv`: the contract that every environment keeps.

It is Gymnasium's, so a `TextEnv` passes `check_env` and works in its wrappers and vector
environments. On top of it come what agents need: tasks with disjoint splits, success apart from
reward, an oracle, snapshots and forks.
"""

from __future__ import annotations

import math
import random
import sys
from typing import Any, Self, final

import numpy as np
from gymnasium.utils import seeding

from .author import World
from .core import End, Message, Reply, StepInfo, StopReason, system_message
from .errors import ConfigError, EnvError, EpisodeOverError, TaskError, positive, unknown_name
from .families import family_of, require_variety
from .replies import Replies, start_recording, stop_recording
from .resets import read_reset
from .seeding import derive_rng
from .spaces import UnicodeText
from .tasks import Family, Task, draw_task


class TextEnv(World):
    """A world that speaks text. Subclass it and write `draw`, `start`, `respond` and `oracle`.

    An environment is a plain object: it holds no thread, file or process between steps unless its
    author adds one, and `fork` copies it at any turn.
    """

    system_prompt = ""
    construction: tuple[tuple[Any, ...], dict[str, Any]]
    """Arguments that this environment was built with."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Remember the arguments, so that `fork` can build another environment like this one."""
        env = super().__new__(cls)
        env.construction = (args, kwargs)
        return env

    def __init__(
        self,
        *,
        difficulty: int | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        for name, value in (("difficulty", difficulty), ("max_turns", max_turns)):
            if value is not None:
                setattr(self, name, positive(name, value))
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise unknown_name("render mode", str(render_mode), self.metadata["render_modes"])
        self.render_mode = render_mode
        self.observation_space = UnicodeText()
        self.action_space = UnicodeText()
        self._families: dict[int, Family] = {}
        self._task: Task | None = None
        self._is_over = True
        self._journal: list[str] = []
        self._replies = Replies()
        self._observations: list[str] = []
        self._turn_rng: random.Random | None = None
        self._generator: np.random.Generator | None = None

    @property
    def _np_random(self) -> np.random.Generator | None:
        """Gymnasium's generator, made when somebody asks: it costs a sixth of a reset."""
        if self._generator is None and self._np_random_seed is not None:
            self._generator, _ = seeding.np_random(self._np_random_seed)
        return self._generator

    @_np_random.setter
    def _np_random(self, value: np.random.Generator | None) -> None:
        self._generator = value

    def picture(self) -> str:
        """What `render` shows in mode "ansi"; the conversation so far by default."""
        lines = self._observations[:1]
        for action, observation in zip(self._journal, self._observations[1:], strict=False):
            lines += [f"> {action}", observation]
        return "\n".join(lines)

    @property
    def id(self) -> str:
        """The registered id, or `module:Class` where there is none."""
        return self.class_id() if self.spec is None else self.spec.id

    @classmethod
    def class_id(cls) -> str:
        """`module:Class`, or `file.py:Class` for classes that were loaded from a file."""
        module = sys.modules.get(cls.__module__)
        return f"{getattr(module, '__turnhalle_name__', cls.__module__)}:{cls.__qualname__}"

    @property
    def task(self) -> Task:
        """The task of this episode.

        Raises:
            EpisodeOverError: No episode was started.
        """
        if self._task is None:
            raise EpisodeOverError(f"{self.id}: call reset() first")
        return self._task

    @property
    def has_oracle(self) -> bool:
        """Did the author write an oracle?"""
        return type(self).oracle is not World.oracle

    @final
    def expert(self) -> str:
        """The oracle's action; an `EnvError` where the oracle has a bug."""
        action = self._guarded(self.oracle)
        if not isinstance(action, str):
            raise self._fault(f"oracle must return a str, got {type(action).__name__}")
        return action

    @property
    def is_over(self) -> bool:
        """Has the episode ended, or not begun?"""
        return self._is_over

    @property
    def rng(self) -> random.Random:
        """Transition noise of this turn: the same task, `noise` and turn give the same stream."""
        if self._turn_rng is None:
            task = self.task
            key = (task.env, task.split, task.index, task.difficulty)
            self._turn_rng = derive_rng("noise", *key, task.noise, self.turn)
        return self._turn_rng

    # `StepInfo` is a plain dictionary at run time; mypy keeps TypedDict and dict apart.
    @final
    def reset(  # type: ignore[override]
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, StepInfo]:
        """Start an episode.

        `seed` is the number of a task of the split; options are `split` ("train", "eval" or
        "test"), `task` (the number, where it is not the seed), `difficulty`, and `noise` (another
        draw of the transition noise).

        Raises:
            UnknownNameError: An option or split that does not exist.
            TaskError: The family is too small for the split.
        """
        if seed is not None:
            self._np_random_seed, self._generator = seed, None
        asked = read_reset(self, seed, options or {})
        family = self.task_family(asked.difficulty)
        if asked.split != "train" and self.listed(asked.split, asked.difficulty) is None:
            require_variety(self, asked.difficulty)
        return self.begin(draw_task(family, asked.split, asked.task, asked.noise))

    @final
    def task_family(self, difficulty: int | None = None) -> Family:
        """What draws the tasks at a difficulty, and whether they are split by content."""
        difficulty = self.difficulty if difficulty is None else difficulty
        if difficulty not in self._families:
            self._families[difficulty] = family_of(self, difficulty)
        return self._families[difficulty]

    @final
    def begin(self, task: Task) -> tuple[str, StepInfo]:
        """Start an episode of a given task; `reset` after the drawing."""
        return self._begin(task, Replies())

    def _begin(self, task: Task, replies: Replies) -> tuple[str, StepInfo]:
        self._replies = replies
        self._task, self.instance = task, task.instance
        self.turn, self._is_over, self._turn_rng = 0, False, None
        self._journal = []
        first = self._guarded(self.start)
        reply = Reply(first) if isinstance(first, str) else first
        self._observations = [reply.text]
        info: StepInfo = {"messages": self._messages(reply)}
        if self.system_prompt:
            info["messages"].insert(0, system_message(self.system_prompt))
        if tools := self.tools():
            info["tools"] = tools
        return reply.text, info

    @final
    def step(  # type: ignore[override]
        self, action: str
    ) -> tuple[str, float, bool, bool, StepInfo]:
        """Take one turn.

        Raises:
            EpisodeOverError: Before `reset`, or after the end.
            EnvError: The environment has a bug; the message names the task.
        """
        if self._is_over:
            raise EpisodeOverError(f"{self.id}: the episode is over (or not begun); call reset()")
        if not isinstance(action, str):
            raise ConfigError(f"{self.id}: an action is a str, got {type(action).__name__}")
        self.turn += 1
        self._turn_rng = None
        self._journal.append(action)
        reply = self._guarded(self.respond, action)
        if not isinstance(reply, Reply):
            raise self._fault(f"respond must return Reply or End, got {type(reply).__name__}")
        self._observations.append(reply.text)
        parts = dict(reply.parts)
        reward = float(math.fsum(parts.values()) if parts else reply.reward)
        if not math.isfinite(reward):
            raise self._fault(f"the reward is {reward}")
        info: StepInfo = {"messages": self._messages(reply), "parts": parts}
        if reply.faults:
            info["faults"] = dict(reply.faults)
        terminated = isinstance(reply, End)
        truncated = not terminated and self.turn >= self.max_turns
        if terminated or truncated:
            self._is_over = True
            info["success"] = isinstance(reply, End) and reply.success
            info["stop"] = StopReason.FINISHED if terminated else StopReason.MAX_TURNS
        return reply.text, reward, terminated, truncated, info

    def render(self) -> str | None:
        """The world as text in render mode "ansi"."""
        return self.picture() if self.render_mode == "ansi" else None

    @final
    def get_state(self) -> dict[str, Any]:
        """A snapshot: JSON, enough for `set_state` of another environment of this kind.

        Raises:
            ConfigError: The environment cannot be snapshot (`metadata["snapshot"]` is "none").
        """
        kind = self.metadata["snapshot"]
        if kind == "none":
            raise ConfigError(f"{self.id} lives outside this process and cannot be snapshot")
        snapshot: dict[str, Any] = {"task": self.task.to_json(), "journal": list(self._journal)}
        snapshot["replies"] = self._replies.to_json()
        if kind == "state":
            snapshot |= {"observations": list(self._observations), "is_over": self._is_over}
            snapshot["world"] = self._guarded(self.state)
        return snapshot

    @final
    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a snapshot.

        Raises:
            TaskError: The snapshot is of another environment.
        """
        task = Task.from_json(state["task"])
        if task.env != self.id:
            raise TaskError(f"the snapshot is of {task.env}, this environment is {self.id}")
        self._begin(task, Replies(state.get("replies")))
        for action in () if "world" in state else state["journal"]:
            self.step(action)
        self._replies.end_replay()
        if "world" not in state:
            return
        self._journal = list(state["journal"])
        self._observations = list(state["observations"])
        self.turn, self._turn_rng = len(self._journal), None
        self._is_over = state["is_over"]
        self._guarded(self.restore, state["world"])

    @final
    def fork(self) -> Self:
        """Another environment in the same state; the two go on apart."""
        other = self.anew()
        other.set_state(self.get_state())
        return other

    @final
    def anew(self) -> Self:
        """Another environment of this kind, without an episode."""
        args, kwargs = self.construction
        other = type(self)(*args, **kwargs)
        other.spec = self.spec
        return other

    def _messages(self, reply: Reply) -> list[Message]:
        return list(reply.messages) or [Message(role="user", content=reply.text)]

    def _guarded(self, call: Any, *args: str) -> Any:
        before = start_recording(self._replies)
        try:
            return call(*args)
        except (ConfigError, EnvError):
            raise  # it says itself what is wrong: an option, a judge, a server
        except Exception as error:
            raise self._fault(f"{type(error).__name__}: {error}") from error
        finally:
            stop_recording(before)

    def _fault(self, what: str) -> EnvError:
        return EnvError(
            f"bug in {self.id} at turn {self.turn}: {what}. To replay: env.begin(Task.from_json("
            f"{self.task.to_json()!r})), then the actions {self._journal!r}"
        )
