"""One policy in 16, 8, 4, 3, 2 and 1.58 bits: bytes, KL, success, speed.

What bitsandbytes can hold is written to a folder and loaded again, so what is measured is what one
would ship. 3, 2 and 1.58 bits are simulated by rounded weights in 16 bits: they have no speed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import torch

from turnhalle.envs.registry import EnvFactory

from ..chat import Chat
from ..engines.base import Sampling
from ..engines.local import TransformersEngine
from ..evaluate import Evaluation, evaluate
from ..llm import LLMPolicy
from ..lm import LanguageModel
from ..models import ModelOptions, Precision, load_config, load_model
from .bnb import Format, linears
from .folder import half_dtype, weight_bytes, write_folder
from .plan import Plan, plan
from .rounding import Simulated, bits_of, simulate
from .yardstick import Passage, Yardstick


@dataclass(frozen=True, slots=True)
class Row:
    """One way to hold the policy."""

    name: str
    num_bytes: int
    """Of all weights, those included that are not quantised."""
    kl: float
    """From the policy as it is stored, in nats a token."""
    evaluation: Evaluation
    tokens_per_second: float | None
    """Sampled, by CPU time on a CPU and by the clock on a GPU; None where simulated."""


@dataclass(frozen=True)
class Contest:
    """What every way to hold the policy is asked. Half of the text chooses, the rest measures."""

    name: str
    """The model: folder, Hugging Face name, or "tiny"."""
    device: str
    chat: Chat
    reference: LanguageModel
    """The model in 32 bits."""
    passages: Sequence[Passage]
    factory: EnvFactory
    sampling: Sampling
    tasks: int
    """Held-out tasks to play."""

    @cached_property
    def yardstick(self) -> Yardstick:
        """What measures."""
        return Yardstick(self.reference, self.passages[1::2])

    def plan(self, budget: float) -> Plan:
        """Which layers dynamic 4-bit keeps in 16 bits."""
        return plan(self.reference, Yardstick(self.reference, self.passages[::2]), budget)

    def write(self, folder: Path, format: Format, kept: Sequence[str] = ()) -> None:
        """Write the model's folder in a format."""
        write_folder(self.name, folder, format, kept, str(self.reference.device))

    def written_kl(self, folder: Path) -> float:
        """KL divergence of the model in a folder."""
        return self.yardstick.kl(self._load(str(folder), "auto"))

    def rows(self, kept: Sequence[str]) -> Iterator[Row]:
        """Measure one way after the other.

        Args:
            kept: Names of the layers that dynamic 4-bit keeps in 16 bits.
        """
        dtype = half_dtype(load_config(self.name))
        half = self._load(self.name, "fp16" if dtype == torch.float16 else "bf16")
        yield self._row("16 bits", half, sum(p.nbytes for p in half.model.parameters()))
        yield self._written("int8", "int8")
        yield self._written("dynamic 4-bit", "nf4", kept)
        yield self._written("NF4", "nf4")
        yield self._written("FP4", "fp4")
        del half
        for kind in get_args(Simulated):
            lm = self._load(self.name, "fp32")
            num_bytes = _simulate(lm, kind, dtype)
            label = {"int3": "3 bits", "int2": "2 bits", "ternary": "ternary"}[kind]
            yield self._row(f"{label}, simulated", lm, num_bytes)

    def _written(self, label: str, format: Format, kept: Sequence[str] = ()) -> Row:
        with tempfile.TemporaryDirectory(prefix="turnhalle-quantize-") as parent:
            folder = Path(parent) / "model"
            self.write(folder, format, kept)
            return self._row(label, self._load(str(folder), "auto"), weight_bytes(folder))

    def _row(self, label: str, lm: LanguageModel, num_bytes: int) -> Row:
        policy = LLMPolicy(label, TransformersEngine(lm), self.chat, self.sampling)
        clock = time.process_time if lm.device.type == "cpu" else time.perf_counter
        started = clock()
        evaluation = evaluate(self.factory, policy, self.tasks)
        seconds = clock() - started
        sampled = sum(trajectory.num_sampled for trajectory in evaluation.trajectories)
        speed = None if "simulated" in label else sampled / seconds
        return Row(label, num_bytes, self.yardstick.kl(lm), evaluation, speed)

    def _load(self, name: str, precision: Precision) -> LanguageModel:
        return load_model(ModelOptions(name=name, precision=precision, device=self.device))


@torch.no_grad()
def _simulate(lm: LanguageModel, kind: Simulated, dtype: torch.dtype) -> int:
    """Round the weights of a model; how many bytes they would be."""
    rounded = {id(layer.weight) for layer in linears(lm.model).values()}
    bits = 0.0
    for parameter in lm.model.parameters():
        is_rounded = id(parameter) in rounded
        half = parameter.to(dtype).to(parameter.dtype)
        parameter.copy_(simulate(half, kind) if is_rounded else half)
        bits += parameter.numel() * (bits_of(kind) if is_rounded else 16)
    return round(bits / 8)
