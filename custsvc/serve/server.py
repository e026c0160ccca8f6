"""Runs the API: granian, with several processes of several threads each, on one port.

The main process serves nothing. It refuses settings that cannot work (an exposed port without keys, a taken
port) before any worker starts, replaces a crashed worker, and on SIGTERM lets current requests finish. Each
worker builds its own app after it was spawned, so no connection is ever shared between processes.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from ..accounts.keys import check_exposure
from ..config import Settings
from ..errors import ConfigurationError
from ..http.heads import HEAD_MAX
from ..http.limit import table
from ..http.starting import Starting
from ..runtime import logs, temporary, tracing
from ..runtime.gc import spare_batches
from ..runtime.metrics import METRICS_FOLDER
from ..runtime.printable import host_port
from ..runtime.shared import Flag
from .bodies import asking_most
from .starting import follow

if TYPE_CHECKING:
    from flask import Flask

    from ..stores.prepare import Preparing

logger = logging.getLogger(__name__)

ROLE: Final = "serve"
# Seconds for current requests to finish; the whole stop must take at most ten.
STOP_WITHIN: Final = 8
# A client must send the head of its request within this time (also the next one on the same connection).
_HEADER_TIMEOUT_MS: Final = 15_000
# A longer head is refused (431) by granian; one between this and the app's own limit by the app.
_HEAD_MAX: Final = 2 * HEAD_MAX
# Most connections of a worker, idle ones included. More wait in the kernel's queue.
_CONNECTIONS_MAX: Final = 2048
# A client that reads nothing of an answer is disconnected after this many times the body timeout.
_STALLS: Final = 4
_PARENT_CHECK: Final = 0.5
# Workers whose main process was killed hold the port until they notice; a service manager may be faster.
_PORT_WITHIN: Final = 3.0
_STOP_CHECK: Final = 0.2

_GRANIAN_LOG: Final = {
    "loggers": {
        "_granian": {"handlers": [], "propagate": True},
        "granian.access": {"handlers": [], "propagate": False},
    }
}


def serve(settings: Settings, opening: Preparing | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigurationError before it starts any process.

    While the database is `opening`, probes are answered and other requests get 503 with the reason; the
    server ends if that fails.
    """
    check_exposure(settings.auth, settings.http_host)
    check_port(settings.http_host, settings.http_port)
    temporary.use()
    # Spawn, not fork: a fork would copy locks that other threads hold at that moment.
    multiprocessing.set_start_method("spawn", force=True)
    server = _Server(
        target="custsvc",
        address=settings.http_host,
        port=settings.http_port,
        interface=Interfaces.WSGI,
        # Where HTTP/2 is an option, granian waits without a limit for the first bytes of a connection, and
        # for readers of HTTP/2: clients could occupy all connections, and all threads that write answers.
        http=HTTPModes.http1,
        workers=settings.workers,
        blocking_threads=_threads(settings),
        blocking_threads_idle_timeout=600,
        backpressure=_CONNECTIONS_MAX,
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_TIMEOUT_MS, max_buffer_size=_HEAD_MAX),
        log_level=LogLevels.error,
        log_dictconfig=_GRANIAN_LOG,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_WITHIN,
    )
    # The workers write their counts to files in this folder, which their environment names.
    folder = tempfile.TemporaryDirectory(prefix="custsvc-metrics-")
    os.environ[METRICS_FOLDER] = folder.name
    server.outlives = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    server.stopping = stopping = Flag(1, Path(folder.name) / "stopping")
    url = f"http://{host_port(settings.http_host, settings.http_port)}"
    logger.info("Serving the API at %s", url, extra={"action": "serving", "workers": settings.workers})
    starting = Starting(settings.backend, Path(folder.name) / "starting")
    if opening is not None:
        follow(opening, starting, server.signal_handler_interrupt)
    with table(folder.name) as counts:
        load = partial(_load, settings, os.getpid(), stopping, starting, counts.name)
        server.serve(target_loader=load, wrap_loader=False)
    folder.cleanup()
    logger.info("Stopped", extra={"action": "stopped"})


def _threads(settings: Settings) -> int:
    """Most threads of a worker: one for each lane, awaited body and check of a sender, and one more.

    They start when needed.
    """
    return settings.threads + settings.slow_bodies + asking_most(settings.slow_bodies) + 1


