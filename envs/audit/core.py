"""What the audit is made of: a subject, the checks in their order, and what each of them found.

A check is a function of the subject. It plays real episodes, raises `FaultError` where the
environment is at fault, and returns what it saw in one line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from ..env import TextEnv
from ..errors import ConfigError, TurnhalleError, unknown_name
from ..registry import EnvFactory
from .play import Act, Episode, play

Verdict = Literal["ok", "failed", "unchecked"]
QUICK_S = 3.0
"""Seconds of a quick check of a world that is slow: a server, a sandbox."""
_FEWEST = 10
"""Episodes that any check plays."""


class FaultError(TurnhalleError, AssertionError):
    """What the environment does wrong; the message is the finding."""

    boundary = "environment"


class UncheckedError(TurnhalleError):
    """The check does not apply, or the budget ended before it began; says which."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    check: str
    verdict: Verdict
    detail: str
    seconds: float

    @property
    def is_ok(self) -> bool:
        """Nothing is wrong, as far as was looked."""
        return self.verdict != "failed"


@dataclass(slots=True)
class Subject:
    """The environment under audit, and how much may be spent on it."""

    factory: EnvFactory
    is_quick: bool = False
    """A tenth of the episodes, and of a slow world no more than `QUICK_S` a check."""
    budget_s: float = float("inf")
    """Wall-clock seconds for the whole audit."""
    started: float = field(default_factory=time.monotonic)
    check_began: float = 0.0
    was_cut: str = ""
    """What ended the running check early, if anything did."""
    idle: list[TextEnv] = field(default_factory=list)
    """Environments with a server of their own that wait for another episode."""

    def env(self) -> TextEnv:
        """A new environment."""
        return self.factory()

    @contextmanager
    def lent(self) -> Iterator[TextEnv]:
        """An environment for one episode: a new one, or one that has played where each is costly.

        Environments outside this process (snapshot "none") may start a server each. That one which
        has played is like a new one is checked apart (`determinism`).
        """
        env = self.idle.pop() if self.idle else self.env()
        yield env
        if env.metadata["snapshot"] == "none":
            self.idle.append(env)

    def play(self, index: int, act: Act) -> Episode:
        """Play a task to its end."""
        with self.lent() as env:
            return play(env, index, act)

    def close(self) -> None:
        """Close what waits for another episode."""
        while self.idle:
            self.idle.pop().close()

    def many(self, full: int) -> Iterator[int]:
        """Count to `full`, to a tenth of it in a quick audit, or until the time is spent."""
        for index in range(max(_FEWEST, full // 10) if self.is_quick else full):
            if index and self.is_spent():
                self.was_cut = "the budget ended it early"
                return
            is_slow = self.is_quick and time.monotonic() - self.check_began > QUICK_S
            if index >= _FEWEST and is_slow:
                self.was_cut = f"a quick check ends after {QUICK_S:g} s"
                return
            yield index

    def is_spent(self) -> bool:
        """Is the budget used up?"""
        return time.monotonic() - self.started > self.budget_s


Check = Callable[[Subject], str]


def audit(subject: Subject, only: Collection[str] = ()) -> Iterator[Finding]:
    """Run every check in its order, or some; one that raises an error of ours has failed.

    Raises:
        UnknownNameError: No check of that name.
        ConfigError: The environment cannot be built with its options, so there is none to check.
    """
    from . import api, determinism, secrets, sturdiness, worth

    modules = (api, determinism, secrets, worth, sturdiness)
    checks = {name: check for module in modules for name, check in module.CHECKS.items()}
    for name in only:
        if name not in checks:
            raise unknown_name("check", name, checks)
    _require_built(subject)
    try:
        for name in checks:
            if name in (only or checks):
                yield _run(name, checks[name], subject)
    finally:
        subject.close()


def _require_built(subject: Subject) -> None:
    """Options that do not fit are one mistake of the user's, not twenty findings."""
    try:
        subject.env().close()
    except ConfigError:
        raise
    except Exception:
        pass  # a bug of the author's: each check that meets it will say so


def _run(name: str, check: Check, subject: Subject) -> Finding:
    began, verdict = time.monotonic(), "ok"
    subject.check_began, subject.was_cut = began, ""
    try:
        if subject.is_spent():
            raise UncheckedError("the budget was spent before")
        detail = check(subject)
    except UncheckedError as error:
        verdict, detail = "unchecked", str(error)
    except (TurnhalleError, AssertionError, NotImplementedError) as error:
        verdict, detail = "failed", str(error) or type(error).__name__
    except Exception as error:  # a bug of the author's is a finding, not the end of the audit
        verdict, detail = "failed", f"{type(error).__name__}: {error}"
    if subject.was_cut and verdict == "ok":
        detail += f" ({subject.was_cut})"
    return Finding(name, verdict, detail, time.monotonic() - began)  # type: ignore[arg-type]
