"""How a run looks while it runs: live in a terminal, a line a step elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from turnhalle.agents.evaluate import Evaluation
from turnhalle.training.options import TrainOptions
from turnhalle.training.progress import Listener

_COLUMNS = (
    ("success", "success", "{:.2f}"),
    ("return", "return", "{:.2f}"),
    ("turns", "turns", "{:.1f}"),
    ("kl", "KL", "{:.4f}"),
    ("entropy", "entropy", "{:.2f}"),
    ("clip_fraction", "clip", "{:.3f}"),
    ("skipped_groups", "skipped", "{:.0f}"),
    ("time/tokens_per_second", "tokens/s", "{:.0f}"),
)
_VISIBLE_STEPS = 12


class _Display:
    """Keeps what is shown; subclasses show it."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._seconds: list[float] = []
        self._last = time.perf_counter()

    def _eta(self, step: int) -> str:
        """Time left, from the median of the last steps."""
        now = time.perf_counter()
        self._seconds = [*self._seconds[-9:], now - self._last]
        self._last = now
        left = sorted(self._seconds)[len(self._seconds) // 2] * (self.steps - step)
        return f"{left / 60:.0f}m{left % 60:02.0f}s" if left >= 60 else f"{left:.0f}s"

    @staticmethod
    def _cells(metrics: Mapping[str, float]) -> list[str]:
        return [
            form.format(metrics[name]) if name in metrics else "-" for name, _, form in _COLUMNS
        ]


class PlainDisplay(_Display):
    """A line a step."""

    def note(self, text: str) -> None:
        """Print it."""
        print(text, flush=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """Say nothing: a line must be worth reading in a log."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line."""
        cells = zip((label for _, label, _ in _COLUMNS), self._cells(metrics), strict=True)
        values = "  ".join(f"{label} {cell}" for label, cell in cells)
        print(f"step {step}/{self.steps}  {values}  left {self._eta(step)}", flush=True)

    def evaluation(self, step: int, result: Evaluation) -> None:
        """One line."""
        print(_evaluation_line(step, result), flush=True)
        self._last = time.perf_counter()


class LiveDisplay(_Display):
    """A table of the last steps over a progress bar."""

    def __init__(self, steps: int, console: Console) -> None:
        super().__init__(steps)
        self._rows: list[list[str]] = []
        what = TextColumn("{task.description}", markup=False)
        self._bar = Progress(what, BarColumn(), MofNCompleteColumn(), console=console)
        self._task = self._bar.add_task("starting", total=None)
        self.live = Live(console=console, get_renderable=self._render, refresh_per_second=4)

    def note(self, text: str) -> None:
        """Print it above the table."""
        self.live.console.print(text, style="yellow")

    def progress(self, what: str, done: int, total: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, description=what, completed=done, total=total)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a row."""
        row = [f"{step}/{self.steps}", *self._cells(metrics), self._eta(step)]
        self._rows = [*self._rows[1 - _VISIBLE_STEPS :], row]

    def evaluation(self, step: int, result: Evaluation) -> None:
        """Print a line above the table."""
        self.live.console.print(_evaluation_line(step, result), style="bold")
        self._last = time.perf_counter()

    def _render(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        for label in ("step", *(label for _, label, _ in _COLUMNS), "left"):
            table.add_column(label, justify="right")
        for row in self._rows:
            table.add_row(*row)
        return Group(table, self._bar) if self._rows else Group(self._bar)


class Listeners:
    """Tells several listeners."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def note(self, text: str) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.note(text)

    def progress(self, what: str, done: int, total: int) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.progress(what, done, total)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.step(step, metrics)

    def evaluation(self, step: int, result: Evaluation) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.evaluation(step, result)


@contextmanager
def train_display(console: Console, options: TrainOptions, folder: Path) -> Iterator[Listener]:
    """Show a run while the block runs, and write it to TensorBoard."""
    from turnhalle.agents.models import held_precision
    from turnhalle.training.tensorboard import TensorBoard

    rollout, model = options.rollout, options.model
    what = (
        f" with {model.name} ({held_precision(model)}, LoRA rank {model.lora_rank}): "
        f"{options.steps} steps of {rollout.tasks} tasks x {rollout.group_size} rollouts, "
        f"into {folder}"
    )
    console.print(Text.assemble((options.env.id, "bold"), what))
    board = TensorBoard(folder / "tensorboard")
    try:
        if console.is_terminal:
            display = LiveDisplay(options.steps, console)
            with display.live:
                yield Listeners(display, board)
        else:
            yield Listeners(PlainDisplay(options.steps), board)
    finally:
        board.close()


def _evaluation_line(step: int, result: Evaluation) -> str:
    when = "before training" if step == 0 else f"after step {step}"
    failed = f", {result.num_errors} episodes failed" if result.num_errors else ""
    return (
        f"held-out success {when}: {result.success.percent()} of {len(result.counted)} tasks, "
        f"return {result.mean_return:.2f}, {result.mean_turns:.1f} turns{failed}"
    )


@contextmanager
def prime_display(console: Console) -> Iterator[Listener]:
    """Show a priming while the block runs."""
    if console.is_terminal:
        display = LiveDisplay(0, console)
        with display.live:
            yield display
    else:
        yield PlainDisplay(0)
