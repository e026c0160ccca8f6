"""Commands about the installation: doctor, config, topics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ExitCode
from ..runtime import printable
from . import output
from .common import BackendOption, DataDirOption, LogLevelOption, OutputOption, joined, report, settings_for

if TYPE_CHECKING:
    from ..doctor.checks import Finding

_COLUMNS = ("level", "check", "detail", "fix")
_MARKS = {"ok": ("✓", "green"), "warning": ("⚠", "yellow"), "failed": ("✗", "red")}


def doctor(
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as failures too.")] = False,
    backend: BackendOption = None,
    fmt: OutputOption = "table",
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = "ERROR",
) -> None:
    """Check this installation, and print a fix for each problem.

    Connects to each server as the roles do, and changes nothing. Exits 7 if a check failed.

    Example: custsvc doctor -o json
    """
    output.checked(fmt)
    settings = settings_for("doctor", (), backend=backend, data_dir=data_dir, log_level=log_level)
    from ..doctor.checks import examine

    _report(examine(joined(settings)), fmt, strict=strict)


config = typer.Typer(
    help="Settings: their values, where each comes from, and whether its address works.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@config.command("show")
def show_config(fmt: OutputOption = "table", data_dir: DataDirOption = None) -> None:
    """Print every setting, its value and where it comes from. Secrets are masked.

    Example: custsvc config show -o json
    """
    output.checked(fmt)
    from ..config import describe

    settings = settings_for("config", (), data_dir=data_dir)
    # To a person the value comes last, where a long one may stand out over the edge.
    columns = ("setting", "origin", "value") if fmt == "table" else ("setting", "value", "origin")
    output.rows(fmt, columns, describe(settings))


@config.command("check")
def check_config(
    backend: BackendOption = None, fmt: OutputOption = "table", data_dir: DataDirOption = None
) -> None:
    """Connect to every address that is set, as a role would. Exits 7 if one does not work.

    Example: custsvc config check
    """
    output.checked(fmt)
    settings = settings_for("config", (), backend=backend, data_dir=data_dir, log_level="ERROR")
    from ..doctor.checks import addresses

    _report(addresses(joined(settings)), fmt)


topics = typer.Typer(help="Kafka's topics.", no_args_is_help=True, rich_markup_mode=None)


@topics.command("list")
def list_topics(fmt: OutputOption = "table", data_dir: DataDirOption = None) -> None:
    """Show the topics of custsvc: partitions, replication, retention.

    Example: custsvc topics list
    """
    output.checked(fmt)
    settings = settings_for("topics", ("kafka",), start=False, data_dir=data_dir)
    from ..kafka.topics import SHOWN, describe

    rows = [
        {
            "topic": topic.name,
            "purpose": topic.purpose,
            "partitions": topic.partitions,
            "replication": topic.replication,
            **{name: topic.config.get(name) for name in SHOWN},
        }
        for topic in describe(settings).topics
    ]
    output.rows(fmt, ("topic", "purpose", "partitions", "replication", *SHOWN), rows)


@topics.command("create")
def create_topics(
    partitions: Annotated[
        int | None,
        typer.Option(
            help="Partitions of the updates topic; later: topics grow.  [env: CUSTSVC_PARTITIONS]",
            min=1,
            metavar="N",
        ),
    ] = None,
    replication: Annotated[
        int | None,
        typer.Option(
            help="Replication factor of each topic; -1: what the broker says.  [env: CUSTSVC_REPLICATION]",
            min=-1,
            metavar="N",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the missing topics.")] = False,
    data_dir: DataDirOption = None,
) -> None:
    """Create the missing topics. Roles do this at their start too.

    Example: custsvc topics create --partitions 24 --replication 3
    """
    settings = settings_for(
        "topics", ("kafka",), start=False, partitions=partitions, replication=replication, data_dir=data_dir
    )
    if dry_run:
        from ..kafka.topics import describe

        made = [topic.name for topic in describe(settings).topics if not topic.partitions]
    else:
        from ..kafka.topics import ensure_topics

        made = ensure_topics(settings)
    word = "would create" if dry_run else "created"
    done = f"{word} {', '.join(made)}" if made else "all topics exist"
    report(done, dry_run=dry_run, **{word.replace(" ", "_"): made})


@topics.command("acls")
def acls(
    role: Annotated[
        list[str] | None,
        typer.Argument(
            help="serve, relay, notify, replicate, commands, 'topics create' or 'topics grow'; default: all.",
            metavar="[ROLE]...",
            show_default=False,
        ),
    ] = None,
    principal: Annotated[
        str,
        typer.Option(
            help="Whom to allow it; ROLE in it becomes the role, as in User:CN=ROLE,O=Example.",
            metavar="NAME",
        ),
    ] = "User:custsvc_ROLE",
    fmt: OutputOption = "table",
    data_dir: DataDirOption = None,
) -> None:
    """Print the ACLs that each role needs on Kafka, as commands of kafka-acls.sh. Connects to nothing.

    With -o json: one object for each operation.

    Example: custsvc topics acls relay --principal User:relay
    """
    output.checked(fmt)
    settings = settings_for("topics", (), data_dir=data_dir)
    from ..kafka.acls import ROLES, commands, entries

    for name in role or ():
        if name not in ROLES:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(ROLES)}", param_hint="ROLE")
    wanted = [each for each in ROLES if not role or each in role]
    whom = {each: principal.replace("ROLE", each.replace(" ", "_")) for each in wanted}
    if fmt == "table":
        for each in wanted:
            typer.echo("\n".join([f"# {each}", *commands(settings, each, whom[each])]))
        return
    rows = [entry for each in wanted for entry in entries(settings, each, whom[each])]
    output.rows(fmt, list(rows[0]), rows)


def _report(findings: Iterable[Finding], fmt: str, *, strict: bool = False) -> None:
    found = []
    for finding in findings:
        found.append(finding)
        if fmt == "table":
            _show(finding)
    if fmt != "table":
        output.rows(fmt, _COLUMNS, [{name: getattr(f, name) for name in _COLUMNS} for f in found])
    if any(f.level == "failed" or (strict and f.level == "warning") for f in found):
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _show(finding: Finding) -> None:
    from rich.text import Text

    from . import table

    mark, color = _MARKS[finding.level]
    out = table.console()
    out.print(Text.assemble((mark, color), printable.line(f" {finding.check}: {finding.detail}")))
    if finding.fix:
        out.print(Text(f"  fix: {finding.fix}"))
