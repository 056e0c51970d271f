"""Invented templates at their worst: exact, or refused with the reason."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest

from turnhalle.agents.chat import CHATML, Chat, ChatOptions, Conversation
from turnhalle.agents.chat import chat as chat_module
from turnhalle.envs.core import Message, ToolCall
from turnhalle.envs.errors import ModelError
from turnhalle.envs.tools.canonical import parse_action, render_call

from .play import TOOLS, Deployed, play

MakeTokenizer = Callable[..., Any]

LINE = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
CALL = (
    "{% if m.tool_calls %}<|im_start|>assistant\n{{ m.content or '' }}"
    "{% for c in m.tool_calls %}CALL{% endfor %}<|im_end|>\n{% else %}" + LINE + "{% endif %}"
)
HERMES = "<tool_call>\n{{ c.function | tojson }}\n</tool_call>"
TELLS = (
    "{% if tools %}<|im_start|>system\nTools:{% for t in tools %}{{ t | tojson }}\n{% endfor %}"
    "<|im_end|>\n{% endif %}"
)


def loop(body: str, before: str = "", opener: str = "<|im_start|>assistant\n") -> str:
    return (
        f"{before}{{% for m in messages %}}{body}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{opener}{{% endif %}}"
    )


def turns(content: str) -> str:
    return loop(LINE.replace("m['content']", content))


def answers(text: str) -> str:
    return loop("{% if m.role == 'assistant' %}" + text + "{% else %}" + LINE + "{% endif %}")


def calls(call: str = HERMES, tool: str = LINE, before: str = TELLS) -> str:
    said = CALL.replace("CALL", call)
    return loop("{% if m.role == 'tool' %}" + tool + "{% else %}" + said + "{% endif %}", before)


APPENDS = {
    "trims": turns("m.content | trim"),
    "trims answers": turns("m.content | trim if m.role == 'assistant' else m.content"),
    "merges the rules into the first question": loop(
        "{% if m.role != 'system' %}<|im_start|>{{ m.role }}\n{% if loop.index0 == 1 and "
        "messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endif %}"
    ),
    "raises on rules": loop(
        "{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}" + LINE
    ),
    "roles must alternate": loop(
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no') }}"
        "{% endif %}" + LINE
    ),
    "rules at the start only": loop(
        "{% if m.role == 'system' and loop.index0 %}{{ raise_exception('no') }}{% endif %}" + LINE
    ),
    "tells the date": loop(LINE, "<|im_start|>system\n{{ strftime_now('%d %b') }}<|im_end|>\n"),
    "ends the last turn otherwise": loop(
        "<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{{ '' if loop.last and not add_generation_prompt else '<|im_end|>\n' }}"
    ),
    "numbers its turns": loop(
        "<|im_start|>{{ m.role }} {{ loop.index0 }}\n{{ m.content }}<|im_end|>\n",
        opener="<|im_start|>assistant {{ messages | length }}\n",
    ),
    "has rules of its own": loop(
        LINE,
        "{% if messages[0].role != 'system' %}<|im_start|>system\nBe nice.<|im_end|>\n{% endif %}",
    ),
    "names thinking": answers(
        "<|im_start|>assistant\n{% if m.thinking %}[THINK]{{ m.thinking }}[/THINK]{% endif %}"
        "{{ m.content }}<|im_end|>\n"
    ),
    "says something before an answer": loop(
        "<|im_start|>{{ m.role }}\n{{ 'Answer: ' if m.role == 'assistant' }}{{ m.content }}"
        "<|im_end|>\n",
        opener="<|im_start|>assistant\nAnswer: ",
    ),
    "ends turns by role": loop(
        "<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{{ '<|done|>' if m.role == 'assistant' else '<|im_end|>\n' }}"
    ),
    "takes parts": loop(
        "<|im_start|>{{ m.role }}\n{% for p in m.content %}{{ p.text }}{% endfor %}<|im_end|>\n"
    ),
    "never opens a turn": f"{{% for m in messages %}}{LINE}{{% endfor %}}",
    "closes the conversation": loop(LINE)
    + "{% if not add_generation_prompt %}<|endoftext|>{% endif %}",
}
REWRITES = {
    "cuts what is long": turns("m.content[:80]"),
    "collapses lines": turns("m.content | replace('\n\n', '\n')"),
    "omits earlier results": loop(
        "{% if m.role == 'tool' and not loop.last %}<|im_start|>tool\n...<|im_end|>\n{% else %}"
        + LINE
        + "{% endif %}"
    ),
    "drops earlier results": loop("{% if m.role != 'tool' or loop.last %}" + LINE + "{% endif %}"),
    "shows the last thinking only": answers(
        "<|im_start|>assistant\n{% if m.reasoning_content and loop.last %}<think>\n"
        "{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n"
    ),
    "opens with <think>": loop(LINE, opener="<|im_start|>assistant\n<think>\n"),
}
CALLS = {
    "arguments first": calls(
        '<tool_call>{"arguments": {{ c.function.arguments | tojson }}, '
        '"name": "{{ c.function.name }}"}</tool_call>'
    ),
    "tags": calls(
        '<invoke name="{{ c.function.name }}">{% for k, v in c.function.arguments.items() %}'
        '<parameter name="{{ k }}">{{ v if v is string else v | tojson }}</parameter>'
        "{% endfor %}</invoke>"
    ),
    "a list of calls": loop(
        "{% if m.tool_calls %}<|im_start|>assistant\n<calls>[{% for c in m.tool_calls %}"
        "{{ c.function.name }}({% for k, v in c.function.arguments.items() %}{{ k }}="
        "{{ v | tojson }}{{ ', ' if not loop.last }}{% endfor %}){{ '; ' if not loop.last }}"
        "{% endfor %}]<|im_end|>\n{% else %}" + LINE + "{% endif %}",
        TELLS,
    ),
    "arguments as text": calls(
        '<tool_call>{"name": "{{ c.function.name }}", "arguments": '
        "{{ c.function.arguments }} }</tool_call>"
    ),
    "results of a user": calls(
        tool="<|im_start|>user\n<result>\n{{ m.content }}\n</result><|im_end|>\n"
    ),
    "results with ids": calls(
        tool="<|im_start|>tool {{ m.tool_call_id }}\n{{ m.content }}<|im_end|>\n"
    ),
    "results with names": calls(tool="<|im_start|>tool {{ m.name }}\n{{ m.content }}<|im_end|>\n"),
    "results counted from the first": calls(
        tool="<|im_start|>tool {{ 'first' if not messages[:loop.index0] | selectattr('role', "
        "'equalto', 'tool') | list else 'later' }}\n{{ m.content }}<|im_end|>\n"
    ),
    "results in one turn": calls(
        tool="{% if not loop.previtem or loop.previtem.role != 'tool' %}<|im_start|>user\n"
        "{% endif %}<result>{{ m.content }}</result>"
        "{% if loop.last or loop.nextitem.role != 'tool' %}<|im_end|>\n{% endif %}"
    ),
}
FORGETS_CALLS = loop(
    "{% if m.tool_calls and messages[loop.index0 + 1:] | selectattr('role', 'equalto', 'user') | "
    "list %}<|im_start|>assistant\n(called)<|im_end|>\n{% else %}"
    + CALL.replace("CALL", HERMES)
    + "{% endif %}",
    TELLS,
)
REFUSED = {
    "draws lots": (
        loop(LINE, "{{ ['a', 'b'] | random }}\n"),
        "writes the same conversation in different ways",
    ),
    "shouts": (turns("m.content | upper"), "drops the user's messages"),
    "hides users": (
        loop("{% if m.role != 'user' %}" + LINE + "{% endif %}"),
        "drops the user's messages",
    ),
    "shows one message": (
        "{% for m in messages[-1:] %}" + LINE + "{% endfor %}",
        "drops the assistant's messages",
    ),
    "takes no answers": (
        "{% if messages[-1].role == 'assistant' %}{{ raise_exception('ask!') }}{% endif %}"
        + CHATML,
        "cannot render a conversation of user, assistant: ask!",
    ),
}


@pytest.mark.parametrize("name", APPENDS)
@pytest.mark.parametrize("history", [None, "as-template"])
def test_templates_that_keep_what_is_said_are_appended_to(
    name: str, history: Any, make_tokenizer: MakeTokenizer
) -> None:
    chat = Chat(make_tokenizer("hostile", APPENDS[name]), ChatOptions(history=history))
    assert chat.history == (history or "append")
    for seed in range(6):
        play(chat, random.Random(seed), [], thinks=False)


@pytest.mark.parametrize("name", REWRITES)
def test_templates_that_rewrite_what_is_said_are_followed(
    name: str, make_tokenizer: MakeTokenizer
) -> None:
    chat = Chat(make_tokenizer("hostile", REWRITES[name]), ChatOptions())
    assert chat.history == "as-template"
    for seed in range(6):
        play(chat, random.Random(seed), [], thinks=seed % 2 == 0)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("history", [None, "as-template"])
def test_calls_are_read_and_results_written_in_the_template_s_way(
    name: str, history: Any, make_tokenizer: MakeTokenizer
) -> None:
    chat = Chat(make_tokenizer("hostile", CALLS[name]), ChatOptions(history=history))
    assert (chat._calls is not None, chat.history) == (True, history or "append")
    for seed in range(8):
        play(chat, random.Random(seed), TOOLS, thinks=False)


def test_calls_that_are_forgotten_later_are_followed(make_tokenizer: MakeTokenizer) -> None:
    chat = Chat(make_tokenizer("hostile", FORGETS_CALLS), ChatOptions())
    assert chat.history == "as-template"
    assert sum(play(chat, random.Random(seed), TOOLS, thinks=False) for seed in range(8)) > 0


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exact_is_refused_with_the_reason(
    name: str, make_tokenizer: MakeTokenizer
) -> None:
    template, reason = REFUSED[name]
    with pytest.raises(ModelError, match=reason):
        Chat(make_tokenizer("hostile", template), ChatOptions())


def test_a_turn_that_is_written_twice_cannot_be_appended_to(make_tokenizer: MakeTokenizer) -> None:
    twice = loop("<|im_start|>{{ m.role }}\n{{ m.content }}{{ m.content }}<|im_end|>\n")
    assert Chat(make_tokenizer("hostile", twice), ChatOptions()).history == "as-template"
    with pytest.raises(ModelError, match="writes a turn 2 times where 1 were said"):
        Chat(make_tokenizer("hostile", twice), ChatOptions(history="append"))


@pytest.mark.parametrize("history", [None, "as-template"])
@pytest.mark.parametrize(
    "name",
    [
        "qwen2_5",
        "qwen3",
        "qwen3_6",
        "llama3_1",
        "mistral",
        "glm4moe",
        "lfm2_2_5",
        "lfm2_v2",
        *CALLS,
    ],
)
def test_several_calls_in_a_turn_get_their_results(
    name: str, history: Any, make_tokenizer: MakeTokenizer
) -> None:
    chat = Chat(make_tokenizer(name, CALLS.get(name)), ChatOptions(history=history))
    two = [
        ToolCall(name=tool.name, arguments={"item": "fig", "count": i})
        for i, tool in enumerate(TOOLS)
    ]
    action = "\n".join(render_call(call.name, **call.arguments) for call in two)
    asked = Message(role="user", content="?")
    found = [Message(role="tool", name=call.name, content=f"{call.name} 7") for call in two]
    assert chat._calls is not None
    assert chat._calls.takes_many == (name != "llama3_1")
    if name == "llama3_1":
        with pytest.raises(ModelError, match="takes one tool call a turn, got 2"):
            chat.write(action, TOOLS)
    server = Deployed(chat, TOOLS)
    server.hear("user", "?")
    talk = Conversation(chat, [asked], TOOLS)
    for number in range(3):
        said = "seven" if number == 1 else action
        if not chat._calls.takes_many and said == action:
            said = action.split("\n")[0]
        ids = chat.write(said, TOOLS)
        assert (
            parse_action(str(talk.add(ids, [-0.5] * len(ids), 1))).items == parse_action(said).items
        )
        seen, sampled = talk.take_segments()
        assert (seen.is_sampled, sampled.is_sampled, sampled.token_ids) == (False, True, ids)
        calls_made = parse_action(said).calls
        server.take(said if not calls_made else "", calls_made)
        answers_ = found[: len(calls_made)] or [asked]
        for message in answers_:
            server.hear(message.role, message.content, message.name)
        talk.observe(answers_)
        # In Mistral's format the ids of calls are the model's own, and stay as it sampled them.
        if chat.history == "as-template" or (chat._tooled.is_stable and name != "mistral"):
            assert talk.context == server.fed()


def test_rules_that_come_late_are_a_user_s_where_the_template_takes_none(
    make_tokenizer: MakeTokenizer,
) -> None:
    for name, role in (("rules at the start only", "user"), ("trims answers", "system")):
        for history in ("append", "as-template"):
            options = ChatOptions(history=history)  # type: ignore[arg-type]
            chat = Chat(make_tokenizer("hostile", APPENDS[name]), options)
            rules = Message(role="system", content="Be brief.")
            talk = Conversation(chat, [rules, Message(role="user", content="?")], [])
            ids = chat.write("yes", [])
            talk.add(ids, [-0.5] * len(ids), 0)
            talk.observe([Message(role="system", content="Be long.")])
            text = chat.template.decode(talk.context)
            assert text.endswith(f"{role}\nBe long.<|im_end|>\n<|im_start|>assistant\n")
            assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n")


def test_random_tokens_survive_every_template(deployed: str, make_tokenizer: MakeTokenizer) -> None:
    """Sampled ids are fed and trained as they are, special tokens in them or not."""
    chat, rng = _chat(make_tokenizer, deployed), random.Random(deployed)
    for number in range(60):
        talk = Conversation(chat, [Message(role="user", content="?")], [])
        for _ in range(2):
            before, marks = list(talk.context), talk.take_segments()
            assert not any(segment.is_sampled for segment in marks)
            ids = [rng.randrange(len(chat.tokenizer)) for _ in range(rng.randint(1, 24))]
            talk.add(ids, [-1.0] * len(ids), number)
            (sampled,) = talk.take_segments()
            assert (sampled.token_ids, sampled.is_sampled) == (ids, True)
            talk.observe([Message(role="user", content=rng.choice(["go on", "<b>", "é"]))])
            assert talk.context[: len(before) + len(ids)] == before + ids


@lru_cache
def _chat(make_tokenizer: MakeTokenizer, name: str) -> Chat:
    return Chat(make_tokenizer(name), ChatOptions(history="append"))


def test_tokens_of_long_answers_are_not_kept(make_tokenizer: MakeTokenizer) -> None:
    chat = Chat(make_tokenizer("chatml"), ChatOptions())
    sampled = chat.write("yes", [])
    for number in range(50):
        long = f"{number} " * chat_module._SHORT
        chat.continuation(sampled, [Message(role="user", content=long)])
    assert chat._tail.cache_info().currsize == 0
    chat.continuation(sampled, [Message(role="user", content="short")])
    assert chat._tail.cache_info().currsize == 1
