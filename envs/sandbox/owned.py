"""Boxes that run as a user of their own and in a cgroup of their own, where both can be had."""

from __future__ import annotations

import os

from .box import Meter, StreamBox
from .cgroups import Cgroup, homes
from .core import Limits
from .keeper import Keeper
from .uids import Uid

OWN_PROCESSES = 3
"""Of a box's user, beside the candidate's: supervisor, zygote, attendant."""


class OwnedBox(StreamBox):
    """A box on this machine that holds a user and a cgroup, from its start to its end."""

    def __init__(self, keeper: Keeper) -> None:
        super().__init__(keeper)
        self._uid: Uid | None = None
        self._cgroup: Cgroup | None = None

    def _take(self, first_uid: int) -> tuple[int | None, list[str]]:
        """Take what can be had: the number of the user (root alone may), the cgroup's folders."""
        if os.geteuid() == 0:
            self._uid = Uid(first_uid)
        if homes():
            self._cgroup = Cgroup(f"turnhalle-{os.getpid()}-{id(self):x}")
            self._cgroup.prepare(Limits())
        uid = self._uid.number if self._uid else None
        return uid, self._cgroup.folders if self._cgroup else []

    def prepare(self, limits: Limits) -> None:
        """See `Box.prepare`."""
        if self._cgroup is not None:
            self._cgroup.prepare(limits)

    def measure(self) -> Meter:
        """See `Box.measure`."""
        return Meter() if self._cgroup is None else self._cgroup.measure()

    def end(self) -> None:
        """See `Box.end`."""
        super().end()
        if self._cgroup is not None:
            self._cgroup.remove()
            self._cgroup = None
        if self._uid is not None:
            self._uid.release()
            self._uid = None
