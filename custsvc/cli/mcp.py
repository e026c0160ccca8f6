"""`mcp`: customers for assistants, by the Model Context Protocol."""

from __future__ import annotations

from typing import Annotated

import typer

from .customers.opened import ApiOption, BackendOption, DataDirOption, opened


def mcp(
    read_only: Annotated[bool, typer.Option("--read-only", help="No tool that changes customers.")] = False,
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Serve customers to an assistant over stdin and stdout (Model Context Protocol).

    Tools search, show and, where the key may write, change customers; deleting and merging show first what
    they would do and take a token to confirm it. Over the API of CUSTSVC_API_URL, else at the database. Needs
    pip install 'custsvc[mcp]'.

    Example: CUSTSVC_API_URL=http://localhost:8000 CUSTSVC_API_KEY=csk_… custsvc mcp
    """
    from ..mcp.server import make_server
    from ..runtime.extras import require

    require("mcp")
    with opened(api, backend, data_dir, writes=not read_only) as client:
        make_server(client, read_only=read_only).run()