class _Server(Granian):  # type: ignore[misc, valid-type]
    """Granian, but a worker that ends first, when a service manager stops all processes, is not a failure."""

    stopping: Flag
    outlives: bool  # its terminal

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        # Event streams never end by themselves, and a worker waits for its current answers.
        self.stopping.raise_()
        super().signal_handler_interrupt(*args, **kwargs)

    def signal_handler_reload(self, *args: Any, **kwargs: Any) -> None:
        # A terminal that is closed ends the server, as it ends other roles; under nohup it does not.
        if not self.outlives:
            self.signal_handler_interrupt(*args, **kwargs)

    def shutdown(self, exit_code: int = 0) -> None:
        try:
            super().shutdown(exit_code)
        except SystemExit:
            if not self.interrupt_signal:
                raise


def check_port(host: str, port: int) -> None:
    """Raise ConfigurationError if it is impossible to listen on the address, now and for some seconds.

    The workers share the port, so they would also silently share that of another server of ours.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as exc:
        raise ConfigurationError(f"there is no host {host}", fix="correct CUSTSVC_HTTP_HOST") from exc
    deadline = time.monotonic() + _PORT_WITHIN
    while True:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
                probe.listen()
                return
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise _cannot_listen(host, port, exc) from exc
        time.sleep(0.1)


def _cannot_listen(host: str, port: int, exc: OSError) -> ConfigurationError:
    if exc.errno == errno.EADDRINUSE:
        return ConfigurationError(
            f"port {port} on {host} is in use",
            fix=f"stop what listens there, or choose another port: custsvc serve --port {port + 1}",
        )
    return ConfigurationError(
        f"cannot listen on {host_port(host, port)} ({exc.strerror})",
        fix="set CUSTSVC_HTTP_HOST to an address of this machine and CUSTSVC_HTTP_PORT to a port above 1023",
    )


def _load(settings: Settings, parent: int, stopping: Flag, starting: Starting, limit_table: str) -> Flask:
    """Build the app of a worker, in that worker."""
    # Ctrl-C on a terminal reaches the whole process group, and a worker that stops first looks like a crash
    # to the main process. So workers leave the group, and stop when the main process stops them.
    os.setpgid(0, 0)
    exit_with(parent)
    logs.set_up(settings.log_level, settings.log_format, ROLE)
    from ..http import refusals
    from ..web import reset_mail
    from ..web.access import EXTENSION as PAGES
    from . import access_log
    from .admission import known, question
    from .app import build
    from .bodies import Bodies, Call
    from .carrier import carry_streams
    from .lanes import Lanes
    from .purge import keep_purging
    from .sockets import watch_connections

    tracing.start(settings, ROLE)
    lanes = Lanes(settings.threads, _threads(settings), settings.queue_timeout)
    app = build(settings, limit_table=limit_table, starting=starting)
    if access_log.access_log(settings) is not None:
        refusals.on_refusal = access_log.refused
    if not settings.read_only:
        keep_purging(app.extensions["custsvc"].store, settings)
    if reset_mail.is_set_up(settings):
        reset_mail.keep_mailing(app.extensions["custsvc"].store, settings, app.extensions[PAGES].reset_bell)
    look = known(settings, app.extensions["custsvc"].keys)

    def prepare(call: Call) -> Call:
        ask = question(lanes.brief(call))
        bodies = Bodies(
            settings.slow_bodies, settings.body_timeout, lanes.relieve, lanes.is_worth_waiting, look, ask
        )
        return lanes.serve(bodies.wrap(lanes.wrap(call)))

    carry_streams(prepare)
    watch_connections(settings.http_port, settings.body_timeout * _STALLS)
    spare_batches()
    threading.Thread(target=_close_streams, args=(app, stopping), name="stop-watch", daemon=True).start()
    return app


def _close_streams(app: Flask, stopping: Flag) -> None:
    while not stopping.is_raised():
        time.sleep(_STOP_CHECK)
    app.extensions["custsvc"].feed.close()


def exit_with(parent: int) -> None:
    """End this process when `parent` ends for any reason: an orphan would hold the port."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
