"""`notify preview`, `test` and `init`: try rules before customers get their mails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import ExitCode
from .. import output
from ..common import BackendOption, DataDirOption, GlobalOptions, OutputOption, report, say, settings_for
from .common import RulesOption
from .suppressions import checked_addresses


def preview(
    event: Annotated[
        str | None, typer.Argument(help="An event's id, or CUSTOMER or CUSTOMER.VERSION.")
    ] = None,
    sample: Annotated[
        str | None, typer.Option("--sample", help="A made-up event: created, updated …", metavar="OP")
    ] = None,
    rules: RulesOption = None,
    html: Annotated[bool, typer.Option("--html", help="Show the HTML instead of the text.")] = False,
    fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the notifications of an event without sending them.

    Example: custsvc notify preview --sample updated --rules notify.toml
    """
    from ...notify.preview import previews

    output.checked(fmt)
    if (event is None) == (sample is None):
        raise typer.BadParameter("give an event, or --sample OP", param_hint="EVENT")
    needs: tuple[Any, ...] = () if sample else ("backend",)
    settings = settings_for("notify", needs, backend=backend, notify_rules=rules, data_dir=data_dir)
    found = previews(settings, event, sample)
    if fmt != "table":
        output.rows(fmt, ("rule", "channel", "recipient", "subject", "text", "html"), found)
        return
    for each in found:
        output.text(f"Rule: {each['rule']}\nTo: {each['recipient']}\nSubject: {each['subject']}\n")
        output.text((each["html"] or "") if html else each["text"])
    if not found:
        say("No rule sends a notification for this event.")


def test(
    to: Annotated[str, typer.Argument(help="The address to send to.")],
    rule: Annotated[str, typer.Option(help="The rule whose mail is sent.")] = "welcome",
    rules: RulesOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Send a made-up mail of a rule to an address, and print the mail server's answer.

    It is sent as all mails are, but not stored in the ledger. Exits 7 if the mail server refused it.

    Example: custsvc notify test you@example.com
    """
    from ...notify.preview import send_sample

    checked_addresses([to])
    settings = settings_for("notify", ("mail",), notify_rules=rules, data_dir=data_dir)
    outcome = send_sample(settings, to, rule)
    code = "" if outcome.code is None else f"{outcome.code} "
    if GlobalOptions.fmt == "table":
        output.text(f"{outcome.result}: {code}{outcome.text}")
    else:
        report("", result=outcome.result, code=outcome.code, text=outcome.text)
    if outcome.result != "sent":
        raise typer.Exit(ExitCode.CHECK_FAILED)


def init(
    folder: Annotated[Path, typer.Argument(help="The folder; it is created.", file_okay=False)],
) -> None:
    """Copy the built-in rules and templates to a folder, for you to change. Overwrites nothing.

    Example: custsvc notify init notify && export CUSTSVC_NOTIFY_RULES=notify/notify.toml
    """
    from ...notify.preview import copy_defaults

    written = copy_defaults(folder)
    if GlobalOptions.fmt != "table":
        report("", written=list(map(str, written)), rules=folder / "notify.toml")
        return
    for path in written:
        say(f"wrote {path}")
    typer.echo(f"export CUSTSVC_NOTIFY_RULES={folder / 'notify.toml'}")
