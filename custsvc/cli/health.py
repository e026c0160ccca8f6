"""`health`: ask a role on this machine whether it is healthy, for health checks of containers."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import ExitCode
from .common import DataDirOption, GlobalOptions, report


def health(
    role: Annotated[
        str | None,
        typer.Argument(
            help="serve, relay, replicate or notify; default: the one that answers.", metavar="[ROLE]"
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            help="The role's port.  [env: CUSTSVC_HTTP_PORT of serve, CUSTSVC_METRICS_PORT of the others]",
            min=1,
            max=65535,
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds to wait for each of its two answers.", min=0.1)
    ] = 4.0,
    data_dir: DataDirOption = None,
) -> None:
    """Ask a role on this machine whether it runs and can work. Prints one line; exits 0 or 7.

    serve answers on its own port, the other roles on CUSTSVC_METRICS_PORT. A role that cannot reach its
    database is unhealthy.

    Example: custsvc health replicate --port 9000
    """
    from ..runtime.health import ROLES, SERVE, examine, is_well
    from .common import load

    if role is not None and role not in ROLES:
        raise typer.BadParameter(f"{role!r} is not one of {', '.join(ROLES)}", param_hint="ROLE")
    if port is not None and role is None:
        raise typer.BadParameter("needs the ROLE that listens there", param_hint="--port")
    settings = load({"data_dir": data_dir, "http_port" if role == SERVE else "metrics_port": port})
    found = examine(settings, role, timeout=timeout)
    said = "; ".join(map(str, found))
    if GlobalOptions.fmt == "table":
        typer.echo(said)
    else:
        report(said, healthy=is_well(found), roles=[str(each) for each in found])
    if not is_well(found):
        raise typer.Exit(ExitCode.CHECK_FAILED)
