"""`webhooks`: endpoints that get changes over HTTP, and the log of their deliveries."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..ports.ledger import NotificationState
from . import output
from .common import GlobalOptions, OutputOption, report
from .customers.opened import ApiOption, BackendOption, DataDirOption, opened

if TYPE_CHECKING:
    from ..client import Client

app = typer.Typer(
    help="Webhook endpoints: make, test, pause and resume them, and see what was delivered.\n\n"
    "Over the API of CUSTSVC_API_URL (with CUSTSVC_API_KEY, role admin), else at the database of --backend.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_COLUMNS = ("id", "state", "url", "ops", "payload", "description")
_LOG = ("created_on", "id", "state", "op", "customer_id", "version", "tries", "next_at", "reason")

_Id = Annotated[str, typer.Argument(help="The endpoint's id, as `webhooks list` shows it.", metavar="ID")]
_Ops = Annotated[
    str | None,
    typer.Option("--ops", help="The kinds of events, with commas; default: all changes.", metavar="OPS"),
]
_Changed = Annotated[
    str | None,
    typer.Option(
        "--changed",
        help="Only events that changed one of these fields, with commas: email,metadata.plan.",
        metavar="FIELDS",
    ),
]
_When = Annotated[
    str | None,
    typer.Option(
        "--when", help='Only events that meet conditions, as JSON: {"metadata.plan": "gold"}.', metavar="JSON"
    ),
]
_Payload = Annotated[
    str | None,
    typer.Option("--payload", help="event, as on Kafka; or state, the customer.", metavar="WHAT"),
]
_Email = Annotated[
    str | None,
    typer.Option(
        "--email", help="The owner, who gets a mail when it is paused for failing.", metavar="ADDRESS"
    ),
]
_Description = Annotated[
    str | None, typer.Option("--description", help="One line for people.", metavar="TEXT")
]
_Key = Annotated[
    str | None,
    typer.Option("--key", help="An idempotency key: the same again does nothing twice.", metavar="KEY"),
]


@app.command("list")
def list_endpoints(
    fmt: OutputOption = "table",
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List all endpoints.

    Example: custsvc webhooks list
    """
    output.checked(fmt)
    from ..client import webhooks

    with opened(api, backend, data_dir) as client:
        found = client.send(webhooks.list_all())
    nobody = "There is no webhook endpoint yet. Make one: custsvc webhooks create https://HOST/PATH"
    output.rows(fmt, _COLUMNS, map(_joined, found) if fmt in ("table", "csv") else found, empty=nobody)


