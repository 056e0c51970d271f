"""History policies: which tokens the next turn is sampled from, and what is counted on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from turnhalle.agents.chat import Chat, ChatOptions, Conversation, load_chat
from turnhalle.agents.core import Segment, Trajectory, Turn
from turnhalle.agents.tree import branches
from turnhalle.envs.core import Message
from turnhalle.envs.tasks import Task

MakeTokenizer = Callable[..., Any]


def user(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


class Played:
    """A conversation by hand, every turn and its tokens on record."""

    def __init__(self, make_tokenizer: MakeTokenizer, template: str, **options: Any) -> None:
        self.chat = Chat(make_tokenizer(template), ChatOptions(**options))
        self.talk = Conversation(self.chat, user("Start."), [])
        self.contexts = [list(self.talk.context)]
        self.turns: list[Turn] = []

    def say(self, text: str, ended: bool = True) -> None:
        ids = self.chat.template.encode(text)
        ids += [self.chat.tokenizer.eos_token_id] * ended
        if self.talk.add(ids, [-1.0] * len(ids), 0) is not None:
            self.turns.append(Turn("", "", 0.0, segments=self.talk.take_segments()))

    def hear(self, text: str) -> None:
        self.talk.observe(user(text))
        self.contexts.append(list(self.talk.context))

    @property
    def text(self) -> str:
        return self.chat.template.decode(self.talk.context)

    def sequences(self) -> list[tuple[str, str]]:
        """Each branch, and what of it was sampled there."""
        found = branches(Trajectory(Task("x", "train", 0, 1, {}), 0, self.turns))
        decode = self.chat.template.decode
        return [(decode(b.token_ids), decode(b.token_ids[b.position])) for b in found]


def test_append_keeps_everything_as_it_was_sampled(make_tokenizer: MakeTokenizer) -> None:
    played = Played(make_tokenizer, "qwen3", history="append")
    for number in range(3):
        played.say(f"<think>\nhm {number}\n</think>\n\n{number}")
        played.hear("And?")
    assert played.text.count("hm") == 3
    for before, after in zip(played.contexts, played.contexts[1:], strict=False):
        assert after[: len(before)] == before
    assert len(played.sequences()) == 1
    assert played.talk.drift["rewritten"] == 3
    assert played.talk.drift["branches"] == 0


def test_as_template_branches_where_thinking_was(make_tokenizer: MakeTokenizer) -> None:
    played = Played(make_tokenizer, "qwen3")
    played.say("<think>\nhm\n</think>\n\nfour")
    played.hear("Sure?")
    played.say("<think>\nyes\n</think>\n\nfour!")
    (first, drawn), (second, drawn_later) = played.sequences()
    assert first.endswith("assistant\n<think>\nhm\n</think>\n\nfour<|im_end|>")
    assert drawn == "<think>\nhm\n</think>\n\nfour<|im_end|>"
    assert "hm" not in second
    assert "assistant\nfour<|im_end|>\n<|im_start|>user\nSure?" in second
    assert drawn_later == "<think>\nyes\n</think>\n\nfour!<|im_end|>"
    assert played.talk.drift["branches"] == 1
    shared = len(played.contexts[0])
    assert played.talk.drift["fed_again"] == len(played.contexts[1]) - shared


def test_another_tokenisation_makes_a_branch_and_is_counted(make_tokenizer: MakeTokenizer) -> None:
    """The text of sampled ids, encoded again, may be other ids: half a character is one."""
    for history, expected in (("append", 0), ("as-template", 1)):
        played = Played(make_tokenizer, "chatml", history=history)
        ids = [*played.chat.template.encode("é")[:1], played.chat.tokenizer.eos_token_id]
        played.talk.add(ids, [-1.0, -1.0], 0)
        played.hear("?")
        assert played.talk.drift["retokenised"] == 1
        assert played.talk.drift["branches"] == expected


def test_a_header_that_merges_with_what_follows_is_counted(make_tokenizer: MakeTokenizer) -> None:
    """GPT-2's rule takes two line ends apart where a word follows: as history they are others."""
    for merged, expected in (("gpt2", 1), ("qwen", 0)):
        chat = Chat(make_tokenizer("llama3", merged=merged), ChatOptions())
        assert len(chat.template.encode("\n\n")) == 1
        talk = Conversation(chat, user("?"), [])
        ids = [*chat.template.encode("four"), min(chat.stop_ids)]
        talk.add(ids, [-1.0] * len(ids), 0)
        talk.observe(user("sure?"))
        assert talk.drift["retokenised"] == expected


