"""`dashboards`: the Grafana dashboard and the Prometheus alert rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="A Grafana dashboard and Prometheus alert rules.", no_args_is_help=True)


@app.command("export")
def export_(
    folder: Annotated[
        Path,
        typer.Argument(help="Where to write; made if missing.", metavar="DIR", file_okay=False),
    ] = Path("custsvc-dashboards"),
    runbooks: Annotated[
        str | None,
        typer.Option(
            "--runbooks",
            help="Address of the runbook pages, for links in alerts; default: this version's pages in the "
            "repository.",
            metavar="URL",
        ),
    ] = None,
) -> None:
    """Write a Grafana dashboard (JSON) and Prometheus alert rules (YAML) over the metrics of all roles.

    Each alert links to a page that says what it means, what to look at and what to do. Files of an earlier
    export are replaced.

    Example: custsvc dashboards export monitoring --runbooks https://wiki.example.org/custsvc
    """
    from ..dashboards.export import export
    from .common import GlobalOptions, report

    written = export(folder, runbooks or _pages())
    if GlobalOptions.fmt == "table":
        for path in written:
            typer.echo(str(path))
    report(
        "import the dashboard in Grafana; name the rules under rule_files in prometheus.yml",
        files=[str(path) for path in written],
    )


def _pages() -> str:
    from importlib.metadata import metadata

    from .. import __version__

    urls = dict(url.split(", ", 1) for url in metadata("custsvc").get_all("Project-URL") or [])
    return f"{urls['Source']}/blob/v{__version__}/docs/runbooks"