@app.command()
def get(
    endpoint: _Id,
    fmt: OutputOption = "table",
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show an endpoint: its state, since when and why it fails, how much waits.

    Example: custsvc webhooks get 3f9a0c5be8710d42 -o json
    """
    output.checked(fmt)
    from ..client import webhooks

    with opened(api, backend, data_dir) as client:
        _show(fmt, client.send(webhooks.get(endpoint)))


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="Where to call: https://HOST/PATH.", metavar="URL")],
    ops: _Ops = None,
    changed: _Changed = None,
    when: _When = None,
    payload: _Payload = None,
    email: _Email = None,
    description: _Description = None,
    key: _Key = None,
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Make an endpoint and print its secret, which cannot be shown again.

    Example: custsvc webhooks create https://crm.example.com/hook --ops created,updated --email it@example.com
    """
    given = _fields(url, ops, changed, when, payload, email, description)
    _check(given)
    from ..client import webhooks

    with opened(api, backend, data_dir, writes=True) as client:
        made = client.send(webhooks.create(given.pop("url"), key=key, **given))
    secret = made.pop("secret")
    report(f"Endpoint {made['id']}. Its secret is shown only once:", **made, secret=secret)
    if GlobalOptions.fmt == "table":
        typer.echo(secret)


@app.command()
def change(
    endpoint: _Id,
    url: Annotated[str | None, typer.Option("--url", help="Where to call.", metavar="URL")] = None,
    ops: _Ops = None,
    changed: _Changed = None,
    when: _When = None,
    payload: _Payload = None,
    email: _Email = None,
    description: _Description = None,
    fmt: OutputOption = "table",
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Change an endpoint; an empty text takes a value away.

    Example: custsvc webhooks change 3f9a0c5be8710d42 --ops updated --changed email
    """
    given = _fields(url, ops, changed, when, payload, email, description)
    if not given:
        raise typer.BadParameter("give what to change, as --url or --ops", param_hint="OPTIONS")
    _check(given)
    output.checked(fmt)
    from ..client import webhooks

    with opened(api, backend, data_dir, writes=True) as client:
        _show(fmt, client.send(webhooks.change(endpoint, given)))


@app.command()
def delete(
    endpoint: _Id, api: ApiOption = None, backend: BackendOption = None, data_dir: DataDirOption = None
) -> None:
    """Delete an endpoint; its waiting deliveries are discarded.

    Example: custsvc webhooks delete 3f9a0c5be8710d42
    """
    from ..client import webhooks

    with opened(api, backend, data_dir, writes=True) as client:
        client.send(webhooks.delete(endpoint))
    report(f"deleted {endpoint}", deleted=endpoint)


@app.command()
def pause(
    endpoint: _Id, api: ApiOption = None, backend: BackendOption = None, data_dir: DataDirOption = None
) -> None:
    """Pause an endpoint: its deliveries wait.

    Example: custsvc webhooks pause 3f9a0c5be8710d42
    """
    from ..client import webhooks

    with opened(api, backend, data_dir, writes=True) as client:
        client.send(webhooks.pause(endpoint))
    report(f"paused {endpoint}", paused=endpoint)


@app.command()
def resume(
    endpoint: _Id, api: ApiOption = None, backend: BackendOption = None, data_dir: DataDirOption = None
) -> None:
    """Resume an endpoint: waiting deliveries are sent, in order per customer.

    Example: custsvc webhooks resume 3f9a0c5be8710d42
    """
    from ..client import webhooks

    with opened(api, backend, data_dir, writes=True) as client:
        waiting = client.send(webhooks.resume(endpoint))["waiting"]
    report(f"resumed {endpoint}; {waiting:,} deliveries wait", resumed=endpoint, waiting=waiting)


@app.command("test")
def test_endpoint(
    endpoint: _Id, api: ApiOption = None, backend: BackendOption = None, data_dir: DataDirOption = None
) -> None:
    """Send a test by the role notify; `webhooks log` shows how it went.

    Example: custsvc webhooks test 3f9a0c5be8710d42
    """
    from ..client import webhooks

    with opened(api, backend, data_dir, writes=True) as client:
        delivery = client.send(webhooks.test(endpoint))
    report(f"delivery {delivery} will be sent: custsvc webhooks log {endpoint}", delivery=delivery)


@app.command()
def rotate(
    endpoint: _Id,
    overlap: Annotated[
        int | None,
        typer.Option(
            "--overlap",
            help="Seconds for which the old secret signs too; default: a day; 0 if it leaked.",
            metavar="SECONDS",
            min=0,
            max=604800,
            show_default=False,
        ),
    ] = None,
    key: _Key = None,
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Replace the secret of an endpoint, and print the new one, which cannot be shown again.

    Example: custsvc webhooks rotate 3f9a0c5be8710d42
    """
    from ..client import webhooks

    with opened(api, backend, data_dir, writes=True) as client:
        secret = client.send(webhooks.rotate(endpoint, overlap=overlap, key=key))
    report(f"Endpoint {endpoint} has a new secret. It is shown only once:", id=endpoint, secret=secret)
    if GlobalOptions.fmt == "table":
        typer.echo(secret)


@app.command()
def log(
    endpoint: _Id,
    state: Annotated[
        NotificationState | None,
        typer.Option("--state", help="Only these: sent, deferred, queued …", metavar="STATE"),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="The most shown; 0: all.", min=0, metavar="N")] = 50,
    fmt: OutputOption = "table",
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the deliveries of an endpoint, the newest first; with -o json each attempt too.

    Example: custsvc webhooks log 3f9a0c5be8710d42 --state deferred
    """
    output.checked(fmt)
    with opened(api, backend, data_dir) as client:
        found = islice(_deliveries(client, endpoint, state), limit or None)
        rows = ({**each, "tries": len(each["attempts"])} for each in found)
        output.rows(fmt, _LOG, rows, empty="nothing was delivered yet; custsvc webhooks test ID")


@app.command()
def redeliver(
    endpoint: _Id,
    delivery: Annotated[str, typer.Argument(help="The delivery's id.", metavar="DELIVERY")],
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Send a delivery again, under the same webhook-id.

    Example: custsvc webhooks redeliver 3f9a0c5be8710d42 9f2c…
    """
    from ..client import webhooks

    with opened(api, backend, data_dir, writes=True) as client:
        client.send(webhooks.redeliver(endpoint, delivery))
    report(f"delivery {delivery} will be sent again", delivery=delivery)


def _deliveries(client: Client, endpoint: str, state: str | None) -> Iterator[dict[str, Any]]:
    """The log of an endpoint, page by page as they are asked for."""
    from ..client import webhooks

    cursor = None
    while True:
        found, cursor = client.send(webhooks.deliveries(endpoint, cursor, state=state))
        yield from found
        if cursor is None:
            return


def _fields(
    url: str | None,
    ops: str | None,
    changed: str | None,
    when: str | None,
    payload: str | None,
    email: str | None,
    description: str | None,
) -> dict[str, Any]:
    """The fields that were given, as the API takes them."""
    given: dict[str, Any] = {"url": url, "payload": payload, "description": description}
    found = {name: value for name, value in given.items() if value is not None}
    for name, words in (("ops", ops), ("changed", changed)):
        if words is not None:
            found[name] = [word.strip() for word in words.split(",") if word.strip()]
    if email is not None:
        found["email"] = email or None
    if when is not None:
        found["when"] = _json(when)
    return found


def _check(given: dict[str, Any]) -> None:
    """Refuse what no server takes, before one is looked for."""
    from ..errors import ValidationError
    from ..notify.endpoints.fields import read

    try:
        read(given, None, partial=True)
    except ValidationError as exc:
        first = exc.errors[0]
        raise typer.BadParameter(first.message, param_hint=f"--{first.field}") from exc


def _json(text: str) -> Any:
    import orjson

    try:
        return orjson.loads(text or "{}")
    except orjson.JSONDecodeError as exc:
        raise typer.BadParameter(f"is not JSON: {exc}", param_hint="--when") from exc


def _show(fmt: str, endpoint: dict[str, Any]) -> None:
    output.checked(fmt)
    if fmt == "table":
        for name, value in _joined(endpoint).items():
            if value not in (None, "", {}):
                output.text(f"{name}: {value}")
    else:
        output.one(fmt, endpoint)


def _joined(endpoint: dict[str, Any]) -> dict[str, Any]:
    """With lists as texts, for people."""
    return {name: ", ".join(value) if isinstance(value, list) else value for name, value in endpoint.items()}
