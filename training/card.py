"""The card of a primed model: what it is, how it was made, what it can do and what not."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel

from turnhalle.agents.evaluate import Evaluation

_TEMPLATE = """\
# {name}

A language-model policy of {parameters:,} parameters, primed by imitating the oracles of
environments, their mistakes included. It is a starting point for reinforcement learning, not a
chat model: it knows these environments and nothing else. Reinforcement learning sharpens skills
that the demonstrations contain (the right call among careless ones, work before the answer, keeping
clear of the ghost); it adds none from nowhere.

| environment | success at temperature 1 [95 %] | return | turns | success at temperature 0 [95 %] |
|---|---|---|---|---|
{rows}

Measured on {tasks} held-out tasks each, with the base in NF4. At temperature 0 the errors of the
demonstrators, which are spread over many actions, are mostly outvoted.

The linear weights are snapped to values that NF4 with double quantisation holds exactly, so 4 bits
and 32 bits give the same logits.

## How it was made
`turnhalle prime` with the options below. On the same CPU features and versions that gives
`model.safetensors` bit for bit (SHA-256 `{digest}`); elsewhere a policy whose success is within 10
points.

- CPU features used by PyTorch: {capability}; {machine}
- {versions}

```json
{options}
```
"""


def write_card(
    folder: Path,
    options: BaseModel,
    evaluations: Mapping[str, Evaluation],
    greedy: Mapping[str, Evaluation],
) -> None:
    """Write `README.md` into the model's folder; evaluations at temperature 1 and 0."""
    import torch

    rows = "\n".join(
        f"| {id} | {e.success.percent()} | {e.mean_return:.2f} | {e.mean_turns:.1f} | "
        f"{greedy[id].success.percent()} |"
        for id, e in evaluations.items()
    )
    packages = ("torch", "transformers", "tokenizers", "bitsandbytes", "numpy")
    card = _TEMPLATE.format(
        name=folder.name,
        parameters=num_parameters(folder),
        rows=rows,
        tasks=max(len(e.trajectories) for e in evaluations.values()),
        digest=weights_digest(folder),
        capability=torch.backends.cpu.get_cpu_capability(),
        machine=_cpu_model(),
        versions=", ".join(f"{name} {version(name)}" for name in packages),
        options=options.model_dump_json(indent=2, exclude_defaults=True),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def num_parameters(folder: Path) -> int:
    """Number of saved weights; those that are tied count once."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as weights:
        names = list(weights.keys())
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in names)


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
