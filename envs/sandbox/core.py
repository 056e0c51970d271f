"""What crosses the wall of a sandbox: a program and its limits in, data and measurements out.

A sandbox never returns a verdict. Whatever a candidate prints, returns or forges is data, which the
host compares with what it expected; no expected value ever enters the box.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Json = Any
"""A value of JSON's types."""

OnCall = Callable[[str, list[Json]], Json]
"""The host's end of a call that a program in the box makes: name and arguments to a value."""


class Status(StrEnum):
    """How a run ended; all but the last are the candidate's doing."""

    OK = "ok"
    """The program ended by itself: its value or its output is whole."""
    EXIT_NONZERO = "exit_nonzero"
    """It raised, or left with another code than 0."""
    SIGNAL = "signal"
    """A signal killed it that no limit of ours sent: a crash."""
    TIMEOUT_CPU = "timeout_cpu"
    TIMEOUT_WALL = "timeout_wall"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output_limit"
    PROC_LIMIT = "proc_limit"
    """It failed after the system refused it another process or thread."""
    NO_RESULT = "no_result"
    """It ended with code 0 but returned no value where one was asked for."""
    BAD_RESULT = "bad_result"
    """What it returned is no value: malformed, too large, too deep, of a type of its own."""
    SANDBOX_ERROR = "sandbox_error"
    """Ours: retried once, then the episode is masked."""

    @property
    def ended_by_itself(self) -> bool:
        """Did the program come to its own end, by no signal and at no limit?"""
        return self in (Status.OK, Status.EXIT_NONZERO, Status.NO_RESULT, Status.BAD_RESULT)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use."""

    cpu_s: float = 2.0
    """CPU-seconds; the limit that is fair under load."""
    wall_s: float = 10.0
    """Seconds from start to end; a backstop for those who sleep."""
    memory_bytes: int = 256 * 2**20
    output_bytes: int = 64 * 2**10
    """Of stdout and of stderr, each."""
    value_bytes: int = 2**20
    """Of the value returned, as JSON."""
    disk_bytes: int = 16 * 2**20
    """Of everything written to the box's own `/tmp`."""
    max_processes: int = 16
    """Processes and threads together."""
    max_open_files: int = 64


@dataclass(frozen=True, slots=True)
class Program:
    """What is run: a function of some code, or the code itself with an input."""

    code: str
    entry: str | None = None
    """Name of the function to call; None runs the code as a script."""
    args: tuple[Json, ...] = ()
    stdin: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run took, measured from outside the candidate's process."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    max_memory_bytes: int = 0
    num_left: int = 0
    """Processes that it did not wait for; those still alive were killed. A sign of something."""


PER_PROCESS = "memory limit is per process"
"""The gap of a tier that cannot bound the memory of a box's processes together."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """How a run was contained; part of every record."""

    tier: str
    """"bubblewrap", "docker", "landlock" or "unsafe"."""
    gaps: tuple[str, ...] = ()
    """What this machine could not give, e.g. `PER_PROCESS`."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came out of the box: data, never a verdict."""

    status: Status
    isolation: Isolation
    value: Json = None
    """What the entry returned, decoded to Python's own types; only with status `ok`."""
    stdout: str = ""
    stderr: str = ""
    exit_code: int | None = None
    signal: int | None = None
    usage: Usage = field(default_factory=Usage)
    flags: tuple[str, ...] = ()
    """Signs of tampering, for monitoring and never for reward: "extra_frames", "custom_type",
    "exit_at_import", "left_children" ..."""
    detail: str = ""
    """More about a status, e.g. why a value is bad."""


class Sandbox(ABC):
    """Runs programs, each in a fresh box. Thread-safe: runs beyond the slots wait in turn."""

    isolation: Isolation

    @abstractmethod
    def run(
        self, program: Program, limits: Limits | None = None, *, on_call: OnCall | None = None
    ) -> RunResult:
        """Run a program to its end or its limits.

        Args:
            program: What to run.
            limits: What it may use; None is the defaults of `Limits`.
            on_call: Answers calls of the builtin `call_host(name, *args)`, which the box then has;
                used for tests that are code and call a candidate living in another box. While the
                host answers, the run's wall clock goes on. An exception raised here is raised in
                the box as a `RuntimeError` with its text.
        """

    @abstractmethod
    def close(self) -> None:
        """End every box and whatever lives in it."""

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
