"""`up`, `down`, `env`: all of custsvc on one machine, on embedded servers."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..runtime.extras import NotInstalled
from .common import BackendOption, DataDirOption, data_folder, given_addresses, load, report, say

if TYPE_CHECKING:
    from ..config import Settings
    from ..local.servers import LocalServers
    from ..local.supervisor import RoleSpec, Supervisor

HOST = "127.0.0.1"
ROLES = ("serve", "relay", "replicate", "notify")  # in the order in which they are stopped


def up(
    backend: BackendOption = None,
    port: Annotated[
        int | None,
        typer.Option("--port", help="Port of the API.  [env: CUSTSVC_HTTP_PORT; default: 8000]"),
    ] = None,
    data_dir: DataDirOption = None,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Remove all data at the end.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Run in the background; `custsvc down` stops it.")
    ] = False,
    servers_only: Annotated[
        bool, typer.Option("--servers-only", help="Run the servers without any role.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="Do not run this role; may be repeated.", metavar="ROLE"),
    ] = None,
    copies: Annotated[
        list[str] | None,
        typer.Option(
            "--copies", help="Run a role several times, as replicate=2; may be repeated.", metavar="ROLE=N"
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option("--seed", help="Write N customers first if there are none yet.", min=0, metavar="N"),
    ] = 0,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes of the API.  [env: CUSTSVC_WORKERS; default: 2]"),
    ] = None,
    detached: Annotated[bool, typer.Option("--detached", hidden=True)] = False,
) -> None:
    """Run everything on this machine: PostgreSQL, MongoDB, Kafka, a mail catcher and all roles.

    The servers come with the package: no Docker, no root. Everything listens on 127.0.0.1 only. The API needs
    no sign-in; the databases and Kafka need the passwords that `custsvc env` prints. Data is kept in the data
    folder. A server whose address is set (CUSTSVC_KAFKA …) is used, not started. Ctrl-C stops everything; a
    role or server that crashes is started again.

    Example: custsvc up --seed 1000
    """
    settings = load({"backend": backend, "http_port": port, "workers": workers, "data_dir": data_dir})
    counts = {} if servers_only else _counts(without or [], copies or [])
    _check_seed(seed, counts)
    if detach:
        _detach(settings, ephemeral=ephemeral, counts=counts, seed=seed)
        return
    code = _foreground(settings, ephemeral=ephemeral, counts=counts, seed=seed, quiet=detached)
    if code != 0:
        sys.stdout.flush()
        os._exit(code)  # a second signal: do not wait for threads that still run


def down(data_dir: DataDirOption = None) -> None:
    """Stop all roles and then all servers that `custsvc up` or a role started here. Data is kept.

    Example: custsvc down
    """
    from ..local import runs

    folder = load({"data_dir": data_dir}).data_dir
    stopped = runs.down(folder, say)
    done = f"stopped everything in {folder}" if stopped else f"nothing runs in {folder}"
    report(done, stopped=stopped, data_dir=folder)


def env(
    data_dir: DataDirOption = None,
    output: Annotated[str, typer.Option("--output", "-o", help="sh or json.", metavar="FORMAT")] = "sh",
) -> None:
    """Print the addresses of the servers, passwords included, and the backend, as shell exports.

    For a server that does not run here, the address is the one that is set, if any.

    Example: eval "$(custsvc env)"
    """
    import json
    import shlex

    from .output import checked

    checked(output, ("sh", "json"))
    values = _environment(load({"data_dir": data_dir}))
    if output == "json":
        typer.echo(json.dumps(values, indent=2))
    else:
        for name, value in values.items():
            typer.echo(f"export {name}={shlex.quote(value)}")


def _environment(settings: Settings) -> dict[str, str]:
    """The variables that another command needs. Raises ConfigurationError if no address is known."""
    from ..errors import ConfigurationError

    folder, backend = settings.data_dir, data_folder(settings).source
    values = given_addresses(settings)
    try:
        from ..local import LocalServers, runs

        values |= LocalServers(folder).env()
        up = runs.status(folder)
    except NotInstalled:
        if not values:
            raise
        return values | {"CUSTSVC_BACKEND": settings.backend}
    if up.supervisor is not None:
        backend = backend or up.info.get("backend")
        if "api_url" in up.info:
            values["CUSTSVC_API_URL"] = up.info["api_url"]
    if not values:
        raise ConfigurationError(f"nothing runs in {folder}", fix="custsvc up --detach")
    return values | {"CUSTSVC_BACKEND": backend or settings.backend}


def _counts(without: list[str], copies: list[str]) -> dict[str, int]:
    """The number of processes of each role."""
    counts = dict.fromkeys(ROLES, 1)
    for word in copies:
        name, _, number = word.partition("=")
        if name not in counts or not number.isdigit() or int(number) < 1:
            raise typer.BadParameter(
                f"{word!r} is not ROLE=N with one of {', '.join(ROLES)}", param_hint="--copies"
            )
        if name == "serve" and int(number) > 1:
            raise typer.BadParameter(
                "serve has one port; use --workers to give it more processes", param_hint="--copies"
            )
        counts[name] = int(number)
    for name in without:
        if name not in ROLES:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(ROLES)}", param_hint="--without")
        counts.pop(name, None)
    return counts


def _check_seed(seed: int, counts: Mapping[str, int]) -> None:
    if seed and "serve" not in counts:
        raise typer.BadParameter(
            "needs serve, which reports whether there are customers", param_hint="--seed"
        )


def _servers(settings: Settings, *, ephemeral: bool) -> LocalServers:
    """The embedded servers for all addresses that are not set."""
    from ..local import LocalServers

    given = {
        "postgres": settings.postgres_url,
        "mongo": settings.mongo_url,
        "kafka": settings.kafka,
        "mail": settings.smtp_url,
    }
    names = [name for name, address in given.items() if not address]
    return LocalServers(settings.data_dir, names=names, ephemeral=ephemeral, on_progress=_talk)


def _specs(settings: Settings, counts: Mapping[str, int]) -> list[RoleSpec]:
    from ..local.supervisor import RoleSpec

    specs = []
    for name, count in counts.items():
        argv = [sys.executable, "-m", "custsvc", name]
        ready = None
        if name == "serve":
            argv += ["--host", HOST, "--port", str(settings.http_port), "--workers", str(settings.workers)]
            ready = f"http://{HOST}:{settings.http_port}/readyz"
        for number in range(1, count + 1):
            full = name if number == 1 else f"{name}-{number}"
            specs.append(RoleSpec(full, argv, _role_env(settings, name), ready))
    return specs


def _role_env(settings: Settings, role: str) -> dict[str, str]:
    env = {"CUSTSVC_BACKEND": settings.backend, "CUSTSVC_DATA_DIR": str(settings.data_dir.absolute())}
    if role == "notify":
        # So that links in the caught mails work.
        env["CUSTSVC_PUBLIC_URL"] = settings.public_url or f"http://localhost:{settings.http_port}"
    return {**env, "CUSTSVC_AUTH": "off"} if role == "serve" else env


def _foreground(
    settings: Settings, *, ephemeral: bool, counts: Mapping[str, int], seed: int, quiet: bool
) -> int:
    from ..local.servers import discard_ephemeral
    from ..local.supervisor import Supervisor

    begun = time.monotonic()
    servers = _servers(settings, ephemeral=ephemeral)
    info = {"backend": settings.backend, "ephemeral": "yes" if ephemeral else ""}
    if "serve" in counts:
        info["api_url"] = f"http://localhost:{settings.http_port}"

    def preflight() -> None:
        discard_ephemeral(settings.data_dir, _talk)
        if "serve" in counts:
            _check_port(settings.http_port)

    def ready(supervisor: Supervisor) -> None:
        if seed and _is_empty(settings.http_port):
            supervisor.add(_seed_spec(settings, seed))
        if not quiet:
            how = f"started in {time.monotonic() - begun:.1f} s; Ctrl-C stops everything"
            _banner(info, supervisor.env, servers, how)

    return Supervisor(servers, _specs(settings, counts), _talk, info=info).run(ready, preflight=preflight)


def _detach(settings: Settings, *, ephemeral: bool, counts: Mapping[str, int], seed: int) -> None:
    from ..local import LocalServers, runs

    begun = time.monotonic()
    argv = [sys.executable, "-m", "custsvc", "up", "--detached", "--backend", settings.backend]
    argv += ["--port", str(settings.http_port), "--data-dir", str(settings.data_dir.absolute())]
    argv += ["--workers", str(settings.workers), "--seed", str(seed)]
    argv += ["--ephemeral"] * ephemeral + ["--servers-only"] * (not counts)
    for role in ROLES if counts else ():
        argv += ["--copies", f"{role}={counts[role]}"] if role in counts else ["--without", role]
    info = runs.run_detached(settings.data_dir, argv, say)
    servers = LocalServers(settings.data_dir)
    stop = (
        "custsvc down"
        if settings.origins.get("data_dir") != "flag"
        else f"custsvc down --data-dir {settings.data_dir}"
    )
    _banner(
        info, servers.env(), servers, f"started in {time.monotonic() - begun:.1f} s; stop it with: {stop}"
    )


def _talk(text: str) -> None:
    """Say it, unless stderr is closed: a closed terminal or pipe must not prevent the shutdown."""
    with contextlib.suppress(OSError):
        say(text)


def _check_port(port: int) -> None:
    from ..errors import ConfigurationError
    from ..local import ports

    if not ports.is_free(port, HOST):
        free = next((p for p in range(port + 1, min(port + 1000, 65536)) if ports.is_free(p, HOST)), port + 1)
        raise ConfigurationError(
            f"port {port} is taken{ports.taken_by(port)}",
            fix=f"custsvc up --port {free}, or stop what uses it",
        )


def _is_empty(port: int) -> bool:
    """Whether there are no customers, not even deleted ones."""
    from ..local.roles import get_json

    page: dict[str, Any] = get_json(f"http://{HOST}:{port}/api/customers/?limit=1&deleted=include&count=none")
    return not page["results"]


def _seed_spec(settings: Settings, customers: int) -> RoleSpec:
    from ..local.supervisor import RoleSpec

    argv = [sys.executable, "-m", "custsvc", "seed", str(customers)]
    return RoleSpec("seed", argv, _role_env(settings, "seed"), once=True)


def _banner(info: Mapping[str, str], env: Mapping[str, str], servers: LocalServers, how: str) -> None:
    """Print the addresses on stdout; only `custsvc env` shows passwords."""
    from rich.text import Text

    from .. import redact
    from . import table

    rows = []
    if "api_url" in info:
        rows += [("web", info["api_url"]), ("API", f"{info['api_url']}/api/customers/")]
        rows += [("API docs", f"{info['api_url']}/api/docs")]
    titles = {"CUSTSVC_KAFKA": "Kafka", "CUSTSVC_POSTGRES_URL": "PostgreSQL", "CUSTSVC_MONGO_URL": "MongoDB"}
    rows += [(title, redact.masked(env[name])) for name, title in titles.items() if name in env]
    if "CUSTSVC_SMTP_URL" in env:
        rows.append(
            ("mail", f"{env['CUSTSVC_SMTP_URL']}, caught in {_short(servers.home / 'mail' / 'mails')}")
        )
    kept = "removed at the end" if info.get("ephemeral") else "kept"
    rows.append(("data", f"{_short(servers.home)} ({kept})"))
    out = table.console()
    out.print(f"\n custsvc runs, system of record: {info.get('backend', '')}; {how}", style="bold green")
    for name, value in rows:
        out.print(Text.assemble(" ", (f"{name:<11}", "bold"), value))
    out.print(" All of it listens on 127.0.0.1 only; the API needs no sign-in.\n", style="dim")


def _short(path: Path) -> str:
    """The path, relative to the working directory if it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
