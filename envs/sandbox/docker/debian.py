"""A root folder of Debian with Python, packed so that the same packages give the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import SandboxUnavailableError as Unavailable

MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"
_DROPPED = (
    "etc/machine-id",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache",
    "var/lib/apt",
    "var/log",
)
"""Not needed to run Python, and most differ from one build to the next."""


@contextmanager
def make_root(mirror: str, say: Callable[[str], None]) -> Iterator[Path]:
    """Give the path of a tar file with the root folder, which lasts as long as the context.

    Raises:
        SandboxUnavailableError: If this user is not root, debootstrap is not installed, the mirror
            does not answer or a package fails.
    """
    _require(mirror)
    with tempfile.TemporaryDirectory(prefix="turnhalle-image-") as name:
        folder = Path(name)
        say(f"building a root folder with Python from {mirror} (a minute)")
        started_at = time.time()
        _debootstrap(folder / "root", mirror)
        yield _pack(folder / "root", folder / "root.tar", started_at)


def _require(mirror: str) -> None:
    import httpx

    if os.geteuid() != 0:
        raise Unavailable(
            "debootstrap needs root. Run `sudo turnhalle sandbox image`, or take an image that is "
            "here: `turnhalle sandbox image --from NAME`."
        )
    if shutil.which("debootstrap") is None:
        raise Unavailable("debootstrap is not installed (Debian: `apt-get install debootstrap`).")
    release = f"{mirror}/dists/{SUITE}/InRelease"
    try:
        httpx.head(release, timeout=20, follow_redirects=True).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(
            f"no mirror of Debian at {mirror} ({error}). Name another with --mirror URL."
        ) from error


def _debootstrap(root: Path, mirror: str) -> None:
    command = ["debootstrap", "--variant=minbase", "--include=python3", SUITE, str(root), mirror]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        log = root / "debootstrap" / "debootstrap.log"
        more = log.read_text(errors="replace")[-800:] if log.is_file() else ""
        raise Unavailable(
            f"debootstrap failed with code {done.returncode}; the folder may lack devices or "
            f"executables (set TMPDIR to another).\n{(done.stdout + done.stderr)[-800:]}\n{more}"
        )


def _pack(root: Path, archive: Path, started_at: float) -> Path:
    """Pack a root folder, in order, without what is not needed and without setuid bits.

    Files that a package brought keep their time, for Python compares it with that in the compiled
    file; what was made during the build has none.
    """

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if info.name.startswith(_DROPPED) or info.name.endswith(".log"):
            return None
        info.mtime = 0 if info.mtime >= int(started_at) else info.mtime
        info.mode &= 0o1777
        info.uname = info.gname = ""
        return info

    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(root.iterdir()):  # a folder is added in the order of its names
            tar.add(path, arcname=path.name, filter=plain)
    return archive
