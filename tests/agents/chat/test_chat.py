"""Chat templates in tokens: what was sampled is fed, and what cannot be exact is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import turnhalle as th
from turnhalle.agents.chat import CHATML, Chat, ChatOptions
from turnhalle.envs.core import Message
from turnhalle.envs.errors import ConfigError, ModelError, UnknownNameError

USER = Message(role="user", content="What is 2 + 2?")
SYSTEM = Message(role="system", content="Be brief.")
TOOL = Message(role="tool", name="price", content="17")
TOOLS = th.make("tools").tools()

STRIPS_THINKING = CHATML.replace(
    "{{ message['content'] }}", "{{ message['content'].split('</think>')[-1] }}"
)
STRIPS_BEFORE_USERS = (  # like Qwen3: thinking is kept as long as only tools answer
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    + CHATML.replace(
        "{{ message['content'] }}",
        "{{ message['content'] if loop.index0 > ns.last else "
        "message['content'].split('</think>')[-1] }}",
    )
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML
)
ALTERNATES = (
    "{% for m in messages %}{% if m['role'] not in ('user', 'assistant') or "
    "(loop.index0 > 0 and m['role'] == messages[loop.index0 - 1]['role']) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + CHATML
)
DATED = "{{ messages|length }} messages\n" + CHATML
PLAIN = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
TELLS_TOOLS = (
    "{% if tools %}<|im_start|>system\nUse <tool_call>.{% for t in tools %} "
    "{{ t['function']['name'] }}{% endfor %}<|im_end|>\n{% endif %}" + CHATML
)


def chat(make_model: Any, template: str = CHATML, **options: Any) -> Chat:
    tokenizer = AutoTokenizer.from_pretrained(make_model())
    tokenizer.chat_template = template
    return Chat(tokenizer, ChatOptions(**options))


def turn_end(chat: Chat) -> int:
    return int(chat.tokenizer.convert_tokens_to_ids("<|im_end|>"))


def text(chat: Chat, ids: list[int]) -> str:
    return str(chat.tokenizer.decode(ids))


def test_the_prompt_is_the_rendered_template(make_model: Any) -> None:
    talk = chat(make_model)
    assert text(talk, talk.prompt([SYSTEM, USER], [])) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("template", [CHATML, NO_SYSTEM, ALTERNATES])
def test_a_conversation_in_pieces_is_the_conversation_as_a_whole(
    make_model: Any, template: str
) -> None:
    talk = chat(make_model, template)
    answers = ["Four.", "Yes, <b>four</b>.", " spaces "]
    ids = talk.prompt([USER], [])
    history = [{"role": "user", "content": USER.content}]
    for answer in answers:
        sampled = [*talk.template.encode(answer), turn_end(talk)]
        ids += sampled
        ids += talk.continuation(sampled, [Message(role="user", content="Sure?")])
        history += [{"role": "assistant", "content": answer}, {"role": "user", "content": "Sure?"}]
    whole = talk.tokenizer.apply_chat_template(
        history, add_generation_prompt=True, return_dict=False
    )
    assert ids == whole


def test_sampled_tokens_are_never_tokenised_again(make_model: Any) -> None:
    """1,000 random token sequences, most of them no valid text, survive unchanged."""
    talk = chat(make_model)
    rng = random.Random(0)
    tail = talk.continuation([turn_end(talk)], [USER])
    for _ in range(1000):
        sampled = [rng.randrange(3, 250) for _ in range(rng.randrange(1, 12))]
        assert talk.continuation([*sampled, turn_end(talk)], [USER]) == tail
        assert talk.continuation(sampled, [USER]) == [turn_end(talk), *tail]
        talk.read(sampled, [])


def test_the_action_is_read_without_stop_token_and_thinking(make_model: Any) -> None:
    talk = chat(make_model)
    ids = talk.template.encode("<think>hm <tool_call></think>\n\n4")
    assert talk.read([*ids, turn_end(talk)], []) == "4"
    assert talk.read(talk.template.encode("<think>never ends"), []) == ""


def test_compact_tool_calls_are_translated_both_ways(make_model: Any) -> None:
    talk = chat(make_model, tool_format="compact")
    action = talk.read(talk.template.encode("price fig"), TOOLS)
    assert action == '<tool_call>{"name": "price", "arguments": {"item": "fig"}}</tool_call>'
    assert talk.write(action, TOOLS) == [*talk.template.encode("price fig"), turn_end(talk)]


def test_tools_are_told_by_the_template_if_it_can_and_by_the_rules_if_not(make_model: Any) -> None:
    by_template = chat(make_model, TELLS_TOOLS)
    prompt = text(by_template, by_template.prompt([SYSTEM, USER], TOOLS))
    assert prompt.startswith("<|im_start|>system\nUse <tool_call>. order price")
    assert "You may call these tools" not in prompt
    by_rules = chat(make_model)
    prompt = text(by_rules, by_rules.prompt([SYSTEM, USER], TOOLS))
    assert "Be brief.\n\nYou may call these tools:" in prompt
    assert '"restock"' in prompt


def test_the_rules_can_be_replaced_or_left_out(make_model: Any) -> None:
    replaced = chat(make_model, system_prompt="Be long.")
    prompt = text(replaced, replaced.prompt([SYSTEM, USER], []))
    assert "Be long." in prompt
    assert "Be brief." not in prompt
    left_out = chat(make_model, system_prompt="")
    assert "system" not in text(left_out, left_out.prompt([SYSTEM, USER], TOOLS))


def test_roles_that_a_template_refuses_become_user_messages(make_model: Any) -> None:
    talk = chat(make_model, ALTERNATES)
    prompt = text(talk, talk.prompt([SYSTEM, USER], []))
    assert "<|im_start|>user\nBe brief.\nWhat is 2 + 2?<|im_end|>" in prompt
    tail = text(talk, talk.continuation([], [TOOL, TOOL]))
    assert "<|im_start|>user\n17\n17<|im_end|>" in tail
    knows_tools = chat(make_model)
    assert "<|im_start|>tool\n17<|im_end|>" in text(
        knows_tools, knows_tools.continuation([], [TOOL])
    )


@pytest.mark.parametrize("template", [STRIPS_THINKING, STRIPS_BEFORE_USERS])
def test_templates_that_strip_thinking_are_followed_unless_told_otherwise(
    make_model: Any, template: str
) -> None:
    assert chat(make_model, template).history == "as-template"
    appends = chat(make_model, template, history="append")
    ids = appends.template.encode("<think>\nhm\n</think>\n\n4")
    assert appends.continuation([*ids, turn_end(appends)], [USER])


def test_templates_that_rewrite_more_than_turns_cannot_append(make_model: Any) -> None:
    assert chat(make_model, DATED).history == "as-template"
    with pytest.raises(ModelError, match="not prefix-stable") as caught:
        chat(make_model, DATED, history="append")
    assert "chatml" in str(caught.value)
    with pytest.raises(ModelError, match="not prefix-stable"):
        chat(make_model, DATED).continuation([], [USER])


def test_a_template_that_cannot_render_is_refused(make_model: Any) -> None:
    with pytest.raises(ModelError, match="cannot render a conversation of user"):
        chat(make_model, "{{ messages[0]['content'].text.nothing }}")


def test_a_template_without_an_end_token_is_refused(make_model: Any) -> None:
    with pytest.raises(ModelError, match="ends a turn with plain text"):
        chat(make_model, PLAIN)


def test_a_tokenizer_without_template_gets_a_plain_one(make_model: Any, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(make_model(template=None))
    talk = Chat(tokenizer, ChatOptions(), "my/model")
    assert text(talk, talk.prompt([USER], [])) == "User: What is 2 + 2?\nAssistant:"
    talk = Chat(tokenizer, ChatOptions(chat_template="chatml"))
    assert text(talk, talk.prompt([USER], [])).startswith("<|im_start|>user\nWhat")
    own = tmp_path / "own.jinja"
    own.write_text(CHATML.replace("\n", " "), encoding="utf-8")
    talk = Chat(tokenizer, ChatOptions(chat_template=str(own)))
    assert text(talk, talk.prompt([USER], [])).startswith("<|im_start|>user What")


def test_bad_options_are_refused(make_model: Any) -> None:
    with pytest.raises(ConfigError, match=r"no file 'nowhere.jinja'"):
        chat(make_model, chat_template="nowhere.jinja")
    with pytest.raises(UnknownNameError, match="did you mean 'compact'"):
        chat(make_model, tool_format="compct")
    with pytest.raises(ConfigError, match=r"chat\.window=\.\.\."):
        chat(make_model, history="window")
    with pytest.raises(ConfigError, match=r'chat.window is for chat.history="window"'):
        chat(make_model, history="append", window=3)
    with pytest.raises(ModelError, match="unknown sytem_prompt"):
        ChatOptions().over({"sytem_prompt": ""})


def test_given_options_win_over_the_model_s_own() -> None:
    settings = {"system_prompt": "", "tool_format": "compact"}
    merged = ChatOptions(tool_format="hermes").over(settings)
    assert merged == ChatOptions(system_prompt="", tool_format="hermes")


def test_another_history_than_the_model_s_own_leaves_its_numbers_behind() -> None:
    settings = {"history": "window", "window": 3}
    assert ChatOptions().over(settings).window == 3
    ChatOptions(history="append").over(settings).check()
