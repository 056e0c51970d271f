"""The boxes of every tier that contains code; with TURNHALLE_CI=1 a missing tier is a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from turnhalle.envs.coding.grading.boxes import Boxes, close_boxes, shared_boxes
from turnhalle.envs.sandbox.options import SandboxOptions


@pytest.fixture(params=["bubblewrap", "docker"])
def tier(request: pytest.FixtureRequest, need_sandbox: Callable[..., None]) -> str:
    """A tier that this machine has; never "unsafe": attacks would meet this very machine."""
    need_sandbox(request.param)
    return str(request.param)


@pytest.fixture
def boxes(tier: str) -> Boxes:
    """The shared boxes of a tier, with two slots."""
    return shared_boxes(SandboxOptions(tier=tier, slots=2))  # type: ignore[arg-type]


@pytest.fixture(scope="session", autouse=True)
def closed_in_the_end() -> Iterator[None]:
    """No box outlives the tests."""
    yield
    close_boxes()
