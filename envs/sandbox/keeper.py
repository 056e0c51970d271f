"""The host's end of the warden: start and end processes that are gone when the host is."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import SandboxError
from .bundle import ENVIRONMENT, bundle, command

_ANSWER_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Started:
    """A process and the host's ends of its descriptors."""

    pid: int
    control: socket.socket
    errors: int
    """Reads what it writes to its standard error."""

    def close(self) -> None:
        """Close this end; the process is ended by the keeper."""
        self.control.close()
        os.close(self.errors)


class _WardenGoneError(SandboxError):
    """The warden was killed; the next order starts another."""


class Keeper:
    """One warden; thread-safe. It is started at once, and again at an order if it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._warden: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._launch()

    def start(
        self,
        argv: Sequence[str],
        *,
        uid: int | None = None,
        cgroups: Iterable[str] = (),
        remains: Iterable[str] = (),
    ) -> Started:
        """Start a process with an empty environment and a socket as descriptor 3.

        Args:
            argv: The command; its first part is an absolute path.
            uid: The user and group it becomes first; None stays.
            cgroups: Folders of cgroups it enters first.
            remains: Folders and cgroups to remove should the host end without doing so.

        Raises:
            SandboxError: The warden is gone, or could not fork.
        """
        ours, theirs = socket.socketpair()
        errors, errors_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        order = {
            "do": "start",
            "argv": list(argv),
            "env": ENVIRONMENT,
            "uid": uid,
            "cgroups": list(cgroups),
            "remains": list(remains),
        }
        try:
            answer = self._ask(order, [theirs.fileno(), errors_end])
        except BaseException:
            ours.close()
            os.close(errors)
            raise
        finally:
            theirs.close()
            os.close(errors_end)
        return Started(answer["pid"], ours, errors)

    def end(self, pid: int) -> None:
        """Kill a process and all below it, and wait until they are gone.

        Raises:
            SandboxError: Some would not die.
        """
        try:
            left = self._ask({"do": "end", "pid": pid})["left"]
        except _WardenGoneError:
            return  # and all that it started with it, by PR_SET_PDEATHSIG
        if left:
            raise SandboxError(f"{left} processes of a box outlived SIGKILL by 5 s")

    def remove(self, paths: Iterable[str]) -> None:
        """Remove folders and cgroups, with the warden's rights.

        Raises:
            SandboxError: The warden is gone.
        """
        self._ask({"do": "remove", "paths": list(paths)})

    def close(self) -> None:
        """End the warden, which ends all that it started."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._socket is not None and self._warden is not None:
            self._socket.close()
            try:
                self._warden.wait(timeout=_ANSWER_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._warden.kill()
                self._warden.wait()
        self._socket = self._warden = None

    def _ask(self, order: dict[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        with self._lock:
            link, reason = self._socket or self._launch(), "it ended"
            try:
                socket.send_fds(link, [json.dumps(order).encode()], list(fds))
                data = link.recv(2**16)
            except OSError as error:
                data, reason = b"", str(error)
            except BaseException:
                self._close()  # interrupted: the answer would be taken for that of the next order
                raise
            if not data:
                self._close()
                raise _WardenGoneError(f"the process that keeps the boxes is gone: {reason}")
        answer: dict[str, Any] = json.loads(data)
        if "error" in answer:
            raise SandboxError(f"a box could not be handled: {answer['error']}")
        return answer

    def _launch(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The bundle goes through a pipe: a packet socket would cut it.
        read_fd, write_fd = os.pipe()
        fd = theirs.fileno()
        self._warden = subprocess.Popen(
            command(sys.executable, read_fd, fd),
            pass_fds=(read_fd, fd),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=ENVIRONMENT,
            cwd="/",
        )
        os.close(read_fd)
        theirs.close()
        with open(write_fd, "wb") as pipe:
            pipe.write(bundle("warden", {"host": os.getpid()}))
        ours.settimeout(_ANSWER_TIMEOUT_S)
        self._socket = ours
        return ours
