"""Chooses loopback ports; callers remember them, and they change only if another process has taken them."""

from __future__ import annotations

import random
import socket
from collections.abc import Container

from custsvc.runtime.extras import needs

HOST = "127.0.0.1"

# Below the range of ephemeral ports (from 32768 on Linux, 49152 elsewhere), so that a port is still free when
# a stopped server starts again.
_FIRST, _LAST = 20_000, 32_000

# Not the default generator, which gives the same ports to forked processes and to those with the same seed.
_random = random.SystemRandom()


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose(remembered: int | None = None, *, other_than: Container[int | None] = ()) -> int:
    """The remembered port if it is free, else a free port that is not in `other_than`."""
    if remembered is not None and is_free(remembered):
        return remembered
    for port in _random.sample(range(_FIRST, _LAST), _LAST - _FIRST):
        if port not in other_than and is_free(port):
            return port
    raise OSError(f"no free port between {_FIRST} and {_LAST} on {HOST}")


def taken_by(port: int) -> str:
    """` by NAME (pid N)` for the process that listens on a port; "" if the system does not show it."""
    with needs("local"):
        import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return ""
    return ""


def answers(port: int, host: str = HOST) -> bool:
    """Whether something accepts connections on this port."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
