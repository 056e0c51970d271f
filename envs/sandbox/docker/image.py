"""The image that containers are made of: any with a full Python 3.

Without a registry one is made from a mirror of Debian, with debootstrap and `docker import`. It
holds Debian's essential packages and Python, no file with a setuid bit and nothing of any task.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import SandboxUnavailableError as Unavailable
from .debian import MIRROR, SUITE, make_root
from .options import IMAGE

if TYPE_CHECKING:
    from docker.client import DockerClient

LABEL = "turnhalle.sandbox.image"
"""Says where an image of ours comes from."""
PULLED = "python:3.12-slim"

_IMPORTS = (
    "bisect, collections, ctypes, decimal, fractions, functools, heapq, itertools, json, math, "
    "multiprocessing, random, re, resource, signal, socket, statistics, string, typing, unittest"
)
"""A few that Debian's `python3-minimal` lacks, so that half a Python is refused at once."""

Say = Callable[[str], None]


def ensure_image(
    client: DockerClient, *, source: str = "auto", mirror: str = MIRROR, say: Say = print
) -> str:
    """Make the image where it is missing.

    Args:
        client: The daemon.
        source: "auto" pulls `python:3.12-slim` and, where no registry answers, builds from Debian;
            "debian" builds; anything else is the name of an image to pull or found here.
        mirror: URL of a mirror of Debian.
        say: Told what goes on.

    Returns:
        "Where the image comes from", its label.

    Raises:
        SandboxUnavailableError: If there is no way to an image; says what each way lacks.
    """
    if source == "auto":
        return _ensure_any(client, mirror, say)
    if source == "debian":
        return _build(client, mirror, say)
    return _adopt(client, source, say)


def find_image(client: DockerClient) -> str | None:
    """The label of the image that is here, None where there is none."""
    import docker

    try:
        labels = client.images.get(IMAGE).labels
    except docker.errors.ImageNotFound:
        return None
    return str(labels.get(LABEL, "unknown"))


def _ensure_any(client: DockerClient, mirror: str, say: Say) -> str:
    try:
        return _adopt(client, PULLED, say)
    except Unavailable as no_registry:
        say(f"{no_registry} Building one from Debian instead.")
        try:
            return _build(client, mirror, say)
        except Unavailable as no_mirror:
            raise Unavailable(f"{no_registry} Nor can one be built: {no_mirror}") from no_mirror


def _adopt(client: DockerClient, name: str, say: Say) -> str:
    """Pull an image, unless it is here, and give it our name and label."""
    import docker

    try:
        client.images.get(name)
    except docker.errors.ImageNotFound:
        say(f"pulling {name}")
        try:
            client.images.pull(name)
        except docker.errors.APIError as error:
            raise Unavailable(f"the image {name} cannot be pulled: {error.explanation}.") from error
    recipe = io.BytesIO(f'FROM {name}\nLABEL {LABEL}="{name}"\n'.encode())
    client.images.build(fileobj=recipe, tag=IMAGE, rm=True)
    return _checked(client, name)


def _build(client: DockerClient, mirror: str, say: Say) -> str:
    """Make the image from Debian's packages."""
    origin = f"debian {SUITE}"
    with make_root(mirror, say) as archive:
        say("importing it")
        repository, tag = IMAGE.split(":")
        client.api.import_image_from_file(
            str(archive), repository, tag, changes=[f'LABEL {LABEL}="{origin}"']
        )
    return _checked(client, origin)


def _checked(client: DockerClient, origin: str) -> str:
    """Start the image's Python once; an image without a whole one loses our name."""
    import docker

    options: dict[str, Any] = {"network_mode": "none", "remove": True, "read_only": True}
    command = [
        "python3",
        "-I",
        "-S",
        "-c",
        f"import sys, {_IMPORTS}; assert sys.version_info >= (3, 10), sys.version",
    ]
    try:
        client.containers.run(IMAGE, command, entrypoint=[], **options)
    except (docker.errors.ContainerError, docker.errors.APIError) as error:
        client.images.remove(IMAGE, force=True)
        raise Unavailable(
            f"the image from {origin} has no full Python 3 (of at least 3.10) on its PATH: {error}"
        ) from error
    return origin
