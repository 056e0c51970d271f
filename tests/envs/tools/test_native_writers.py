"""Tool calls as the models' own writers write them are what we read.

The writers are the chat templates of Llama 3 and Qwen that TRL carries, and Mistral's own
tokenizers (`mistral-common`); the tests run where these are installed: `pip install --no-deps
"trl==1.16.*" mistral-common sentencepiece tiktoken`.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from turnhalle.envs.core import ToolSpec
from turnhalle.envs.tools.formats import from_canonical, parse_action, render_call, to_canonical

PRICE = ToolSpec(
    name="price",
    description="What an item costs.",
    parameters={
        "type": "object",
        "properties": {"item": {"type": "string"}, "count": {"type": "integer"}},
    },
)
HARD = {"item": 'a <b> "q" é ☃ ; } { </tool_call> \\', "count": 3}
ENDS = ("<|eot_id|>", "<|eom_id|>", "<|im_end|>")


def templates() -> Path:
    """The folder of chat templates in TRL; the package itself is never imported."""
    spec = importlib.util.find_spec("trl")
    if spec is None or spec.origin is None:
        pytest.skip("TRL is not installed")
    return Path(spec.origin).with_name("chat_templates")


def written(name: str, arguments: dict[str, Any], **given: Any) -> str:
    """What the template writes for an assistant message with one call."""
    from transformers.utils.chat_template_utils import render_jinja_template

    call = {"type": "function", "function": {"name": "price", "arguments": arguments}}
    asked = [{"role": "system", "content": "Serve."}, {"role": "user", "content": "A fig?"}]
    answered = [*asked, {"role": "assistant", "content": "", "tool_calls": [call]}]
    texts = [
        render_jinja_template(
            [messages],
            tools=[PRICE.as_openai()],
            chat_template=(templates() / f"{name}.jinja").read_text("utf-8"),
            add_generation_prompt=is_open,
            bos_token="<s>",
            **given,
        )[0][0]
        for messages, is_open in ((asked, True), (answered, False))
    ]
    assert texts[1].startswith(texts[0])
    said = texts[1].removeprefix(texts[0]).rstrip()
    return said.removesuffix(next(end for end in ENDS if said.endswith(end)))


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("llama3_1", "llama3"),
        ("llama3_2", "llama3"),
        ("qwen2_5", "hermes"),
        ("qwen3", "hermes"),
        ("qwen3_instruct_2507", "hermes"),
    ],
)
@pytest.mark.parametrize("arguments", [{"item": "fig"}, HARD, {}])
def test_what_a_template_writes_is_read_back(
    name: str, format: str, arguments: dict[str, Any]
) -> None:
    said = written(name, arguments)
    [call] = parse_action(to_canonical(said, format, [PRICE])).calls
    assert (call.name, call.arguments) == ("price", arguments)


@pytest.mark.parametrize("name", ["llama3_1", "llama3_2"])
def test_what_we_write_is_what_llamas_template_writes(name: str) -> None:
    ours = from_canonical(render_call("price", **HARD), "llama3", [PRICE])
    assert ours == written(name, HARD)


@pytest.mark.parametrize("arguments", [{"item": "fig"}, {"item": 'a, b="c")', "note": "two words"}])
def test_llamas_calls_of_builtin_tools_are_read(arguments: dict[str, str]) -> None:
    said = written("llama3_1", arguments, builtin_tools=["price"])
    assert said.startswith("<|python_tag|>price.call(")
    [call] = parse_action(to_canonical(said, "llama3", [PRICE])).calls
    assert (call.name, call.arguments) == ("price", arguments)


MISTRAL = (
    "mistral_instruct_tokenizer_240323.model.v3",
    "mistral_instruct_tokenizer_241114.model.v7",
    "tekken_240718.json",
    "tekken_240911.json",
)


@pytest.mark.parametrize("file", MISTRAL)
def test_what_mistrals_tokenizer_writes_is_read_back(file: str) -> None:
    pytest.importorskip("mistral_common")
    from mistral_common.protocol.instruct.messages import (
        AssistantMessage,
        ToolMessage,
        UserMessage,
    )
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.tool_calls import Function, FunctionCall, Tool, ToolCall
    from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    spec = importlib.util.find_spec("mistral_common")
    assert spec is not None
    assert spec.origin is not None
    tokenizer = MistralTokenizer.from_file(Path(spec.origin).with_name("data") / file)
    calls = [
        ToolCall(
            id=f"abcdefgh{i}", function=FunctionCall(name="price", arguments=json.dumps(arguments))
        )
        for i, arguments in enumerate([HARD, {"item": "fig"}])
    ]
    answers = [ToolMessage(content="3", tool_call_id=c.id, name="price") for c in calls]
    asked: Any = [UserMessage(content="?"), AssistantMessage(content=None, tool_calls=calls)]
    tool = Tool(function=Function(name="price", description="", parameters=PRICE.parameters))
    request = ChatCompletionRequest(messages=[*asked, *answers], tools=[tool])
    tokens = tokenizer.encode_chat_completion(request).tokens
    text = tokenizer.decode(tokens, special_token_policy=SpecialTokenPolicy.KEEP)
    said = text[text.index("[TOOL_CALLS]") :].partition("</s>")[0]
    said = said.replace("▁", " ")  # how sentencepiece writes a space
    found = parse_action(to_canonical(said, "mistral", [PRICE])).calls
    assert [call.arguments for call in found] == [HARD, {"item": "fig"}]
