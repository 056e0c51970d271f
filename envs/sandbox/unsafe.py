"""The tier that contains nothing: a plain process of this machine, with limits and no walls.

For tests of what is built on a sandbox, and for people who know what they run. Both the option and
an environment variable are needed, and every record says "unsafe".
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings

from ..errors import ConfigError
from .box import Box, StreamBox, Tier
from .bundle import bundle, command, guest_config
from .core import PER_PROCESS, Isolation
from .keeper import Keeper, Started
from .options import SandboxOptions

VARIABLE = "TURNHALLE_ALLOW_UNSAFE_SANDBOX"
_GAPS = (
    "programs run as your own user and can read and change all that you can",
    "the network is open",
    PER_PROCESS,
    "processes are counted late",
)
_has_warned = False


class UnsafeTier(Tier):
    """Boxes that are none."""

    isolation = Isolation("unsafe", _GAPS)

    def __init__(self, options: SandboxOptions) -> None:
        if not options.allow_unsafe or os.environ.get(VARIABLE) != "1":
            raise ConfigError(
                "the tier 'unsafe' contains nothing: a program could do all that you can. Choose "
                "another tier, or set both the option allow_unsafe=True and the environment "
                f"variable {VARIABLE}=1"
            )
        _warn_once()
        self.recycle_after = options.recycle_after
        self._options = options
        self._keeper = Keeper()

    def make_box(self) -> Box:
        """See `Tier.make_box`."""
        return _UnsafeBox(self._keeper, self._options)

    def close(self) -> None:
        """End the keeper."""
        self._keeper.close()


def _warn_once() -> None:
    global _has_warned
    if not _has_warned:
        _has_warned = True
        warnings.warn(
            "the sandbox tier 'unsafe' contains nothing: run only code that you trust",
            RuntimeWarning,
            stacklevel=4,
        )


class _UnsafeBox(StreamBox):
    def __init__(self, keeper: Keeper, options: SandboxOptions) -> None:
        super().__init__(keeper)
        self._options = options
        self._folder: str | None = None

    def _launch(self) -> tuple[Started, bytes]:
        self._folder = tempfile.mkdtemp(prefix=f"turnhalle-{os.getpid()}-")
        python = self._options.python or sys.executable
        started = self._keeper.start(command(python, 3, 3), remains=[self._folder])
        config = guest_config(
            workdir=self._folder, wipe=[self._folder], preload=self._options.preloaded()
        )
        return started, bundle("supervisor", config)

    def end(self) -> None:
        super().end()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
