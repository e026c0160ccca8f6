"""`topics schema`: the schema of events in a schema registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import CheckFailed
from . import output
from .common import DataDirOption, report, settings_for

if TYPE_CHECKING:
    from ..config import Settings

app = typer.Typer(
    help="The schema of events in a schema registry: CUSTSVC_SCHEMA_REGISTRY_URL (docs/registry.md).",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Format = Literal["json-schema", "avro"]
_FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help="json-schema or avro; default: that of the settings, else json-schema.",
        metavar="FORMAT",
    ),
]


@app.command("print")
def print_schema(fmt: _FormatOption = None, data_dir: DataDirOption = None) -> None:
    """Print the schema as the registry gets it. Connects to nothing.

    Example: custsvc topics schema print --format avro
    """
    settings = settings_for("topics", (), data_dir=data_dir)
    from ..kafka.formats import schema

    output.write(schema(_format(settings, fmt)).text.encode())


@app.command("register")
def register(
    fmt: _FormatOption = None,
    compatibility: Annotated[
        Literal["BACKWARD", "BACKWARD_TRANSITIVE"] | None,
        typer.Option(
            help="From now on have the registry refuse schemas that are not compatible with the earlier.",
            metavar="RULE",
        ),
    ] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Register the schema under TOPIC-value, unless it is there; print its id.

    Exits 3 if the registry does not take it after the earlier ones.

    Example: custsvc topics schema register --format avro --compatibility BACKWARD
    """
    settings = settings_for("topics", (), data_dir=data_dir)
    from ..kafka.formats import schema, subject
    from ..kafka.registry import Registry

    registry, name = Registry(settings), subject(settings)
    number = registry.register(name, schema(_format(settings, fmt)))
    if compatibility:
        registry.require(name, compatibility)
    report(f"{name} has the schema, with the id {number}", subject=name, id=number)


@app.command("check")
def check(fmt: _FormatOption = None, data_dir: DataDirOption = None) -> None:
    """Ask the registry whether it would take the schema after the earlier ones. Changes nothing.

    Exits 7 if it would not.

    Example: custsvc topics schema check
    """
    settings = settings_for("topics", (), data_dir=data_dir)
    from ..kafka.formats import schema, subject
    from ..kafka.registry import Registry

    registry, name, ours = Registry(settings), subject(settings), schema(_format(settings, fmt))
    number = registry.id_of(name, ours)
    if number is None and not registry.is_compatible(name, ours):
        raise CheckFailed(
            f"the registry would not take the schema after the earlier ones of {name}",
            fix="choose another compatibility of the subject, or a new topic (docs/registry.md)",
        )
    known = "registered" if number is not None else "compatible, not registered yet"
    report(f"the schema of {name} is {known}", subject=name, compatible=True, id=number)


def _format(settings: Settings, given: Format | None) -> str:
    return given or (settings.event_format if settings.event_format != "json" else "json-schema")
