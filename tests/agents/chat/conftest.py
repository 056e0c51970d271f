"""Chat templates to test with: those in TRL's wheel, and some of our own making.

TRL 1.16 is read from its installed package (`pip install --no-deps trl==1.16.0`); nothing of it is
imported or kept. Ours behave like templates that it does not carry.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from turnhalle.agents.chat import CHATML, PLAIN

MISTRAL = """{{ bos_token }}{% if messages[0].role == 'system' %}
{%- set loop_messages = messages[1:] %}{% set rules = messages[0].content + '\\n\\n' %}
{%- else %}{% set loop_messages = messages %}{% set rules = '' %}{% endif %}
{%- for message in loop_messages %}
{%- if message.role == 'user' %}
{%- if tools and loop.first %}{{ '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}
{%- endif %}{{ '[INST]' + (rules if loop.first else '') + message.content + '[/INST]' }}
{%- elif message.tool_calls %}{{ '[TOOL_CALLS][' }}
{%- for call in message.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception('nine letters') }}{% endif %}
{{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' + (']' if loop.last else ', ') }}
{%- endfor %}{{ eos_token }}
{%- elif message.role == 'assistant' %}{{ message.content + eos_token }}
{%- elif message.role == 'tool' %}
{{- '[TOOL_RESULTS]' + message.content + '[/TOOL_RESULTS]' }}
{%- else %}{{ raise_exception('no such role') }}{% endif %}{% endfor %}"""
"""Roles and call ids are insisted on, no header stands before a turn, the end is `</s>`."""

SMOLLM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n' }}{% endif %}" + CHATML
)
"""A rule of its own where there is none."""

OWN = {"mistral": MISTRAL, "smollm": SMOLLM, "chatml": CHATML, "plain": PLAIN}

_FOUND = importlib.util.find_spec("trl")
FOLDER = Path(_FOUND.origin).parent / "chat_templates" if _FOUND and _FOUND.origin else None
TRL = (
    {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.jinja"))}
    if (FOLDER)
    else {}
)

_SPECIAL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>]{1,40}｜>|<(?:start|end)_of_(?:turn|utterance)>"
    r"|<\|?(?:turn|tool|tool_call|tool_response|channel)\|?>|</?(?:s|tool_call|arg_key)>|\[/?(?:INST|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\]"
)
_EOS = {"gptoss": "<|return|>", "deepseek": "<｜end▁of▁sentence｜>", "mistral": "</s>"}


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., Any]:
    """Make a byte-level tokenizer with the special tokens of a template, given by name or text.

    `merged` gives it merges, over words as GPT-2 or as Qwen splits them.
    """
    return _tokenizer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`deployed`: every template that people deploy, those that TRL made for training left out."""
    if "deployed" in metafunc.fixturenames:
        names = [name for name in TRL if not name.endswith("_training")]
        metafunc.parametrize("deployed", [*OWN, *names])


_CORPUS = [
    "What is it? Be brief. Yes, seven pears and a fig.",
    "the tool of the user\n\n",
    "system",
]


_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How the tokenizers of Qwen and Llama 3 split a text: line ends stay together."""


def _tokenizer(name: str, template: str | None = None, *, merged: str | None = None) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if template is None and name not in TRL | OWN:
        pytest.skip("needs TRL's templates: pip install --no-deps trl==1.16.0")
    text = template if template is not None else (TRL | OWN)[name]
    ends = [end for key, end in _EOS.items() if name.startswith(key)]
    eos = ends[0] if ends else "<|im_end|>" if "<|im_end|>" in text else "<eos>"
    special = sorted({*_SPECIAL.findall(text), eos, "<bos>"})
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    if merged is not None:
        from tokenizers import Regex
        from tokenizers.trainers import BpeTrainer

        if merged == "qwen":
            splits = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
            as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            core.pre_tokenizer = pre_tokenizers.Sequence([splits, as_bytes])
        core.train_from_iterator(
            _CORPUS * 9,
            BpeTrainer(
                vocab_size=len(vocabulary) + 80,
                special_tokens=special,
                initial_alphabet=alphabet,
                show_progress=False,
            ),
        )
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, bos_token="<bos>")
    made.chat_template = text
    return made
