"""A warm interpreter that forks candidates, and never sees what is run.

It is forked from the supervisor before the first request, and reads nothing but orders: so its
memory, which every candidate inherits, holds nothing of any run.
"""

from __future__ import annotations

import gc
import importlib
import os
import random
import socket
from typing import Any

from . import attendant, driver, isolate, linux


def main(link: socket.socket, config: dict[str, Any]) -> None:
    """Fork a candidate at every order, until nobody is there to give one."""
    linux.die_with_parent()
    linux.adopt_orphans()
    for name in config["preload"]:
        importlib.import_module(name)
    driver.dress(config["workdir"])
    random.seed(0)
    own_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY) if config["namespaces"] else -1
    gc.collect()
    gc.freeze()
    earlier = 0
    while True:
        order, fds, _, _ = socket.recv_fds(link, attendant.ORDER.size, attendant.NUM_FDS)
        if not order:
            return
        try:
            if config["is_alone"]:
                attendant.attend(config, fds)
                continue
            if config["namespaces"]:
                isolate.enter_new_pid_namespace(own_namespace)
            child = linux.fork()
        except OSError as error:
            attendant.fail(fds[attendant.REPORT], error)
            raise
        if child == 0:
            attendant.attend_apart(config, attendant.ORDER.unpack(order)[0], fds)
        for fd in fds:
            os.close(fd)
        if earlier:
            os.waitpid(earlier, 0)  # its report said that it would end
        earlier = child
