"""Real servers without Docker or root: PostgreSQL, MongoDB, Kafka and a mail catcher, out of wheels and jars.

`LocalServers` is the set of them over one data folder; `join_or_start` is what a role uses that was given no
address. They listen on loopback only, run detached, and are joined by whoever names the same data folder.
Import costs nothing: the servers' modules are loaded when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .mail import Mailbox
    from .servers import LocalServers, join_or_start

__all__ = ["LocalServers", "Mailbox", "join_or_start"]


def __getattr__(name: str) -> Any:
    if name == "Mailbox":
        from .mail import Mailbox

        return Mailbox
    if name in __all__:
        from . import servers

        return getattr(servers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
