"""The engine behind a URL: a `vllm serve` that somebody else started, on this machine or another.

Token ids travel, never text: prompts go out as ids, and sampled ids come back with their log-probs
(`return_token_ids`). Each adapter is written to a folder that the server sees too, and loaded there
under a name of its own, because vLLM finds cached keys and values by the name. That the server has
the trainer's base is not asked but measured, by the parity check.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch

from turnhalle.envs.errors import EngineError

from ..lm import LanguageModel
from ..loop_thread import LoopThread
from .base import PATIENCE_S, Capabilities, Completion, Request, check_request
from .export import adapter_bytes, adapter_config

_MAX_ATTEMPTS = 3
"""How often a turn is asked for before it is given up."""
_PAUSE_S = 1.0
"""Between two attempts."""
_TIMEOUT_S = 600.0
"""Longest wait for one turn, the queue of the server included."""

_log = logging.getLogger("turnhalle")


@dataclass(slots=True, eq=False)
class _Turn:
    request: Request
    model: str
    version: int
    future: Future[None] | None = None


class ServerEngine:
    """Samples by a server; the turns of all sessions are under way at once."""

    def __init__(
        self,
        lm: LanguageModel,
        url: str,
        adapter_folder: str | None = None,
        max_context: int | None = None,
    ) -> None:
        """Connect; the adapter is given by `load_adapter`.

        Args:
            lm: The trainer's model, whose base the server must have.
            url: Of the server, without a path.
            adapter_folder: A folder that the server sees under the same name.
            max_context: Most tokens of a session; None is what model and server know.

        Raises:
            EngineError: There is no vLLM at the URL.
        """
        self._url = url.rstrip("/").removesuffix("/v1")
        self._client = httpx.Client(base_url=self._url, timeout=_TIMEOUT_S)
        card = self._models()[0]
        self._base: str = card["id"]
        self.max_context = min(max_context or lm.max_context, lm.max_context, card["max_model_len"])
        self.adapter_version = 0
        self.capabilities = Capabilities(
            is_exact=lm.model.dtype == torch.float32, records_kept_mass=False, reads_stop_text=False
        )
        self._lora = adapter_config(lm)
        if adapter_folder is not None:
            Path(adapter_folder).mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="turnhalle-adapters-", dir=adapter_folder))
        self._folder.chmod(0o755)  # the server may be somebody else
        self._name = f"turnhalle-{uuid.uuid4().hex[:8]}"
        self._num_loads = 0
        self._adapter: str | None = None
        self._turns: dict[int, _Turn] = {}
        self._done: queue.SimpleQueue[tuple[_Turn, Completion]] = queue.SimpleQueue()
        self._loop = LoopThread()
        self._session: httpx.AsyncClient | None = None

    def submit(self, request: Request) -> None:
        """Ask for a turn.

        Raises:
            EngineError: The context is empty or too long, or the session is busy.
        """
        check_request(self, request, request.session in self._turns)
        turn = _Turn(request, self._adapter or self._base, self.adapter_version)
        self._turns[request.session] = turn
        turn.future = self._loop.submit(self._sample(turn))

    def step(self) -> list[Completion]:
        """Wait a moment for turns; those that finished."""
        finished: list[Completion] = []
        with suppress(queue.Empty):
            wait_s = PATIENCE_S if self._turns else 0.0
            while len(finished) < len(self._turns):
                turn, completion = (
                    self._done.get(timeout=wait_s) if wait_s else self._done.get_nowait()
                )
                wait_s = 0.0
                if self._turns.get(turn.request.session) is turn:
                    finished.append(completion)
        for completion in finished:
            del self._turns[completion.session]
        return finished

    def close(self, session: int) -> None:
        """Forget a session; the server drops a turn whose connection ends."""
        turn = self._turns.pop(session, None)
        if turn is not None and turn.future is not None:
            turn.future.cancel()

    def load_adapter(self, version: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Sample with these adapter weights from now on.

        Args:
            version: What completions will say.
            tensors: The adapter's parameters by the trainer's names.

        Raises:
            EngineError: Turns are running, or the server does not load it; says what to do.
        """
        if self._turns:
            raise EngineError(f"{len(self._turns)} turns run; load an adapter between turns")
        self._num_loads += 1
        name = f"{self._name}-{self._num_loads}"
        folder = self._folder / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(self._lora), encoding="utf-8")
        (folder / "adapter_model.safetensors").write_bytes(adapter_bytes(tensors))
        self._post("load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
        if self._adapter is not None:
            self._forget(self._adapter)
        self._adapter, self.adapter_version = name, version

    def resting(self) -> AbstractContextManager[None]:
        """The server's memory is its own; there is nothing to lend."""
        return nullcontext()

    def shutdown(self) -> None:
        """Take the adapter out of the server, and let it go."""
        for session in list(self._turns):
            self.close(session)
        if self._adapter is not None:
            with suppress(EngineError):  # a server that is gone has no adapter either
                self._forget(self._adapter)
        if self._session is not None:
            self._loop.submit(self._session.aclose()).result()
        self._loop.close()
        self._client.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _forget(self, adapter: str) -> None:
        self._post("unload_lora_adapter", {"lora_name": adapter})
        shutil.rmtree(self._folder / adapter, ignore_errors=True)

    async def _sample(self, turn: _Turn) -> None:
        """Ask until there is an answer, a refusal, or no hope."""
        error = ""
        for attempt in range(_MAX_ATTEMPTS):
            await asyncio.sleep(_PAUSE_S * attempt)
            try:
                answer = await self._connection().post("/v1/completions", json=self._asked(turn))
            except httpx.HTTPError as caught:
                error = f"{type(caught).__name__}: {caught}"
                continue
            if answer.is_success:
                self._done.put((turn, self._read(turn, answer.json())))
                return
            error = _reason(answer)
            if answer.is_client_error:
                break
        error = f"the server at {self._url} gives no turn: {error}"
        self._done.put((turn, _failed(turn, error)))

    def _connection(self) -> httpx.AsyncClient:
        if self._session is None:
            limits = httpx.Limits(max_connections=None)
            self._session = httpx.AsyncClient(base_url=self._url, timeout=_TIMEOUT_S, limits=limits)
        return self._session

    def _asked(self, turn: _Turn) -> dict[str, Any]:
        request = turn.request
        room = self.max_context - len(request.token_ids)
        return {
            "model": turn.model,
            "prompt": request.token_ids,
            "temperature": request.sampling.temperature,
            "max_tokens": min(request.sampling.max_new_tokens, room),
            "seed": request.seed & (2**63 - 1),  # a signed number there, and -1 is none
            "stop_token_ids": sorted(request.stop_ids),
            "ignore_eos": True,  # the chat says what ends a turn, not the checkpoint
            "logprobs": 0,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }

    def _read(self, turn: _Turn, answer: dict[str, Any]) -> Completion:
        sampled = answer["choices"][0]
        if not sampled.get("token_ids") or not sampled.get("logprobs"):
            return _failed(
                turn,
                f"the server at {self._url} gives no token ids or log-probs; it must be a vLLM of "
                "0.32 or newer (return_token_ids)",
            )
        return Completion(
            session=turn.request.session,
            token_ids=sampled["token_ids"],
            logprobs=sampled["logprobs"]["token_logprobs"],
            finish_reason="stop" if sampled["finish_reason"] == "stop" else "length",
            adapter_version=turn.version,
        )

    def _models(self) -> list[dict[str, Any]]:
        try:
            answer = self._client.get("/v1/models").raise_for_status()
            models: list[dict[str, Any]] = answer.json()["data"]
            if models and "max_model_len" in models[0]:
                return models
            what = "it does not say how long a context may be"
        except (httpx.HTTPError, ValueError, KeyError) as error:
            what = f"{type(error).__name__}: {error}"
        raise EngineError(
            f"no vLLM answers at {self._url} ({what}). Start one with `vllm serve`, as "
            "docs/rollouts.md says, and give its URL without a path"
        )

    def _post(self, what: str, body: dict[str, str]) -> None:
        try:
            answer = self._client.post(f"/v1/{what}", json=body)
        except httpx.HTTPError as error:
            raise EngineError(
                f"the server at {self._url} is gone: {type(error).__name__}: {error}"
            ) from error
        if answer.is_success:
            return
        hint = "It must see the folder of engine.adapter_folder, and allow the adapter's rank."
        if answer.status_code == httpx.codes.NOT_FOUND and "detail" in answer.text:
            hint = (
                "Start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment, and "
                "--enable-lora --max-lora-rank."
            )
        raise EngineError(f"the server at {self._url} refuses {what}: {_reason(answer)}. {hint}")


def _reason(answer: httpx.Response) -> str:
    try:
        told = answer.json()
        return str(told.get("error", {}).get("message") or told.get("detail") or told)
    except (ValueError, AttributeError):
        return f"{answer.status_code} {answer.text[:200]}"


def _failed(turn: _Turn, error: str) -> Completion:
    return Completion(turn.request.session, [], [], "error", turn.version, error=error)
