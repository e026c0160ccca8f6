"""Real servers without Docker or root: PostgreSQL, MongoDB, Kafka and a mail catcher, from wheels and jars.

`LocalServers` is the set of servers of one data folder; a role without addresses calls `join_or_start`. The
servers listen on loopback only and run detached; every process that names the same data folder shares them.
The import is cheap: the servers' modules are loaded on first use. Without the extra `local`, that raises
`custsvc.runtime.extras.NotInstalled`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .mail import Mailbox
    from .servers import LocalServers, join_or_start

__all__ = ["LocalServers", "Mailbox", "join_or_start"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".mail" if name == "Mailbox" else ".servers", __name__), name)
