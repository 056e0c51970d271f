"""The transformers engine: the embedded default, on any causal transformers model, CPU or CUDA.

Each session keeps its keys and values across turns, so a turn costs its own tokens and no more.
Turns join and leave the batch as they come and go; prompts that several sessions share are
computed once. The engine reads the trainer's own weights, so its log-probs are the trainer's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from turnhalle.envs.errors import EngineError

from ..core import num_common
from ..lm import LanguageModel
from .base import Capabilities, Completion, Request, check_request
from .cache import SlotCache
from .folded import Folded
from .sampling import sample, truncate, uniforms
from .seats import Seats, Session, row_of, tail

Decode = Callable[[list[int]], str]

_REFILL_SHARE = 0.5
"""New turns wait until they are this share of the running ones: one prefill for many rows costs
about as much as for one (measured on two cores, the tiny policy: .3 to .7 are equal, 0 is 1.4x)."""

_MAX_PREFILL_TOKENS, _MAX_PREFILL_CONTEXT = 8192, 2**15
"""Most tokens of one prefill pass, and most of the contexts that they attend to, padding included:
both bound its memory."""


class TransformersEngine:
    """Continuous batching over a `LanguageModel` in this process."""

    def __init__(
        self,
        lm: LanguageModel,
        max_context: int | None = None,
        *,
        max_cache_bytes: float = math.inf,
        decode: Decode | None = None,
    ) -> None:
        """Prepare; the cache grows with what is played.

        Args:
            lm: The model, shared with the trainer.
            max_context: Most tokens of a session; None is what the model knows.
            max_cache_bytes: Bound of the keys and values. Sessions that pause lose theirs first,
                the longest unused before others, and have them computed again.
            decode: Text of token ids, for stop texts.
        """
        self.max_context = min(max_context or lm.max_context, lm.max_context)
        self.adapter_version = 0
        self.capabilities = Capabilities(
            is_exact=lm.model.dtype == torch.float32,
            records_kept_mass=True,
            reads_stop_text=decode is not None,
        )
        self._lm = lm
        self._cache = SlotCache(lm.num_layers)
        self._seats = Seats(self._cache, lm.kv_bytes_per_token, max_cache_bytes)
        self._waiting: list[Session] = []
        self._running: list[Session] = []
        self._decode_text = decode
        self._folded = Folded(lm)

    def submit(self, request: Request) -> None:
        """Queue a turn.

        Raises:
            EngineError: The context is empty or too long, or the session is busy.
        """
        session = self._seats.sessions.get(request.session)
        check_request(self, request, session is not None and session.request is not None)
        session = self._seats.open(request.session)
        if request.parent is not None:
            self._seats.inherit(session, request.parent)
        session.request = request
        session.token_ids, session.logprobs, session.kept_mass = [], [], []
        # At least the last token must be fed: its logits are what the turn is sampled from.
        shared = num_common(session.cached, request.token_ids[:-1])
        del session.cached[shared:]
        self._waiting.append(session)

    def close(self, session: int) -> None:
        """Forget a session and free its slot."""
        closed = self._seats.close(session)
        if closed is not None:
            self._waiting = [s for s in self._waiting if s is not closed]
            self._running = [s for s in self._running if s is not closed]

    def load_adapter(self, version: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Sample with these weights from now on; what was computed with the old ones is dropped.

        Args:
            version: What completions will say.
            tensors: By the model's names. A trainer in this process gives its own parameters,
                which the engine reads anyway.

        Raises:
            EngineError: Turns are running, or the tensors are not those of this model.
        """
        if self._waiting or self._running:
            running = len(self._waiting) + len(self._running)
            raise EngineError(f"{running} turns run; load an adapter between turns")
        own = self._lm.trainable()
        if own.keys() != tensors.keys():
            odd = sorted(own.keys() ^ tensors.keys())
            raise EngineError(f"not an adapter of this model: {', '.join(odd[:3])}")
        with torch.no_grad():
            for name, parameter in own.items():
                if parameter is not tensors[name]:
                    parameter.copy_(tensors[name])
        self._folded.forget()
        self.adapter_version = version
        for session in self._seats.sessions.values():
            session.cached = []

    def resting(self) -> AbstractContextManager[None]:
        """The weights are the trainer's; there is nothing to lend."""
        return nullcontext()

    def shutdown(self) -> None:
        """Free the cache."""
        for session in list(self._seats.sessions):
            self.close(session)
        self._cache.clear()

    @torch.no_grad()
    def step(self) -> list[Completion]:
        """Advance every running turn by a token; the turns that finished."""
        if self._waiting and len(self._waiting) >= _REFILL_SHARE * len(self._running):
            seated, self._waiting = self._seats.seat(self._waiting)
            finished = self._prefill(seated) if seated else []
            if finished:
                return finished
        return self._decode() if self._running else []

    def _prefill(self, waiting: list[Session]) -> list[Completion]:
        """Feed the new tokens of waiting turns, each prompt once, and sample their first tokens."""
        waiting = sorted(waiting, key=lambda s: len(tail(s)))
        unique: dict[object, list[Session]] = {}
        for session in waiting:
            fresh = not session.cached
            key = (fresh, *tail(session)) if fresh else (fresh, session.slot)
            unique.setdefault(key, []).append(session)
        finished: list[Completion] = []
        batch: list[list[Session]] = []
        longest = 0
        for twins in unique.values():
            longest, rows = max(longest, twins[0].length), len(batch) + 1
            is_full = rows * longest > _MAX_PREFILL_CONTEXT
            if batch and (is_full or rows * len(tail(twins[0])) > _MAX_PREFILL_TOKENS):
                finished += self._prefill_batch(batch)
                batch, longest = [], twins[0].length
            batch.append(twins)
        return finished + self._prefill_batch(batch)

    def _prefill_batch(self, batch: list[list[Session]]) -> list[Completion]:
        batch.sort(key=lambda twins: row_of(twins[0]))
        leaders = [twins[0] for twins in batch]
        tails = [tail(s) for s in leaders]
        longest = max(len(tail) for tail in tails)
        ids = torch.tensor([tail + [0] * (longest - len(tail)) for tail in tails])
        start = torch.tensor([len(s.cached) for s in leaders])
        hidden = self._forward(ids, start, [row_of(s) for s in leaders])
        last = torch.tensor([len(tail) - 1 for tail in tails], device=hidden.device)
        logits = self._lm.head(hidden[torch.arange(len(last), device=hidden.device), last])
        for twins in batch:
            assert twins[0].request is not None
            context = twins[0].request.token_ids
            if others := [row_of(s) for s in twins[1:]]:
                self._cache.copy(row_of(twins[0]), others, len(context))
            for session in twins:
                session.cached = list(context)
        rows_of_twins = [i for i, twins in enumerate(batch) for _ in twins]
        flat = [session for twins in batch for session in twins]
        finished = self._sample(flat, logits[rows_of_twins])
        self._running += [s for s in flat if s.request is not None]
        return finished

    def _decode(self) -> list[Completion]:
        """Feed one token to every running turn; idle rows compute garbage that nothing reads."""
        ids = torch.zeros(self._seats.width, 1, dtype=torch.long)
        start = torch.zeros(self._seats.width, dtype=torch.long)
        for session in self._seats.sessions.values():
            if session.slot is not None:
                start[session.slot] = len(session.cached)
        slots = [row_of(s) for s in self._running]
        ids[slots, 0] = torch.tensor([s.token_ids[-1] for s in self._running])
        hidden = self._forward(ids, start, list(range(self._seats.width)))
        logits = self._lm.head(hidden[slots, 0])
        for session in self._running:
            session.cached.append(session.token_ids[-1])
        finished = self._sample(self._running, logits)
        self._running = [s for s in self._running if s.request is not None]
        return finished

    def _forward(self, ids: torch.Tensor, start: torch.Tensor, slots: list[int]) -> torch.Tensor:
        """Feed tokens `[B, Q]` to slots in ascending order, from positions `[B]` on."""
        device = self._lm.device
        positions = start[:, None] + torch.arange(ids.shape[1])
        span = int(positions.max()) + 1
        positions = positions.to(device)
        first, last = slots[0], slots[-1]
        is_range = last - first + 1 == len(slots)
        rows = slice(first, last + 1) if is_range else torch.tensor(slots, device=device)
        self._cache.select(rows, positions, self._seats.width, span)
        with self._folded.in_force():
            return self._lm.hidden(ids.to(device), positions, self._cache, span)

    def _sample(self, sessions: list[Session], logits: torch.Tensor) -> list[Completion]:
        requests = [s.request for s in sessions if s.request is not None]
        device = logits.device
        temperatures = torch.tensor([r.sampling.temperature for r in requests], device=device)
        seeds = np.array([r.seed for r in requests], dtype=np.uint64)
        counters = np.array([len(s.token_ids) for s in sessions], dtype=np.uint64)
        uniform = torch.from_numpy(uniforms(seeds, counters)).to(device)
        if any(r.sampling.is_truncated for r in requests):
            logits = self._truncate(sessions, logits, temperatures)
        tokens, logprobs = sample(logits, temperatures, uniform)
        finished: list[Completion] = []
        for session, request, token, logprob in zip(
            sessions, requests, tokens.tolist(), logprobs.tolist(), strict=True
        ):
            session.token_ids.append(token)
            session.logprobs.append(logprob)
            room = self.max_context - len(request.token_ids)
            is_full = len(session.token_ids) >= min(request.sampling.max_new_tokens, room)
            is_stopped = token in request.stop_ids or self._has_stop_text(session, request)
            if is_stopped or is_full:
                finished.append(self._finish(session, request, is_stopped))
        return finished

    def _truncate(
        self, sessions: list[Session], logits: torch.Tensor, temperatures: torch.Tensor
    ) -> torch.Tensor:
        samplings = [s.request.sampling for s in sessions if s.request is not None]
        top_k = [x.top_k or logits.shape[-1] for x in samplings]
        top_p = [x.top_p or 1.0 for x in samplings]
        device = logits.device
        logits, mass = truncate(
            logits,
            temperatures,
            torch.tensor(top_k, device=device),
            torch.tensor(top_p, device=device, dtype=torch.float64),
        )
        for session, sampling, kept in zip(sessions, samplings, mass.tolist(), strict=True):
            if sampling.is_truncated:
                session.kept_mass.append(kept)
        return logits

    def _has_stop_text(self, session: Session, request: Request) -> bool:
        if not request.sampling.stop or self._decode_text is None:
            return False
        text = self._decode_text(session.token_ids)
        return any(stop in text for stop in request.sampling.stop)

    def _finish(self, session: Session, request: Request, stopped: bool) -> Completion:
        session.request = None
        return Completion(
            session=request.session,
            token_ids=session.token_ids,
            logprobs=session.logprobs,
            finish_reason="stop" if stopped else "length",
            adapter_version=self.adapter_version,
            kept_mass=session.kept_mass or None,
        )
