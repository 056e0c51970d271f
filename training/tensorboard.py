"""Metrics to TensorBoard; the files are opened with the first number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnhalle.agents.evaluate import Evaluation


class TensorBoard:
    """A listener that writes event files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def note(self, text: str) -> None:
        """Notes are not metrics."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Neither is progress."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write each metric."""
        for name, value in metrics.items():
            self._open(step).add_scalar(name, value, step)

    def evaluation(self, step: int, result: Evaluation) -> None:
        """Write success and return."""
        self._open(step).add_scalar("eval/success", result.success.value, step)
        self._open(step).add_scalar("eval/return", result.mean_return, step)

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()

    def _open(self, step: int) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # What a killed run wrote after its last checkpoint is hidden by purge_step.
            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        return self._writer
