"""Options that the commands of customers share, and what their texts mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import datetime as dt

FormatOption = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", help="table, json, ndjson or csv; ndjson for results of lines.", metavar="FORMAT"
    ),
]
IdsArgument = Annotated[
    list[int] | None, typer.Argument(help="Customers by id; without them, JSON lines.", metavar="[ID]...")
]
VersionOption = Annotated[
    int | None, typer.Option("--version", help="Only if the customer is at this version.", metavar="N", min=1)
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key", help="A name for this run: given again within a day, nothing is done twice.", metavar="TEXT"
    ),
]
NameOption = Annotated[str | None, typer.Option("--name", metavar="TEXT", help="Its name.")]
EmailOption = Annotated[str | None, typer.Option("--email", metavar="ADDRESS", help="Its e-mail address.")]
PhoneOption = Annotated[str | None, typer.Option("--phone", metavar="TEXT", help="Its phone number.")]
MetadataOption = Annotated[
    list[str] | None,
    typer.Option("--metadata", help="KEY=VALUE; may be given several times.", metavar="KEY=VALUE"),
]
IdOption = Annotated[int | None, typer.Argument(help="The customer; without it, JSON lines.", metavar="[ID]")]
LimitOption = Annotated[int, typer.Option("--limit", help="At most N; 0 for all.", metavar="N", min=0)]


def fields_of(
    name: str | None, email: str | None, phone: str | None, metadata: Sequence[str] | None
) -> dict[str, Any]:
    """The fields that were given."""
    fields = {"name": name, "email": email, "phone": phone, "metadata": pairs(metadata) or None}
    return {field: value for field, value in fields.items() if value is not None}


def cleared(fields: Sequence[str], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The patch that empties these fields; `metadata` is what else the patch has there."""
    changes: dict[str, Any] = {}
    for field in fields:
        if field in ("email", "phone"):
            changes[field] = None
        elif field.startswith("metadata.") and len(field) > len("metadata."):
            changes["metadata"] = {**changes.get("metadata", metadata), field.removeprefix("metadata."): None}
        else:
            raise typer.BadParameter(f"{field!r} is not email, phone or metadata.KEY", param_hint="--clear")
    return changes


def pairs(texts: Sequence[str] | None) -> dict[str, str]:
    """`KEY=VALUE` texts as a dictionary."""
    found = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--metadata")
        found[name] = value
    return found


def time_of(text: str | None) -> dt.datetime | None:
    """A time, or how long ago: `2h`, `7d`."""
    if text is None:
        return None
    from ...kafka.tail import parse_time

    return parse_time(text)
