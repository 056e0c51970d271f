"""The language-model policy: a chat on one side, an engine on the other, token-exact between."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from turnhalle.envs.core import Message, StopReason
from turnhalle.envs.errors import ConfigError
from turnhalle.envs.seeding import derive_seed

from .chat import Chat, Conversation
from .engines.base import Completion, Engine, Request, Sampling
from .policy import Decision, Opening


@dataclass(slots=True)
class _Episode:
    talk: Conversation
    seed: int
    num_samples: int = 0


@dataclass
class LLMPolicy:
    """Plays episodes by sampling from an engine."""

    name: str
    engine: Engine
    chat: Chat
    sampling: Sampling
    max_concurrent: int = 256
    drift: Counter[str] = field(default_factory=Counter)
    """How episodes that ended differ from what a server of the model would feed, since cleared."""
    _episodes: dict[int, _Episode] = field(default_factory=dict)
    _out_of_room: list[Decision] = field(default_factory=list)

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
        """Run the engine until a turn is finished."""
        decisions: list[Decision] = []
        while not decisions:
            if self._out_of_room:
                decisions, self._out_of_room = self._out_of_room, []
                return decisions
            decided = map(self._decide, self.engine.step())
            decisions = [decision for decision in decided if decision is not None]
        return decisions

    def observe(self, episode: int, messages: list[Message]) -> None:
        """Go on from what the environment answered."""
        self._episodes[episode].talk.observe(messages)
        self._submit(episode)

    def end(self, episode: int) -> None:
        """Forget the conversation."""
        if (ended := self._episodes.pop(episode, None)) is not None:
            self.drift.update(ended.talk.drift)
        self.engine.close(episode)

    def _submit(self, number: int) -> None:
        episode = self._episodes[number]
        context = episode.talk.context
        if len(context) >= self.engine.max_context:
            self._out_of_room.append(Decision(number, "", stop=StopReason.CONTEXT))
            return
        seed = derive_seed(episode.seed, episode.num_samples)
        request = Request(number, list(context), seed, self.sampling, self.chat.stop_ids)
        self.engine.submit(request)

    def _decide(self, completion: Completion) -> Decision | None:
        """The decision that was sampled; None where the policy wrote to itself and goes on."""
        episode = self._episodes[completion.session]
        episode.num_samples += 1
        action = episode.talk.add(
            completion.token_ids, completion.logprobs, completion.adapter_version
        )
        if action is None:
            self._submit(completion.session)
            return None
        return Decision(completion.session, action, episode.talk.take_segments())
