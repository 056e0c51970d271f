"""The tier as the pool sees it: boxes that are containers, and what they give and lack."""

from __future__ import annotations

import base64
import itertools
import platform
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ...errors import SandboxUnavailableError as Unavailable
from ..box import Box, BoxLost, Meter, Tier
from ..core import PER_PROCESS, Isolation, Limits
from ..seccomp import program
from .client import connect
from .container import Container, Guest, Shape
from .owner import remove_all, remove_orphans
from .supply import Supply

if TYPE_CHECKING:
    from ..options import SandboxOptions

_UID_OFFSET = 10_000
"""Beyond the users of the tier bubblewrap, which may run beside it."""
_NUM_UIDS = 10_000


class DockerTier(Tier):
    """A container for every slot, used again until it is worn or something went wrong."""

    def __init__(self, options: SandboxOptions) -> None:
        """Connect, look for the image, remove what dead owners left.

        Raises:
            SandboxUnavailableError: There is no daemon, no image, or no such runtime.
            ConfigError: The package docker is not installed.
        """
        self._client = connect()
        _require(self._client, options)
        remove_orphans(self._client)
        is_fresh = options.docker.fresh
        self.recycle_after = 1 if is_fresh else options.recycle_after
        info = self._client.info()
        seccomp, gaps = _filter(info)
        python, preload = options.python or "python3", tuple(options.preloaded())
        counts = bool(info["PidsLimit"])
        self._guest = Guest(options.docker, python, preload, seccomp, counts, uuid4().hex)
        self._uids = itertools.count()
        self._first_uid = options.first_uid + _UID_OFFSET
        self._supply = Supply(self._make, num_spare=options.num_slots() if is_fresh else 1)
        self.isolation = Isolation("docker", (*gaps, *_gaps(info)))

    def make_box(self) -> Box:
        """See `Tier.make_box`."""
        return DockerBox(self._supply)

    def close(self) -> None:
        """End the spare containers too, and whatever is left by label."""
        self._supply.close()
        remove_all(self._client, self._guest.sandbox)
        self._client.close()

    def _make(self, shape: Shape) -> Container:
        uid = self._first_uid + next(self._uids) % _NUM_UIDS
        return Container(self._client, self._guest, shape, uid)


class DockerBox(Box):
    """A container, replaced when limits come that it was not made for."""

    def __init__(self, supply: Supply) -> None:
        """Take containers from a supply."""
        self._supply = supply
        self._container: Container | None = None

    def start(self) -> None:
        """See `Box.start`."""
        self._container = self._supply.take()

    def prepare(self, limits: Limits) -> None:
        """Replace the container if its limits are others."""
        shape = Shape.of(limits)
        if self._container is None or self._container.shape != shape:
            self.end()
            self._container = self._supply.take(shape)
        self._container.meter.begin()

    def measure(self) -> Meter:
        """See `Box.measure`."""
        return self._now().meter.read()

    def send(self, data: bytes, deadline: float) -> None:
        """See `Box.send`."""
        self._now().stream.send(data, deadline)

    def receive(self, deadline: float) -> bytes:
        """See `Box.receive`."""
        return self._now().stream.receive(deadline)

    def end(self) -> None:
        """See `Box.end`."""
        if self._container is not None:
            container, self._container = self._container, None
            self._supply.give_back(container)

    def _now(self) -> Container:
        if self._container is None:
            raise BoxLost("it was ended")
        return self._container


def _require(client: Any, options: SandboxOptions) -> None:
    import docker

    image, runtime = options.docker.image, options.docker.runtime
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        raise Unavailable(
            f"Docker runs, but has no image {image!r}. Make it: `turnhalle sandbox image`, or "
            "name another with a full Python 3."
        ) from None
    known = client.info()["Runtimes"]
    if runtime is not None and runtime not in known:
        raise Unavailable(f"the daemon knows no runtime {runtime!r}, only {', '.join(known)}")


def _filter(info: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """The candidate's filter of system calls in base64, and what is missing of one."""
    if info["Architecture"] == platform.machine():
        try:
            return base64.b64encode(program(True)).decode(), ()
        except Unavailable as error:
            problem = str(error)
    else:
        problem = f"the daemon's machine is {info['Architecture']}, this one {platform.machine()}"
    theirs = [text for text in info["SecurityOptions"] or [] if text.startswith("name=seccomp")]
    which = "Docker's own profile" if theirs and "unconfined" not in theirs[0] else "nothing"
    return None, (f"system calls are filtered by {which} only: {problem}",)


def _gaps(info: dict[str, Any]) -> tuple[str, ...]:
    """What this daemon cannot give, from what it says of itself."""
    missing = {
        "MemoryLimit": PER_PROCESS,
        "SwapLimit": "swap is not limited",
        "PidsLimit": "processes are not limited",
        "CpuCfsQuota": "cores are not limited",
    }
    return tuple(what for key, what in missing.items() if not info[key])
