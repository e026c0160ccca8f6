"""Socket options of a worker's connections: the kernel ends those whose client is gone, or reads nothing.

Granian opens the listening socket and has no such options, but accepted connections inherit the options of
that socket. So this module finds it among the process's open files, once it exists.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

_LOOK_EVERY: Final = 0.1
_LOOK_FOR: Final = 60.0
# TCP keepalive notices after two minutes that a client's machine or network is gone.
_IDLE_S: Final = 60
_PROBE_EVERY_S: Final = 15
_PROBES: Final = 4


def watch_connections(port: int, patience: float) -> None:
    """End new connections to this port on which the client reads nothing for `patience` seconds."""
    threading.Thread(target=_tune, args=(port, patience), name="listener", daemon=True).start()


def _tune(port: int, patience: float) -> None:
    until = time.monotonic() + _LOOK_FOR
    while time.monotonic() < until:
        if any(_tune_one(int(each.name), port, patience) for each in Path("/proc/self/fd").iterdir()):
            return
        time.sleep(_LOOK_EVERY)
    logger.warning("Connections of clients that went away are kept", extra={"action": "listener_not_found"})


def _tune_one(fd: int, port: int, patience: float) -> bool:
    """Set the options if this file is the listening socket; return whether it is."""
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as listener:
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        if listener.family not in (socket.AF_INET, socket.AF_INET6) or listener.getsockname()[1] != port:
            return False
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_EVERY_S)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(patience * 1000))
        return True
    return False
