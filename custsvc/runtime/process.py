"""A role's tie to the supervisor that started it: when the supervisor is gone, the role goes too."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

logger = logging.getLogger(__name__)

PARENT_PID = "CUSTSVC_PARENT_PID"


def exit_with_parent(*, every_s: float = 0.5, grace_s: float = 10.0) -> threading.Thread | None:
    """Watch the process named by CUSTSVC_PARENT_PID, and end this one when it has died, even by kill -9.

    It ends by SIGTERM; if it still runs after `grace_s`, it is killed. Without the variable nothing is
    watched and None is returned.
    """
    parent = os.environ.get(PARENT_PID, "")
    if not parent.isdigit():
        return None
    watcher = threading.Thread(
        target=_watch, args=(int(parent), every_s, grace_s), name="exit-with-parent", daemon=True
    )
    watcher.start()
    return watcher


def _watch(parent: int, every_s: float, grace_s: float) -> None:
    # A dead parent's children get another parent at once, while its pid may stay as a zombie for long; a
    # process that is not its child can only check the pid.
    is_child = os.getppid() == parent
    while os.getppid() == parent if is_child else _exists(parent):
        time.sleep(every_s)
    logger.warning("The supervisor (pid %d) is gone, stopping", parent, extra={"action": "orphaned"})
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    os._exit(1)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
