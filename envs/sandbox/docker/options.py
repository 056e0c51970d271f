"""Options of the Docker tier."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

IMAGE = "turnhalle/sandbox:1"
"""What `turnhalle sandbox image` makes; the number is that of the recipe."""


class DockerOptions(BaseModel):
    """How containers are made."""

    model_config = ConfigDict(extra="forbid")

    image: str = IMAGE
    """Any image with a full Python 3."""
    fresh: bool = False
    """A container of its own for every run, instead of one that is used again."""
    runtime: str | None = None
    """A runtime that the daemon knows, e.g. "runsc" (gVisor); None is the daemon's default."""
    cpus: float = Field(1.0, gt=0)
    """Cores that one container may use."""
