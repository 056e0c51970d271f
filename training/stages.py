"""What a model went through: base, imitation, preferences, reinforcement learning.

`stages.json` lies beside the weights, and every stage copies those before it: a folder tells its
whole history, whatever became of the folders it was made from. Cards show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from turnhalle.agents.models import resolve_model

STAGES_FILE = "stages.json"


class Stage(BaseModel):
    """One of them."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["base", "adapter", "imitation", "preferences", "reinforcement"]
    what: str
    """In words."""
    options: dict[str, Any] = {}
    """Those of the stage that differ from their defaults."""
    success: dict[str, str] = {}
    """Held-out success at its end by environment, with its interval, where it was measured."""


_STAGES = TypeAdapter(list[Stage])


def stages_before(model: str, adapter: Path | None = None) -> list[Stage]:
    """What a model and the adapter on it went through, as far as their folders say."""
    if adapter is not None and (stages := _read(adapter)):
        return stages
    stages = _read(Path(resolve_model(model))) or [Stage(kind="base", what=model)]
    if adapter is not None:
        stages = [*stages, Stage(kind="adapter", what=f"an adapter ({adapter}) without a history")]
    return stages


def write_stages(folder: Path, stages: Sequence[Stage]) -> None:
    """Write down what the model in a folder went through."""
    text = _STAGES.dump_json(list(stages), indent=2, exclude_defaults=True)
    (folder / STAGES_FILE).write_bytes(text + b"\n")


def stages_table(stages: Sequence[Stage]) -> str:
    """The stages as a table in Markdown."""
    rows = ["| | stage | what | held-out success at its end |", "|---|---|---|---|"]
    for number, stage in enumerate(stages):
        success = ", ".join(f"{id}: {rate}" for id, rate in stage.success.items()) or "-"
        rows.append(f"| {number} | {stage.kind} | {stage.what} | {success} |")
    return "\n".join(rows)


def _read(folder: Path) -> list[Stage]:
    file = folder / STAGES_FILE
    return _STAGES.validate_json(file.read_bytes()) if file.is_file() else []
