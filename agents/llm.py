"""The language-model policy: a chat on one side, an engine on the other, token-exact between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from turnhalle.envs.core import Message, StopReason
from turnhalle.envs.errors import ConfigError, EngineError
from turnhalle.envs.seeding import derive_seed

from .chat import Chat, Conversation
from .engines.base import Completion, Engine, Request, Sampling
from .overflow import fit
from .policy import Decision, Opening

Overflow = Literal["end", "truncate"]


@dataclass(slots=True)
class _Episode:
    talk: Conversation
    seed: int
    num_samples: int = 0
    parent: int | None = None
    """The episode that it was forked from, until its first turn."""


@dataclass
class LLMPolicy:
    """Plays episodes by sampling from an engine."""

    name: str
    engine: Engine
    chat: Chat
    sampling: Sampling
    max_concurrent: int = 256
    overflow: Overflow = "end"
    """What becomes of an observation that leaves no room for a turn: the episode ends before it, or
    its middle is left out."""
    drift: Counter[str] = field(default_factory=Counter)
    """How episodes that ended differ from what a server of the model would feed, since cleared."""
    _episodes: dict[int, _Episode] = field(default_factory=dict)
    _stopped: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        above = self.chat.options.summarise_above
        if above is not None and above >= self.engine.max_context:
            raise ConfigError(
                f"chat.summarise_above is {above}, but the context ends at "
                f"{self.engine.max_context} tokens; give fewer"
            )

    def begin(self, opening: Opening) -> None:
        """Start a conversation."""
        talk = Conversation(self.chat, opening.messages, opening.tools)
        self._episodes[opening.episode] = _Episode(talk, opening.seed)
        self._submit(opening.episode)

    def poll(self) -> list[Decision]:
        """Let the engine advance; the turns that finished."""
        if self._stopped:
            decisions, self._stopped = self._stopped, []
            return decisions
        decided = [self._decide(completion) for completion in self.engine.step()]
        return [decision for decision in decided if decision is not None]

    def observe(self, episode: int, messages: list[Message]) -> None:
        """Go on from what the environment answered."""
        talk = self._episodes[episode].talk
        talk.observe(self._shorten(talk, messages))
        self._submit(episode)

    def fork(self, episode: int, opening: Opening) -> None:
        """Begin a conversation with the history of another."""
        parent = self._episodes[episode]
        forked = _Episode(parent.talk.fork(), opening.seed, parent.num_samples, episode)
        self._episodes[opening.episode] = forked
        self.observe(opening.episode, opening.messages)

    def end(self, episode: int) -> None:
        """Forget the conversation, and what was decided in it."""
        self._stopped = [decision for decision in self._stopped if decision.episode != episode]
        if (ended := self._episodes.pop(episode, None)) is not None:
            self.drift.update(ended.talk.drift)
        self.engine.close(episode)

    def _shorten(self, talk: Conversation, messages: Sequence[Message]) -> Sequence[Message]:
        """The observation, so short that the next turn has room, where that is asked for."""
        if self.overflow == "end":
            return messages
        room = self.engine.max_context - len(talk.context) - self.sampling.max_new_tokens
        return fit(messages, talk.answer_tokens, room)

    def _submit(self, number: int) -> None:
        episode = self._episodes[number]
        context = episode.talk.context
        if len(context) >= self.engine.max_context:
            self._stopped.append(Decision(number, "", stop=StopReason.CONTEXT))
            return
        seed = derive_seed(episode.seed, episode.num_samples)
        parent, episode.parent = episode.parent, None
        request = Request(number, list(context), seed, self.sampling, self.chat.stop_ids, parent)
        try:
            self.engine.submit(request)
        except EngineError as error:
            self._stopped.append(_failed(number, str(error)))

    def _decide(self, completion: Completion) -> Decision | None:
        """The decision that was sampled; None where the policy wrote to itself and goes on."""
        number = completion.session
        if completion.error is not None:
            return _failed(number, completion.error)
        episode = self._episodes[number]
        episode.num_samples += 1
        action = episode.talk.add(
            completion.token_ids,
            completion.logprobs,
            completion.adapter_version,
            completion.kept_mass,
        )
        if action is None:
            self._submit(number)
            return None
        return Decision(number, action, episode.talk.take_segments())


def _failed(episode: int, error: str) -> Decision:
    return Decision(episode, "", stop=StopReason.ENGINE_ERROR, error=error)