def test_a_turn_that_was_cut_gets_its_end_from_the_template(make_tokenizer: MakeTokenizer) -> None:
    for history in ("append", "as-template"):
        played = Played(make_tokenizer, "chatml", history=history)
        played.say("four and", ended=False)
        played.hear("Sure?")
        assert "assistant\nfour and<|im_end|>\n<|im_start|>user\nSure?" in played.text
        assert played.talk.drift["cut"] == 1
        assert played.talk.drift["branches"] == 0


def test_a_window_shows_the_opening_and_the_last_turns(make_tokenizer: MakeTokenizer) -> None:
    played = Played(make_tokenizer, "chatml", history="window", window=2)
    for number in range(5):
        played.say(f"<think>\nhm\n</think>\n\nsay {number}")
        played.hear(f"see {number}")
    assert played.text == (
        "<|im_start|>user\nStart.\nsee 2<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nhm\n</think>\n\nsay 3<|im_end|>\n"
        "<|im_start|>user\nsee 3<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nhm\n</think>\n\nsay 4<|im_end|>\n"
        "<|im_start|>user\nsee 4<|im_end|>\n<|im_start|>assistant\n"
    )
    assert played.talk.drift["branches"] == 3


def test_a_window_of_none_shows_the_last_answer_only(make_tokenizer: MakeTokenizer) -> None:
    played = Played(make_tokenizer, "chatml", history="window", window=0)
    played.say("one")
    played.hear("two")
    assert played.text == ("<|im_start|>user\nStart.\ntwo<|im_end|>\n<|im_start|>assistant\n")


def test_a_summary_is_sampled_and_replaces_what_it_sums_up(make_tokenizer: MakeTokenizer) -> None:
    played = Played(make_tokenizer, "chatml", history="summarise", summarise_above=100)
    played.say("one")
    played.hear("go on")
    assert "Your context is almost full" not in played.text
    played.say("two " * 30)
    played.hear("and then?")
    assert played.text.count("Your context is almost full") == 1
    assert "and then?" in played.text
    played.say("<think>\nwhat was it\n</think>\n\nIt was one, then two.")
    assert played.text == (
        "<|im_start|>user\nStart.\nWhat you wrote down so far:\nIt was one, then two.\n"
        "and then?<|im_end|>\n<|im_start|>assistant\n"
    )
    played.say("three")
    straight, fresh = played.sequences()
    assert straight[1].endswith("It was one, then two.<|im_end|>")
    assert fresh[1] == "three<|im_end|>"
    assert [s.is_sampled for s in played.turns[-1].segments] == [False, True, False, True]
    assert played.talk.drift["summaries"] == 1


def test_what_cannot_be_rendered_stays_as_it_was_sampled(make_tokenizer: MakeTokenizer) -> None:
    """The template of gpt-oss raises on channel tags in a content."""
    played = Played(make_tokenizer, "gptoss")
    played.say("<|channel|>final<|message|>a<|channel|>final<|message|>b")
    before = list(played.talk.context)
    played.hear("?")
    assert played.talk.drift["unrenderable"] == 1
    assert played.talk.context[: len(before)] == before


def test_forks_go_on_apart(make_tokenizer: MakeTokenizer) -> None:
    played = Played(make_tokenizer, "qwen3")
    played.say("<think>\nhm\n</think>\n\none")
    twin = played.talk.fork()
    alone = Played(make_tokenizer, "qwen3")
    alone.say("<think>\nhm\n</think>\n\none")
    played.hear("Sure?")
    twin.observe(user("Really?"))
    alone.hear("Really?")
    assert "Really?" not in played.text
    assert twin.context == alone.talk.context
    assert twin.take_segments() == alone.talk.take_segments()
    assert twin.drift == alone.talk.drift


def test_the_tiny_policy_appends() -> None:
    chat = load_chat("tiny", ChatOptions())
    assert chat.history == "append"
    talk = Conversation(chat, user("one"), [])
    assert talk.take_segments() == [Segment(list(talk.context))]


@pytest.mark.parametrize("history", ["append", "as-template", "window", "summarise"])
def test_every_sampled_token_is_in_exactly_one_branch(
    history: Any, make_tokenizer: MakeTokenizer
) -> None:
    options = {"window": {"window": 1}, "summarise": {"summarise_above": 60}}.get(history, {})
    played = Played(make_tokenizer, "qwen3", history=history, **options)
    said = []
    for number in range(6):
        while True:
            said.append(f"<think>\nhm\n</think>\n\nsay {number}")
            played.say(said[-1])
            if len(played.turns) == number + 1:
                break
        played.hear(f"see {number}")
    sampled = "".join(text for _, text in played.sequences())
    assert sampled == "".join(f"{text}<|im_end|>" for text in said)
