"""The log of what goes wrong in a run; it ends a run whose updates keep failing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from turnhalle.agents.core import Group, Trajectory
from turnhalle.agents.store import RunStore
from turnhalle.envs.errors import DivergedError

from .learner import Update
from .progress import Listener

MAX_FAILED_UPDATES = 3
"""Updates in a row without any finite gradient that end a run."""


class FaultLog:
    """Writes down what went wrong, and ends a run whose updates keep failing."""

    def __init__(self, store: RunStore, listener: Listener, in_a_row: int) -> None:
        self._store, self._listener = store, listener
        self.in_a_row = in_a_row
        """Updates without any finite gradient since the last one that had some."""

    def of_checkpoints(self, step: int, broken: Mapping[Path, str]) -> None:
        """Checkpoints that a resumed run passed over, and what of each is broken."""
        for path, what in broken.items():
            note = (
                f"{path.name} is not as it was written ({what}); the run goes on from step {step}"
            )
            self._store.write_event(step, "broken_checkpoint", note)
            self._listener.note(note)

    def of_episodes(self, step: int, groups: Sequence[Group]) -> None:
        """Episodes that failed for reasons of ours."""
        failed = [t for group in groups for t in group.trajectories if t.error]
        for trajectory in failed:
            self._store.write_event(step, trajectory.stop, trajectory.error or "")
        if failed:
            what = f"{len(failed)} episodes failed and are masked, e.g.: {failed[0].error}"
            self._listener.note(what)

    def of_scores(self, step: int, groups: Sequence[Group], episodes: Sequence[int]) -> None:
        """Episodes whose log-probs before the update are no numbers; they are masked."""
        self._not_finite(step, groups, episodes, "log-probs that are no numbers; left out")

    def of_update(self, step: int, groups: Sequence[Group], update: Update) -> None:
        """What an update left out or could not do.

        Raises:
            DivergedError: The third update in a row without any finite gradient.
        """
        for kind, note in update.notes:
            self._store.write_event(step, kind, note)
            self._listener.note(note)
        self._not_finite(step, groups, update.dropped, "log-probs that are no numbers; left out")
        self._not_finite(step, groups, update.blamed, "a gradient that is no number; step skipped")
        # An update that took a step in one of its minibatches got on.
        self.in_a_row = 0 if update.metrics else self.in_a_row + 1
        if update.num_skipped:
            note = f"{update.num_skipped} optimizer steps were skipped: no finite gradient"
            self._store.write_event(step, "skipped_update", note)
            self._listener.note(note)
        if self.in_a_row >= MAX_FAILED_UPDATES:
            bad = sorted({*update.dropped, *update.blamed})
            raise DivergedError(
                f"{self.in_a_row} updates in a row had log-probs or gradients that are no numbers, "
                f"the last one at step {step} because of {_names(groups, bad)}. The adapter is as "
                "the last checkpoint has it; a lower learn.learning_rate or learn.max_grad_norm, "
                'or model.precision = "fp32", may help'
            )

    def _not_finite(
        self, step: int, groups: Sequence[Group], episodes: Sequence[int], what: str
    ) -> None:
        for episode in episodes:
            self._store.write_event(step, "not_finite", f"{_names(groups, [episode])}: {what}")
        if episodes:
            self._listener.note(f"{len(episodes)} episodes have {what}")


def _names(groups: Sequence[Group], episodes: Sequence[int]) -> str:
    every = [t for group in groups for t in group.trajectories]
    shown = ", ".join(_name(every[i]) for i in episodes[:3])
    return shown + (f" and {len(episodes) - 3} more" if len(episodes) > 3 else "")


def _name(trajectory: Trajectory) -> str:
    task = trajectory.task
    return f"{task.env} task {task.index} ({task.split}), rollout {trajectory.sample}"
