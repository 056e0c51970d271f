"""A sandbox of every tier that this machine has; with TURNHALLE_CI=1 a missing one is a failure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from turnhalle.envs.errors import SandboxUnavailableError
from turnhalle.envs.sandbox.core import Sandbox
from turnhalle.envs.sandbox.options import SandboxOptions, TierName, open_sandbox
from turnhalle.envs.sandbox.unsafe import VARIABLE

CONTAINING: tuple[TierName, ...] = ("bubblewrap", "docker")
"""Tiers that attacks are tried on. The others do not claim to hold them all."""

OpenTier = Callable[..., Sandbox]


def open_tier(tier: TierName, **options: Any) -> Sandbox:
    """Open a sandbox of one tier; skip, or fail in CI, where it is missing."""
    try:
        return open_sandbox(SandboxOptions(tier=tier, **options))
    except SandboxUnavailableError as error:
        missing = f"the tier {tier!r} is not available here: {error}"
        if os.environ.get("TURNHALLE_CI") == "1":
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture(scope="session", name="open_tier")
def _open_tier() -> OpenTier:
    return open_tier


@pytest.fixture(scope="session")
def opened() -> Iterator[dict[str, Sandbox]]:
    """Sandboxes that tests share, by tier."""
    sandboxes: dict[str, Sandbox] = {}
    yield sandboxes
    for sandbox in sandboxes.values():
        sandbox.close()


@pytest.fixture(params=CONTAINING)
def sandbox(request: pytest.FixtureRequest, opened: dict[str, Sandbox]) -> Sandbox:
    """A shared sandbox with one slot, of each containing tier."""
    if request.param not in opened:
        opened[request.param] = open_tier(request.param, slots=1)
    return opened[request.param]


@pytest.fixture(params=[*CONTAINING, "unsafe"])
def any_sandbox(
    request: pytest.FixtureRequest, opened: dict[str, Sandbox], allow_unsafe: None
) -> Sandbox:
    """The same, and the tier that contains nothing: for what has no need of walls."""
    if request.param not in opened:
        opened[request.param] = open_tier(
            request.param, slots=1, allow_unsafe=request.param == "unsafe"
        )
    return opened[request.param]


@pytest.fixture
def allow_unsafe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variable that the unsafe tier asks for, and no warning about it."""
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setattr("turnhalle.envs.sandbox.unsafe._has_warned", True)


@pytest.fixture(scope="session")
def need_tier() -> Callable[[TierName], None]:
    """Skip, or fail in CI, where a tier is missing."""
    known: set[str] = set()

    def need(tier: TierName) -> None:
        if tier not in known:
            open_tier(tier, slots=1).close()
            known.add(tier)

    return need
