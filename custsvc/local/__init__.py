"""Real servers without Docker or root: PostgreSQL, MongoDB, Kafka and a mail catcher, out of wheels and jars.

`LocalServers` is the set of them over one data folder; `join_or_start` is what a role uses that was given no
address. They listen on loopback only, run detached, and are joined by whoever names the same data folder.
Import costs nothing: the servers' modules are loaded when they are asked for. Where the extra `local` is not
installed that raises `custsvc.runtime.extras.NotInstalled`.
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
