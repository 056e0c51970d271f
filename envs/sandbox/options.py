"""Options of a sandbox, and the choice of its tier."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import SandboxError, SandboxUnavailableError
from .bundle import PRELOAD
from .core import Sandbox
from .docker.options import DockerOptions

if TYPE_CHECKING:
    from .box import Tier

TierName = Literal["bubblewrap", "docker", "landlock", "unsafe"]
_TIERS: dict[TierName, str] = {
    "bubblewrap": "bubblewrap:BubblewrapTier",
    "docker": "docker.tier:DockerTier",
    "landlock": "landlock:LandlockTier",
    "unsafe": "unsafe:UnsafeTier",
}
_AUTO: tuple[TierName, ...] = ("bubblewrap", "docker")
"""What "auto" may choose, best first: both contain. The others must be asked for by name."""


class SandboxOptions(BaseModel):
    """How programs are contained."""

    model_config = ConfigDict(extra="forbid")

    tier: Literal["auto", TierName] = "auto"
    """"auto" is the first of bubblewrap and docker that works here, or an error."""
    slots: int | None = Field(None, ge=1)
    """Programs that run at the same time; None is one for each core."""
    recycle_after: int = Field(200, ge=1)
    """Runs after which a box is replaced."""
    python: str | None = None
    """Path of the interpreter in the box; None looks for one that the box can read."""
    preload: list[str] = []
    """Modules imported before the first run, beside those of the standard library."""
    first_uid: int = Field(64000, ge=1000)
    """Where root starts boxes, each is a user of its own, of the 1,000 from here (Docker: of the
    10,000 from 10,000 beyond): nobody else may be."""
    docker: DockerOptions = DockerOptions()
    """For the tier "docker" alone."""
    allow_unsafe: bool = False
    """Half of what the tier "unsafe" asks for; the other half is an environment variable."""

    def preloaded(self) -> list[str]:
        """Every module that a zygote imports."""
        return [*PRELOAD, *self.preload]

    def num_slots(self) -> int:
        """Slots, counted."""
        return self.slots or len(os.sched_getaffinity(0))


def open_sandbox(options: SandboxOptions | None = None) -> Sandbox:
    """Open the sandbox that `options` ask for, with every box started.

    Raises:
        SandboxUnavailableError: This machine cannot contain code that way; says what was tried.
        ConfigError: Options that cannot work.
    """
    from .pool import PooledSandbox

    options = options or SandboxOptions()
    names = _AUTO if options.tier == "auto" else (options.tier,)
    reasons = []
    for name in names:
        try:
            sandbox = PooledSandbox(make_tier(name, options), options.num_slots())
        except SandboxUnavailableError as error:
            reasons.append(f"- {name}: {error}")
            continue
        try:
            sandbox.warm_up()
        except SandboxError as error:
            sandbox.close()
            reasons.append(f"- {name}: {error}")
            continue
        return sandbox
    raise SandboxUnavailableError(
        "no way to contain code on this machine. Tried:\n" + "\n".join(reasons) + "\n"
        "Remedies: install bubblewrap (apt-get install bubblewrap) and allow user namespaces; or "
        "start Docker; or, knowing its gaps (turnhalle sandbox doctor), ask for the tier "
        "'landlock' by name."
    )


def make_tier(name: TierName, options: SandboxOptions) -> Tier:
    """The tier of that name.

    Raises:
        SandboxUnavailableError: It does not work here; says why and what would help.
    """
    module, _, kind = _TIERS[name].partition(":")
    tier: Tier = getattr(import_module(f".{module}", __package__), kind)(options)
    return tier
