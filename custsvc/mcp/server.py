"""The server of the Model Context Protocol: tools by what the key may do, errors with their fix."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from ..client import Client
from ..errors import CustsvcError
from ..runtime.extras import needs
from .tools import Reading, Writing

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

_INSTRUCTIONS = """Customers of this organisation. Every change is kept in the customer's history and
published to other systems. Read a customer before you change it, and give its version. What delete_customer
and merge_customers would do is shown first: ask the person before you confirm it."""


def make_server(client: Client, *, read_only: bool = False) -> MCPServer[Any]:
    """A server over this client. Without the role write, or with `read_only`, it has tools that look only.

    Raises NotInstalled without the extra, ApiError where the API is away or refuses the key.
    """
    with needs("mcp"):
        from mcp.server.mcpserver import MCPServer
    with needs("mcp"):
        from mcp.types import ToolAnnotations

    server: MCPServer[Any] = MCPServer("custsvc", instructions=_INSTRUCTIONS, log_level="WARNING")
    kinds = [(Reading(client).all(), ToolAnnotations(read_only_hint=True, open_world_hint=False))]
    if not read_only and client.may_write():
        writing = Writing(client)
        for tools, is_destructive in ((writing.careful(), False), (writing.confirmed(), True)):
            hints = ToolAnnotations(destructive_hint=is_destructive, open_world_hint=False)
            kinds.append((tools, hints))
    for tools, hints in kinds:
        for tool in tools:
            server.add_tool(_told(tool), annotations=hints)
    return server


def _told(tool: Callable[..., Any]) -> Callable[..., Any]:
    """The tool, with its errors as answers to the assistant: what failed, and what repairs it."""
    from mcp.server.mcpserver.exceptions import ToolError

    @wraps(tool)
    def call(*args: Any, **named: Any) -> Any:
        try:
            return tool(*args, **named)
        except CustsvcError as exc:
            raise ToolError(f"{exc}\nfix: {exc.fix}" if exc.fix else str(exc)) from exc

    return call
