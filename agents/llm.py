"""The language-model policy: a chat on one side, an engine on the other, token-exact between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from turnhalle.envs.core import Message, StopReason, ToolSpec
from turnhalle.envs.errors import EngineError
from turnhalle.envs.seeding import derive_seed

from .chat import Chat
from .core import Segment
from .engines.base import Completion, Engine, Request, Sampling
from .overlong import fit
from .policy import Decision, Opening

Overlong = Literal["end", "truncate"]


@dataclass(slots=True)
class _Conversation:
    tools: list[ToolSpec]
    seed: int
    context: list[int]
    """Every token so far."""
    fresh: int
    """How many of them, at the end, belong to the coming turn's observation."""
    num_turns: int = 0


@dataclass
class LLMPolicy:
    """Plays episodes by sampling from an engine."""

    name: str
    engine: Engine
    chat: Chat
    sampling: Sampling
    max_concurrent: int = 256
    overlong: Overlong = "end"
    """What becomes of an observation that leaves no room for a turn: the episode ends before it, or
    its middle is left out."""
    _conversations: dict[int, _Conversation] = field(default_factory=dict)
    _stopped: list[Decision] = field(default_factory=list)

    def begin(self, opening: Opening) -> None:
        """Start a conversation."""
        prompt = self.chat.prompt(opening.messages, opening.tools)
        conversation = _Conversation(opening.tools, opening.seed, prompt, len(prompt))
        self._conversations[opening.episode] = conversation
        self._submit(opening.episode, conversation)

    def poll(self) -> list[Decision]:
        """Let the engine advance; the turns that finished."""
        if self._stopped:
            decisions, self._stopped = self._stopped, []
            return decisions
        return [self._decide(completion) for completion in self.engine.step()]

    def observe(self, episode: int, messages: list[Message]) -> None:
        """Append what the environment answered."""
        conversation = self._conversations[episode]
        tail = self._tail(conversation, messages)
        conversation.context += tail
        conversation.fresh = len(tail)
        self._submit(episode, conversation)

    def fork(self, episode: int, opening: Opening) -> None:
        """Begin a conversation with the history of another."""
        parent = self._conversations[episode]
        self._conversations[opening.episode] = replace(
            parent, seed=opening.seed, context=list(parent.context)
        )
        self.observe(opening.episode, opening.messages)

    def end(self, episode: int) -> None:
        """Forget the conversation."""
        self._conversations.pop(episode, None)
        self.engine.close(episode)

    def _tail(self, conversation: _Conversation, messages: list[Message]) -> list[int]:
        def render(shown: Sequence[Message]) -> list[int]:
            return self.chat.continuation(conversation.context, shown)

        if self.overlong == "end":
            return render(messages)
        room = self.engine.max_context - len(conversation.context) - self.sampling.max_new_tokens
        return fit(messages, render, room)

    def _submit(self, episode: int, conversation: _Conversation) -> None:
        if len(conversation.context) >= self.engine.max_context:
            self._stopped.append(Decision(episode, "", stop=StopReason.CONTEXT))
            return
        seed = derive_seed(conversation.seed, conversation.num_turns)
        request = Request(
            episode, list(conversation.context), seed, self.sampling, self.chat.stop_ids
        )
        try:
            self.engine.submit(request)
        except EngineError as error:
            self._stopped.append(_failed(episode, str(error)))

    def _decide(self, completion: Completion) -> Decision:
        if completion.error is not None:
            return _failed(completion.session, completion.error)
        conversation = self._conversations[completion.session]
        observation = conversation.context[len(conversation.context) - conversation.fresh :]
        segments = [
            Segment(observation),
            Segment(completion.token_ids, completion.logprobs, completion.adapter_version),
        ]
        conversation.context += completion.token_ids
        conversation.num_turns += 1
        action = self.chat.read(completion.token_ids, conversation.tools)
        return Decision(completion.session, action, segments)


def _failed(episode: int, error: str) -> Decision:
    return Decision(episode, "", stop=StopReason.ENGINE_ERROR, error=error)
