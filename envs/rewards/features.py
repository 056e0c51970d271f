"""Texts as vectors of length one: TF-IDF, or the embeddings of a transformers folder."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ModelError
from ..quoting import as_utf8

Matrix = NDArray[np.float64]
_MAX_FEATURES = 2048
_BATCH = 32
_MAX_TOKENS = 512
_lock = threading.Lock()


class Features(Protocol):
    """Turns (prompt, answer) into vectors."""

    def __call__(self, texts: Sequence[tuple[str, str]]) -> Matrix:
        """The vectors `[N, F]`."""
        ...

    def to_json(self) -> dict[str, Any]:
        """What `features_from_json` needs."""
        ...


class TfIdf:
    """Words and pairs of words of the answer, weighted by how rare they are.

    The prompt is not looked at: in a linear model of differences between two answers to one prompt
    it cancels out.
    """

    def __init__(self, vocabulary: list[str], idf: list[float]) -> None:
        self._vocabulary, self._idf = vocabulary, idf
        self._vectorizer = _vectorizer(vocabulary=vocabulary)
        self._vectorizer.idf_ = np.asarray(idf)

    @classmethod
    def fit(cls, texts: Sequence[tuple[str, str]]) -> TfIdf:
        """Choose the vocabulary and weigh it.

        Raises:
            ConfigError: The texts hold no word.
        """
        vectorizer = _vectorizer(max_features=_MAX_FEATURES)
        try:
            vectorizer.fit([answer for _, answer in texts])
        except ValueError as error:
            raise ConfigError(f"no features can be made of the answers: {error}") from error
        return cls([str(w) for w in vectorizer.get_feature_names_out()], vectorizer.idf_.tolist())

    def __call__(self, texts: Sequence[tuple[str, str]]) -> Matrix:
        """The vectors `[N, F]`."""
        return np.asarray(self._vectorizer.transform([a for _, a in texts]).toarray(), np.float64)

    def to_json(self) -> dict[str, Any]:
        """Vocabulary and weights."""
        return {"kind": "tfidf", "vocabulary": self._vocabulary, "idf": self._idf}


class Embeddings:
    """Mean-pooled last hidden states of a transformers encoder over prompt and answer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        if not (self._folder / "config.json").is_file():
            raise ModelError(f"{folder} is no transformers folder: it has no config.json")

    def __call__(self, texts: Sequence[tuple[str, str]]) -> Matrix:
        """The vectors `[N, F]`."""
        joined = [as_utf8(f"{prompt}\n{answer}") for prompt, answer in texts]
        starts = range(0, len(joined), _BATCH)
        return np.concatenate([self._embed(joined[i : i + _BATCH]) for i in starts])

    def to_json(self) -> dict[str, Any]:
        """The folder and a digest, so that another model in its place is noticed."""
        return {"kind": "embeddings", "folder": str(self._folder), "digest": self.digest()}

    def digest(self) -> str:
        """Digest of the folder's configuration and weights."""
        found = hashlib.blake2b(digest_size=16)
        for path in sorted(self._folder.glob("*")):
            if path.suffix in (".json", ".safetensors"):
                with path.open("rb") as file:
                    found.update(hashlib.file_digest(file, "blake2b").digest())
        return found.hexdigest()

    def _embed(self, texts: list[str]) -> Matrix:
        import torch

        tokenizer, model = load_encoder(self._folder)
        batch = tokenizer(
            texts, padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt"
        )
        mask = batch["attention_mask"]
        with _lock, torch.inference_mode():
            hidden = model(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(hidden.dtype)  # [B, T, 1]
        pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)  # [B, H], mean over tokens
        return np.asarray(torch.nn.functional.normalize(pooled, dim=-1).double().numpy())


def features_from_json(data: dict[str, Any]) -> Features:
    """Inverse of `to_json`.

    Raises:
        ModelError: The embedding folder is gone, or holds another model now.
    """
    if data["kind"] == "tfidf":
        return TfIdf(data["vocabulary"], data["idf"])
    found = Embeddings(Path(data["folder"]))
    if found.digest() != data["digest"]:
        raise ModelError(f"{data['folder']} is not the model that the reward was fitted with")
    return found


@lru_cache(maxsize=2)
def load_encoder(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and encoder of a folder, once a process."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return tokenizer, model.float().eval()


def _vectorizer(**options: Any) -> Any:
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ModuleNotFoundError as error:
        raise ConfigError(
            "kernel rewards need scikit-learn: pip install 'turnhalle[rewards]'"
        ) from (error)
    return TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]", **options
    )
