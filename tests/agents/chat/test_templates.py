"""Real templates: the ids that are fed are those that a server of the model would feed.

The oracle is the template itself: a turn "as sampled" is what the template writes for it as the
last message, and the expected context is the tokenizer's own `apply_chat_template`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnhalle.agents.chat import CHATML, PLAIN, Chat, ChatOptions, Conversation
from turnhalle.envs.core import Message
from turnhalle.envs.errors import ModelError
from turnhalle.envs.tools.canonical import render_call
from turnhalle.training.demos import Demonstration, Exchange, to_example

from .play import TOOLS, play

MakeTokenizer = Callable[..., Any]

NO_THINKING = {"enable_thinking": False}

COUNTS = "{{ messages|length }} messages\n" + CHATML
MOVES_TOOLS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if tools and loop.last %}{% for t in tools %}<tool_call>{{ t.function.name }}"
    "{% endfor %}{% endif %}{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

APPENDS = [
    "chatml", "smollm", "plain", "mistral", "qwen2_5", "qwen3_instruct_2507", "llama3", "llama3_1",
    "llama3_2", "gemma", "gemma3", "phi3", "phi3_5", "cohere", "cohere2", "smolvlm", "muse_glimmer",
]  # fmt: skip
REWRITES = ["qwen3", "qwen3_5_think", "deepseek_r1_distill", "deepseekv3", "gptoss", "glm4moe"]
CALLS = [
    "qwen2_5", "qwen3", "qwen3_instruct_2507", "qwen3_5_think", "qwen3_6", "llama3_1", "llama3_2",
    "gptoss", "mistral", "glm4moe", "lfm2_2_5", "gemma4_v5", "nemotron_3_nano",
]  # fmt: skip


def test_what_is_fed_is_what_the_deployed_template_would_feed(
    deployed: str, make_tokenizer: MakeTokenizer
) -> None:
    chat = Chat(make_tokenizer(deployed), ChatOptions(history="as-template"))
    for seed in range(6):
        play(chat, random.Random(seed), [], thinks=seed % 2 == 0)


@pytest.mark.parametrize("name", APPENDS)
def test_stable_templates_only_ever_append(name: str, make_tokenizer: MakeTokenizer) -> None:
    chat = Chat(make_tokenizer(name), ChatOptions())
    assert chat.history == "append"
    for seed in range(6):
        assert play(chat, random.Random(seed), [], thinks=False) == 0


@pytest.mark.parametrize("name", REWRITES)
def test_templates_that_strip_thinking_make_branches(
    name: str, make_tokenizer: MakeTokenizer
) -> None:
    chat = Chat(make_tokenizer(name), ChatOptions())
    assert chat.history == "as-template"
    assert sum(play(chat, random.Random(seed), [], thinks=True) for seed in range(6)) > 5


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("thinks", [False, True])
def test_calls_and_results_go_through_the_template_s_own_format(
    name: str, thinks: bool, make_tokenizer: MakeTokenizer
) -> None:
    chat = Chat(make_tokenizer(name), ChatOptions(history="as-template"))
    assert chat._calls is not None
    if thinks and chat._tooled.thinking.field is None:
        thinks = False
    for seed in range(8):
        play(chat, random.Random(seed), TOOLS, thinks=thinks)


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think"])
def test_thinking_can_be_switched_off(name: str, make_tokenizer: MakeTokenizer) -> None:
    options = ChatOptions(template_options=NO_THINKING)
    chat = Chat(make_tokenizer(name), options)
    assert chat.template.decode(chat.prompt([Message(role="user", content="?")], [])).endswith(
        "<think>\n\n</think>\n\n"
    )
    for seed in range(4):
        assert play(chat, random.Random(seed), [], thinks=False, **NO_THINKING) > 0


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "llama3_1", "gptoss", "mistral", "smollm"])
def test_tokenizers_with_merges_are_no_different(name: str, make_tokenizer: MakeTokenizer) -> None:
    """Pieces around a turn are encoded alone: nothing may merge across a special token."""
    chat = Chat(make_tokenizer(name, merged="qwen"), ChatOptions())
    assert len(chat.template.encode("What is it? Be brief.")) < 15
    for seed in range(6):
        play(chat, random.Random(seed), TOOLS if name in CALLS else [], thinks=False)


def test_the_end_of_a_turn_is_found(make_tokenizer: MakeTokenizer) -> None:
    ends = {
        "qwen3": {"<|im_end|>"},
        "llama3_1": {"<|eot_id|>", "<eos>"},
        "gemma": {"<end_of_turn>", "<eos>"},
        "phi3": {"<|end|>", "<eos>"},
        "gptoss": {"<|return|>", "<|call|>"},
        "deepseek_r1_distill": {"<｜end▁of▁sentence｜>"},
        "mistral": {"</s>"},
        "smolvlm": {"<end_of_utterance>", "<eos>"},
        "plain": {"<eos>"},
    }
    for name, tokens in ends.items():
        chat = Chat(make_tokenizer(name), ChatOptions())
        assert set(chat.tokenizer.convert_ids_to_tokens(list(chat.stop_ids))) == tokens, name


def test_what_real_harmony_models_write_is_read(make_tokenizer: MakeTokenizer) -> None:
    """They put the recipient after the channel, the template before it."""
    chat = Chat(make_tokenizer("gptoss"), ChatOptions())
    text = (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary "
        'to=functions.price <|constrain|>json<|message|>{"item": "fig"}<|call|>'
    )
    ids = chat.template.encode(text)
    assert render_call("price", item="fig") in chat.read(ids, TOOLS)
    assert "hm" not in chat.read(ids, TOOLS)


def test_hostile_templates_are_refused_where_they_cannot_be_exact(
    make_tokenizer: MakeTokenizer,
) -> None:
    for template in (COUNTS, MOVES_TOOLS):
        exact = Chat(make_tokenizer("hostile", template), ChatOptions())
        assert exact.history == "as-template"
        tools = TOOLS if template is MOVES_TOOLS else []
        talk = Conversation(exact, [Message(role="user", content="?")], tools)
        end = exact.tokenizer.convert_tokens_to_ids("<|im_end|>")
        talk.add([*exact.template.encode("yes"), end], [0.0] * 4, 0)
        talk.observe([Message(role="user", content="sure?")])
        assert talk.drift["branches"] == 1
        if template is COUNTS:
            assert exact.template.decode(talk.context).startswith("3 messages")
    with pytest.raises(ModelError, match=r"not prefix-stable.*'3 messages.*'1 messages") as caught:
        Chat(make_tokenizer("hostile", COUNTS), ChatOptions(history="append"))
    assert "as-template" in str(caught.value)
    moves = Chat(make_tokenizer("hostile", MOVES_TOOLS), ChatOptions(history="append"))
    moves.prompt([Message(role="user", content="?")], [])
    with pytest.raises(ModelError, match="not prefix-stable"):
        moves.prompt([Message(role="user", content="?")], TOOLS)


@settings(max_examples=1000, deadline=None, database=None, derandomize=True)
@given(data=st.binary(min_size=1, max_size=24), special=st.booleans())
def test_sampled_ids_survive_whatever_they_are(
    data: bytes, special: bool, make_tokenizer: MakeTokenizer
) -> None:
    """1,000 random byte sequences, most of them no text, a third of them with special tokens."""
    for name, history in (("chatml", "append"), ("plain", "window"), ("chatml", "as-template")):
        chat = _byte_chat(make_tokenizer, name, history)
        base = len(chat.tokenizer) - 256
        ids = [base + byte for byte in data]
        if special:
            ids[len(ids) // 2] = data[0] % base
        talk = Conversation(chat, [Message(role="user", content="?")], [])
        prompt = list(talk.context)
        talk.add(ids, [-1.0] * len(ids), 0)
        assert talk.context == prompt + ids
        segments = talk.take_segments()
        talk.observe([Message(role="user", content="go on")])
        if history != "as-template":
            assert talk.context[: len(prompt) + len(ids)] == prompt + ids
        assert [(s.token_ids, s.is_sampled) for s in segments] == [(prompt, False), (ids, True)]


@lru_cache
def _byte_chat(make_tokenizer: MakeTokenizer, name: str, history: Any) -> Chat:
    window = 1 if history == "window" else None
    return Chat(make_tokenizer(name), ChatOptions(history=history, window=window))


def test_base_models_get_a_plain_template(make_tokenizer: MakeTokenizer) -> None:
    bare = make_tokenizer("bare", PLAIN)
    bare.chat_template = None
    chat = Chat(bare, ChatOptions())
    prompt = chat.prompt([Message(role="user", content="What is 2 + 2?")], [])
    assert chat.template.decode(prompt) == "<bos>User: What is 2 + 2?\nAssistant:"
    assert chat.template.decode(chat.write("4", [])) == " 4<eos>"


def test_a_demonstration_is_written_as_a_rollout_writes_it(
    deployed: str, make_tokenizer: MakeTokenizer
) -> None:
    chat = Chat(make_tokenizer(deployed), ChatOptions(history="append"))
    asked = Message(role="user", content="?")
    found = Message(role="tool", name="price", content="7")
    exchanges = [
        Exchange(render_call("price", item="fig"), [found], False),
        Exchange("seven", [asked], False),
        Exchange("yes", [], False),
    ]
    demonstration = Demonstration([asked], TOOLS, exchanges, True)
    talk = Conversation(chat, [asked], TOOLS)
    for exchange in exchanges:
        written = chat.write(exchange.action, TOOLS)
        talk.add(written, [-0.5] * len(written), 1)
        if exchange.answer:
            talk.observe(exchange.answer)
    assert to_example(demonstration, chat, imitate_mistakes=False).token_ids == talk.context
