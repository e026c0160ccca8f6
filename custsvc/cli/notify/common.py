"""Options that several commands of `notify` share, and the ledger that they open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..common import settings_for

if TYPE_CHECKING:
    from ...ports.ledger import MailRecords
    from ...ports.store import Store

RulesOption = Annotated[
    Path | None,
    typer.Option(
        "--rules",
        help="TOML file of rules; default: the built-in rules.  [env: CUSTSVC_NOTIFY_RULES]",
        metavar="FILE",
        exists=True,
        dir_okay=False,
    ),
]
StateOption = Annotated[str | None, typer.Option(help="Only notifications in this state.", metavar="STATE")]
RuleOption = Annotated[str | None, typer.Option(help="Only notifications of this rule.", metavar="NAME")]
SinceOption = Annotated[
    str | None, typer.Option(help="Only those queued since: 2h, 3d, or a time as 2026-11-23.", metavar="TIME")
]


@contextmanager
def opened(backend: str | None, data_dir: Path | None) -> Iterator[Store]:
    """The database of the ledger, with its schema up to date."""
    from ...stores import open_store

    settings = settings_for("notify", ("backend",), backend=backend, data_dir=data_dir)
    with open_store(settings) as store:
        store.migrate()
        yield store


@contextmanager
def opened_ledger(backend: str | None, data_dir: Path | None) -> Iterator[MailRecords]:
    """The records of that database's ledger."""
    with opened(backend, data_dir) as store:
        yield store.ledger


def checked_state(state: str | None) -> str | None:
    """The state, or a usage error."""
    from ...ports.ledger import SETTLED, UNSETTLED

    if state is not None and state not in (*UNSETTLED, *SETTLED):
        raise typer.BadParameter(
            f"{state!r} is not one of {', '.join((*UNSETTLED, *SETTLED))}", param_hint="--state"
        )
    return state
