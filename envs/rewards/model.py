"""A learned reward model: a transformers folder with a sequence classifier of one output."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..quoting import as_utf8
from .base import Fixture, Reward, Sample, Score


class ModelReward(Reward):
    """The sigmoid of a reward model's output on prompt and action, 0 to 1.

    The folder is loaded once a process, from safetensors only, whatever the number of rewards that
    use it. Where its tokenizer has a chat template, the text is a user's and an assistant's
    message; otherwise prompt and action are given as a pair.

    Args:
        folder: A transformers folder of a sequence classifier with one label.
        device: "cpu", "cuda", ...
        batch_size: Most samples of one forward pass.
        max_tokens: What is longer loses its beginning, so that the end of the action is judged.
        name: Name of the part.

    Raises:
        ModelError: The folder holds no such model.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        device: str = "cpu",
        batch_size: int = 16,
        max_tokens: int = 2048,
        name: str = "model",
    ) -> None:
        self.name, self._folder, self._device = name, Path(folder).resolve(), device
        self._batch_size, self._max_tokens = batch_size, max_tokens
        load_classifier(self._folder, device)

    def score(self, sample: Sample) -> Score:
        """From 0 to 1."""
        return self.score_batch([sample])[0]

    def score_batch(self, samples: Sequence[Sample]) -> list[Score]:
        """`batch_size` samples a forward pass."""
        starts = range(0, len(samples), self._batch_size)
        batches = [self._forward(samples[i : i + self._batch_size]) for i in starts]
        return [score for batch in batches for score in batch]

    def fixtures(self) -> list[Fixture]:
        """What is good only the model knows; any text must stay within the range."""
        asked = "What is 2 + 2?"
        return [
            Fixture("full", Sample("2 + 2 is 4.", asked), 0.0, 1.0),
            Fixture("zero", Sample("Fish.", asked), 0.0, 1.0),
            Fixture("malformed", Sample("", asked), 0.0, 1.0),
        ]

    def _forward(self, samples: Sequence[Sample]) -> list[Score]:
        import torch

        tokenizer, model, lock = load_classifier(self._folder, self._device)
        # What is too long loses its beginning; a model cannot read nothing at all.
        rows = [
            encode(tokenizer, sample)[-self._max_tokens :] or [tokenizer.pad_token_id]
            for sample in samples
        ]
        length = max(len(row) for row in rows)
        pad = tokenizer.pad_token_id
        ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows])  # [B, T]
        real = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        with lock, torch.inference_mode():
            logits = model(ids.to(self._device), attention_mask=real.to(self._device)).logits
        return [float(score) for score in torch.sigmoid(logits[:, 0].float()).cpu()]


def encode(tokenizer: Any, sample: Sample) -> list[int]:
    """The tokens of prompt and action, neither of which can write a control token."""
    prompt, action = _defused(tokenizer, sample.prompt), _defused(tokenizer, sample.action)
    if tokenizer.chat_template:
        messages = [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": action},
        ]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        ids = tokenizer(prompt, action)["input_ids"]
    return list(ids)


def _defused(tokenizer: Any, text: str) -> str:
    """The text with a space in each control token, so that it is read as the letters that it is.

    A policy could otherwise end its message and write the next one itself. The letters stay: a
    model shall see, and may punish, what was tried.
    """
    text = as_utf8(text)
    controls = _control_tokens(tokenizer)
    # Tokens may overlap, and taking one out can leave another.
    while found := [token for token in controls if token in text]:
        for token in found:
            can_be_split = len(token) > 1 and token.split() == [token]
            text = text.replace(token, f"{token[0]} {token[1:]}" if can_be_split else "")
    return text


def _control_tokens(tokenizer: Any) -> list[str]:
    """Longest first. A folder may mark tokens as special without naming them in its lists."""
    marked = [added.content for added in tokenizer.added_tokens_decoder.values() if added.special]
    tokens = {token for token in (*tokenizer.all_special_tokens, *marked) if token.strip()}
    return sorted(tokens, key=len, reverse=True)


@lru_cache(maxsize=2)
def load_classifier(folder: Path, device: str) -> tuple[Any, Any, threading.Lock]:
    """Tokenizer, model and its lock, once a process.

    Raises:
        ModelError: The folder holds no sequence classifier with one label.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is no transformers folder: it has no config.json")
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ModuleNotFoundError as error:
        raise ModelError(
            "reward models need transformers: pip install 'turnhalle[train]'"
        ) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} holds no sequence classifier: {error}") from error
    if loading["missing_keys"]:
        # transformers would draw them at random and only warn.
        missing = ", ".join(sorted(loading["missing_keys"]))
        raise ModelError(f"{folder} holds no trained sequence classifier: it lacks {missing}")
    if model.config.num_labels != 1:
        raise ModelError(
            f"{folder} has {model.config.num_labels} outputs; a reward model has one (num_labels)"
        )
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{folder}: its tokenizer has no padding token; set one")
    model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, model.to(device).eval(), threading.Lock()
