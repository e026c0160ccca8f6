"""`notify suppressions`: addresses that get no mail."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import output
from ..common import BackendOption, DataDirOption, GlobalOptions, OutputOption, report, say, settings_for
from .common import opened

_REASONS = ("manual", "bounce", "complaint", "unsubscribe")

app = typer.Typer(help="Addresses that get no mail.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_suppressions(
    limit: Annotated[int, typer.Option(help="At most N addresses.", min=1)] = 1000,
    fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the addresses that get no mail, the newest first.

    Example: custsvc notify suppressions list -o csv
    """
    from ...domain.customers import format_time

    output.checked(fmt)
    with opened(backend, data_dir) as store:
        found = store.recipients.suppressions(limit)
    rows = [
        {
            "address": each.address,
            "reason": each.reason,
            "detail": each.detail,
            "created_on": each.created_on and format_time(each.created_on),
            "expires_on": each.expires_on and format_time(each.expires_on),
        }
        for each in found
    ]
    nobody = "Every address gets mail. Stop one: custsvc notify suppressions add ADDRESS"
    output.rows(fmt, ("address", "reason", "created_on", "expires_on", "detail"), rows, empty=nobody)


@app.command("add")
def add_suppressions(
    addresses: Annotated[list[str], typer.Argument(help="Addresses.")],
    reason: Annotated[
        str, typer.Option(help="The reason.", metavar="manual|bounce|complaint|unsubscribe")
    ] = "manual",
    detail: Annotated[str | None, typer.Option(help="A remark, stored with the address.")] = None,
    days: Annotated[
        float | None, typer.Option(help="For how many days; default: for good.", min=0.001)
    ] = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Suppress these addresses: they get no mail.

    Example: custsvc notify suppressions add ada@example.com --reason complaint --days 90
    """
    from ...domain.address import address_key

    if reason not in _REASONS:
        raise typer.BadParameter(f"{reason!r} is not one of {', '.join(_REASONS)}", param_hint="--reason")
    seconds = None if days is None else days * 86400
    checked = checked_addresses(addresses)
    with opened(backend, data_dir) as store:
        for address in checked:
            store.recipients.suppress(address_key(address), reason, detail=detail, seconds=seconds)
            span = "." if days is None else f" for {days:g} days."
            if GlobalOptions.fmt == "table":
                say(f"{address} gets no mail{span}")
    if GlobalOptions.fmt != "table":
        report("", suppressed=checked, days=days)


@app.command("remove")
def remove_suppressions(
    addresses: Annotated[list[str], typer.Argument(help="Addresses.")],
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Send to these addresses again. Exits 5 if one was not suppressed.

    Example: custsvc notify suppressions remove ada@example.com
    """
    from ...domain.address import address_key
    from ...errors import NotFound

    with opened(backend, data_dir) as store:
        missing = [each for each in addresses if not store.recipients.allow(address_key(each))]
    if missing:
        raise NotFound(f"{', '.join(missing)} was not suppressed", fix="see custsvc notify suppressions list")
    report("they get mail again", allowed=addresses)


@app.command("bounced")
def add_bounced(
    mail: Annotated[
        typer.FileBinaryRead, typer.Argument(help="A delivery report; - is stdin.", metavar="[REPORT]")
    ] = "-",  # type: ignore[assignment]
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Suppress the recipients that do not exist according to a mail server's delivery report (RFC 3464).

    Let the mail server pipe mails to the sender's address into this command.

    Example: custsvc notify suppressions bounced < report.eml
    """
    from ...domain.address import address_key
    from ...notify.channels import bounce

    settings = settings_for("notify", ("backend",), backend=backend, data_dir=data_dir)
    found = bounce.read(mail.read())
    from ...stores import open_store

    with open_store(settings) as store:
        store.migrate()
        for each in found:
            if each.is_final:
                seconds = settings.notify_bounce_days * 86400
                key = address_key(each.address)
                store.recipients.suppress(key, "bounce", detail=each.reason, seconds=seconds)
            word = "suppressed" if each.is_final else "not suppressed"
            if GlobalOptions.fmt == "table":
                say(f"{each.address}: {word} ({each.reason})")
    if GlobalOptions.fmt != "table":
        report("", suppressed=[each.address for each in found if each.is_final], bounces=len(found))
    elif not found:
        say("This is not a report of a mail that could not be delivered.")


def checked_addresses(addresses: list[str]) -> list[str]:
    """The addresses alone, without names, or a usage error."""
    from ...domain.address import BadAddress, one_address

    try:
        return [one_address(address).spec for address in addresses]
    except BadAddress as exc:
        raise typer.BadParameter(str(exc), param_hint="ADDRESS") from exc
