"""Writes the dashboard and the alert rules into a folder."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

import orjson

from ..errors import BadArgument
from .grafana import dashboard

DASHBOARD: Final = "custsvc-dashboard.json"
ALERTS: Final = "custsvc-alerts.yml"


def alerts(runbooks: str) -> str:
    """The alert rules as YAML; `runbooks` is the address of the folder with the runbook pages."""
    text = files(__package__).joinpath("alerts.yml").read_text(encoding="utf-8")
    return text.replace(" RUNBOOKS is replaced by the address of the runbook pages.", "").replace(
        "RUNBOOKS", runbooks.rstrip("/")
    )


def export(folder: Path, runbooks: str) -> list[Path]:
    """Write both files, replacing older ones; return their paths. Raises BadArgument."""
    made = {
        folder / DASHBOARD: orjson.dumps(dashboard(), option=orjson.OPT_INDENT_2) + b"\n",
        folder / ALERTS: alerts(runbooks).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in made.items():
            path.write_bytes(content)
    except OSError as exc:
        what = f"{folder} cannot be written to ({exc.strerror})"
        raise BadArgument(what, fix="name another folder") from exc
    return list(made)
