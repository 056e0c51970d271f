"""Prove what a sandbox holds against, by attacking it."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import SandboxError, SandboxUnavailableError
from .core import PER_PROCESS, Sandbox
from .options import SandboxOptions, TierName, open_sandbox
from .proof import Property
from .properties import PROPERTIES

Verdict = Literal["holds", "BROKEN", "not claimed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One property of one tier."""

    tier: str
    property: str
    verdict: Verdict
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Examination:
    """A tier, examined or unavailable."""

    tier: TierName
    unavailable: str
    """Why it was not examined; "" if it was."""
    gaps: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing that the tier claims is broken."""
        return all(finding.verdict != "BROKEN" for finding in self.findings)


def examine(tier: TierName, options: SandboxOptions) -> Examination:
    """Open a tier's sandbox and attack it."""
    try:
        sandbox = open_sandbox(options.model_copy(update={"tier": tier, "slots": 1}))
    except SandboxUnavailableError as error:
        return Examination(tier, str(error), (), ())
    with sandbox, _secrets() as known:
        findings = tuple(_examine(sandbox, each, known) for each in PROPERTIES)
        return Examination(tier, "", sandbox.isolation.gaps, findings)


def _examine(sandbox: Sandbox, property: Property, known: dict[str, str]) -> Finding:
    tier, started = sandbox.isolation.tier, time.monotonic()
    is_per_process = any(PER_PROCESS in gap for gap in sandbox.isolation.gaps)
    if tier in property.unclaimed or (property.needs_cgroup and is_per_process):
        return Finding(tier, property.name, "not claimed", "", 0.0)
    try:
        detail = property.examine(sandbox, known)
    except SandboxError as error:
        detail = f"the sandbox failed: {error}"
    verdict: Verdict = "BROKEN" if detail else "holds"
    return Finding(tier, property.name, verdict, detail, time.monotonic() - started)


@contextmanager
def _secrets() -> Iterator[dict[str, str]]:
    """What an attack may look for: a service, a file and a variable of the host, a marker."""
    marker = secrets.token_hex(16).encode()
    environment = Path("/proc/self/environ").read_bytes().split(b"\0")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        tempfile.NamedTemporaryFile(prefix="turnhalle-secret-") as file,
    ):
        file.write(b"secret")
        file.flush()
        os.chmod(file.name, 0o644)
        yield {
            "port": server.getsockname()[1],
            "secret_file": file.name,
            "home": os.path.expanduser("~"),
            "variable": max(environment, key=len)[:200].hex() or "00",
            "marker": marker.hex(),
            "masked": bytes(value ^ 255 for value in marker).hex(),
        }
