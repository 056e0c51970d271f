"""The cards of models and adapters: what they are, how they were made, what they can do."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel

from turnhalle.agents.evaluate import Evaluation
from turnhalle.agents.models import held_precision

from .options import TrainOptions
from .stages import Stage, stages_before, stages_table, write_stages

_PRIMED = """\
# {name}

A language-model policy of {parameters:,} parameters{adapter}, primed by imitation, mistakes
included, in the stages below. It is a starting point for reinforcement learning, which sharpens
skills that the demonstrations contain (the right call among careless ones, work before the answer,
keeping clear of the ghost) and adds none from nowhere.

| environment | success at temperature 1 [95 %] | return | turns | success at temperature 0 [95 %] |
|---|---|---|---|---|
{rows}

Measured on {tasks} held-out tasks each, with the base in {precision}. At temperature 0 the errors
of the demonstrators, which are spread over many actions, are mostly outvoted.
{snapped}
## Stages

{stages}

## How it was made
`turnhalle prime` with the options below. On the same CPU features and versions that gives
`{file}` bit for bit (SHA-256 `{digest}`); elsewhere a policy whose success is within 10
points.

{conditions}

```json
{options}
```
"""
_SNAPPED = """
The linear weights are snapped to values that NF4 with double quantisation holds exactly, so 4 bits
and 32 bits give the same logits.
"""
_TRAINED = """\
---
base_model: {base}
library_name: peft
---
# An adapter for {base}

Trained by reinforcement learning in {envs}: {steps} steps.
`PeftModel.from_pretrained(base, folder)` puts it on;
`turnhalle train --model {base} --set start_from=FOLDER` goes on from it.

| | held-out success [95 %] | return | turns |
|---|---|---|---|
| before | {before} |
| after | {after} |

Measured on the same {tasks} held-out tasks, sampled as in training, with the base in {precision}.

## Stages

{stages}

## How it was made
`turnhalle train` with the options below.

{conditions}

```json
{options}
```
"""


def write_primed_card(
    folder: Path,
    options: BaseModel,
    evaluations: Mapping[str, Evaluation],
    greedy: Mapping[str, Evaluation],
    *,
    stages: Sequence[Stage],
    precision: str,
    is_snapped: bool,
) -> None:
    """Write `README.md` into a primed model's folder; evaluations at temperature 1 and 0."""
    rows = "\n".join(
        f"| {id} | {_measured(e)} | {greedy[id].success.percent()} |"
        for id, e in evaluations.items()
    )
    weights = weights_file(folder)
    card = _PRIMED.format(
        name=folder.name,
        parameters=num_parameters(folder),
        adapter=" in an adapter" if weights.name.startswith("adapter") else "",
        rows=rows,
        tasks=max(len(e.trajectories) for e in evaluations.values()),
        precision=precision.upper(),
        snapped=_SNAPPED if is_snapped else "",
        stages=stages_table(stages),
        file=weights.name,
        digest=weights_digest(folder),
        conditions=_conditions(),
        options=options.model_dump_json(indent=2, exclude_defaults=True),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def write_adapter_card(
    folder: Path,
    options: TrainOptions,
    start: Path | None,
    steps: int,
    before: Evaluation,
    after: Evaluation,
) -> None:
    """Write `README.md` and the stages into the folder of an adapter that a run came to.

    Args:
        folder: Where the adapter is.
        options: Of the run.
        start: Folder of the adapter that it started from.
        steps: How many it made.
        before: Of the policy at its start.
        after: Of the adapter.
    """
    envs = ", ".join(sorted({t.task.env for t in after.trajectories}))
    what = (
        f"{steps} steps of {options.credit.estimator} with the loss {options.loss.name} in {envs}"
    )
    stage = Stage(
        kind="reinforcement",
        what=what,
        options=options.model_dump(mode="json", exclude_defaults=True),
        success={envs: after.success.percent()},
    )
    stages = [*stages_before(options.model.name, start), stage]
    write_stages(folder, stages)
    card = _TRAINED.format(
        base=options.model.name,
        envs=envs,
        steps=steps,
        before=_measured(before),
        after=_measured(after),
        tasks=len(after.trajectories),
        precision=held_precision(options.model).upper(),
        stages=stages_table(stages),
        conditions=_conditions(),
        options=options.model_dump_json(indent=2, exclude_defaults=True),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def weights_file(folder: Path) -> Path:
    """The weights in a folder: those of a model, or of an adapter."""
    model = folder / "model.safetensors"
    return model if model.is_file() else folder / "adapter_model.safetensors"


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights."""
    return hashlib.sha256(weights_file(folder).read_bytes()).hexdigest()


def num_parameters(folder: Path) -> int:
    """Number of saved weights; those that are tied count once."""
    from safetensors import safe_open

    with safe_open(weights_file(folder), "pt") as weights:
        names = list(weights.keys())
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in names)


def _measured(done: Evaluation) -> str:
    return f"{done.success.percent()} | {done.mean_return:.2f} | {done.mean_turns:.1f}"


def _conditions() -> str:
    import torch

    packages = ("torch", "transformers", "tokenizers", "bitsandbytes", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    capability = torch.backends.cpu.get_cpu_capability()
    return f"- CPU features used by PyTorch: {capability}; {_cpu_model()}\n- {versions}"


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
