"""The errors of Turnhalle: one root, and a subclass for each boundary a failure can cross.

Every subclass also inherits the built-in that a caller would catch anyway, so `except ValueError`
around a wrong argument works without knowing this module.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from gymnasium.error import ResetNeeded


class TurnhalleError(Exception):
    """Root of every error that Turnhalle raises on purpose."""

    boundary = "turnhalle"


class ConfigError(TurnhalleError, ValueError):
    """An option, recipe or combination of options that cannot work."""

    boundary = "config"


class UnknownNameError(ConfigError, LookupError):
    """A name (environment, recipe, policy, key) that nothing answers to."""


class TaskError(TurnhalleError, ValueError):
    """A task that cannot be drawn: unknown split, family too small, instance that is no JSON."""

    boundary = "task"


class EnvError(TurnhalleError, RuntimeError):
    """A bug in an environment; names the task so that it can be replayed."""

    boundary = "environment"


class EnvTimeoutError(EnvError, TimeoutError):
    """An environment that did not answer in time."""


class OutsideError(EnvError):
    """Something outside this process failed: never the agent's fault, so the episode is masked."""

    boundary = "outside"


class EndpointError(OutsideError):
    """An OpenAI-compatible endpoint that cannot be reached, or answers what cannot be read."""

    boundary = "endpoint"


class JudgeError(OutsideError):
    """A judge that gave no verdict; a verdict is never guessed."""

    boundary = "judge"


class SimulatorError(OutsideError):
    """A simulated user that failed, or broke its role."""

    boundary = "simulated user"


class SandboxError(OutsideError):
    """A sandbox that failed by itself, twice; what a candidate did in it is never an error."""

    boundary = "sandbox"


class SandboxUnavailableError(SandboxError):
    """No way to contain code on this machine; names what was probed and how to mend it."""


class RewardError(EnvError):
    """A reward that is not finite, leaves its range, or lacks what it needs."""

    boundary = "reward"


class DataError(TurnhalleError, ValueError):
    """A data file with a row that cannot be used; names file, line and field."""

    boundary = "data"


class EpisodeOverError(TurnhalleError, ResetNeeded):
    """`step` was called before `reset` or after the end of the episode."""

    boundary = "environment"


class InterruptedRunError(TurnhalleError):
    """Whoever started a run asked it to stop; unfinished episodes are dropped."""

    def __init__(self, message: str, finished: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.finished = list(finished)
        """The trajectories that were finished, where a rollout was interrupted."""


class ModelError(TurnhalleError, ValueError):
    """A model, tokenizer or chat template that cannot be used as asked."""

    boundary = "model"


class EngineError(TurnhalleError, RuntimeError):
    """An engine that failed, or whose log-probs are not those of the trainer."""

    boundary = "engine"


class DivergedError(TurnhalleError, ArithmeticError):
    """Training whose numbers are none: nothing sensible can come of going on."""

    boundary = "training"


class RankError(TurnhalleError, ConnectionError):
    """Another process of the run ended, or did not answer in time."""

    boundary = "ranks"


class StoreError(TurnhalleError, OSError):
    """A run folder that cannot be created, opened or resumed."""

    boundary = "store"


def positive(name: str, value: Any) -> int:
    """Refuse what is no integer of at least 1.

    Raises:
        ConfigError: It is something else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} must be an integer of at least 1, got {value!r}")
    return value


def chosen(
    kind: str, given: str | Sequence[str] | None, known: Collection[str]
) -> list[str] | None:
    """The names that an option takes: one, or several; None stays None.

    Raises:
        ConfigError: None at all in a list.
        UnknownNameError: A name that is not known.
    """
    if given is None:
        return None
    names = [given] if isinstance(given, str) else list(given)
    if not names:
        raise ConfigError(f"no {kind} in {given!r}; choose from {', '.join(known)}")
    for name in names:
        if name not in known:
            raise unknown_name(kind, str(name), known)
    return names


def unknown_name(
    kind: str, given: object, allowed: Iterable[str], hint: str = ""
) -> UnknownNameError:
    """Build the error for an unknown name: what was given, what exists, the closest match.

    What was given may be no text at all: a user's option can be anything.
    """
    names = sorted(allowed)
    close = get_close_matches(str(given).lower(), [name.lower() for name in names], n=1, cutoff=0.5)
    suggestion = next((name for name in names if close and name.lower() == close[0]), None)
    message = f"unknown {kind} {given!r}"
    message += f"; did you mean {suggestion!r}?" if suggestion else "."
    message += f" Known: {', '.join(names) or 'none'}."
    if hint:
        message += f" {hint}"
    return UnknownNameError(message)
