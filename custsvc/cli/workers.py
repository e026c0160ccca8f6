"""`relay` and `replicate`: the roles between the databases."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import (
    BackendOption,
    CopyOption,
    DataDirOption,
    LogFormatOption,
    LogLevelOption,
    backend_named,
    checked_place,
    claim_source,
    say,
    settings_for,
    working,
)

if TYPE_CHECKING:
    from ..config import Backend, Settings
    from ..ports.store import Store
    from ..runtime.loop import Stop
    from ..runtime.metrics_server import Gauges

# The value of --source that means the topic.
_TOPIC = "topic"


def relay(
    backend: BackendOption = None,
    resync: Annotated[
        bool,
        typer.Option(
            "--resync",
            help="Use this database after its restore from a backup: give every customer that lost changes a "
            "version above all versions sent, then relay.",
        ),
    ] = False,
    accept_topic: Annotated[
        bool,
        typer.Option(
            "--accept-topic",
            help="Accept a topic that was created again or has other partitions. (In order: topics grow.)",
        ),
    ] = False,
    shards: Annotated[
        int | None,
        typer.Option(
            "--shards",
            help="From now on N relays share the work, each for some of the customers; N divides the number "
            "of partitions. It is stored: all relays of this database follow, also later and without it.",
            metavar="N",
            min=1,
        ),
    ] = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> None:
    """Bring every event from the database to Kafka, in order per customer.

    Start as many as you like: one leads, and another takes over when it dies. Where one is not enough, divide
    the work (--shards): then so many lead, and a process leads several if there are too few. The relay
    refuses a topic whose partitions were changed and a database that was restored to an older state, as both
    would silently break the order of events.

    Example: custsvc relay --backend mongo --shards 2
    """
    settings = settings_for(
        "relay",
        ("backend", "kafka"),
        backend=backend,
        data_dir=data_dir,
        log_level=log_level,
        log_format=log_format,
    )
    from ..copies.gauges import verify_gauges
    from ..kafka.acls import topics_of
    from ..kafka.registry import checks
    from ..kafka.topics import ensure_topics
    from ..relay.gauges import OutboxGauges, history_gauges, loss_gauges, shard_gauges
    from ..relay.guard import check_topic
    from ..relay.resync import resync as resync_source
    from ..relay.shards import ask
    from ..relay.team import Team
    from ..retention.daily import daily
    from ..runtime.metrics_server import together
    from ..stores.running import running

    def gauges(store: Store) -> Gauges:
        return together(
            OutboxGauges(store),
            lambda: verify_gauges(store),
            lambda: shard_gauges(store),
            lambda: history_gauges(store),
            lambda: loss_gauges(store, settings.topic_updates),
        )

    with working() as stop, running("relay", settings, stop, gauges=gauges, needs=checks(settings)) as store:
        if store is None:
            return
        claim_source(settings, store)
        ensure_topics(settings, needed=topics_of(settings, "relay"))
        if accept_topic:
            check_topic(settings, store.facts, accept=True)
        if resync:
            resync_source(settings, store)
        if shards is not None:
            ask(store.facts, settings.topic_updates, shards)
        Team(settings, store, stop, daily(settings, store)).run()


def replicate(
    backend: BackendOption = None,
    copy: CopyOption = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Where an empty copy begins: beginning (the default), end, a time, or how long ago: 2h.",
            metavar="PLACE",
        ),
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Fill a new copy beside the old one, prove it, swap it in, and exit. The old one serves on.",
        ),
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            help="What to rebuild from: postgres or mongo, if the source is not the other one; topic, if the "
            "source cannot be reached: from the topic alone, without a proof.",
            metavar="NAME",
        ),
    ] = None,
    instance_id: Annotated[
        str | None,
        typer.Option(
            "--instance-id",
            help="A lasting name of this process, so that a quick restart moves no partitions.  "
            "[env: CUSTSVC_INSTANCE_ID]",
            metavar="NAME",
        ),
    ] = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> None:
    """Keep the other database identical to the system of record, from the events on Kafka.

    --backend is the copy's database; default: the one that CUSTSVC_BACKEND does not name. Start up to as many
    as the topic has partitions: they share them. A copy with its own name (--copy) has its own consumer group
    and its own schema in PostgreSQL or database in MongoDB.

    --rebuild replaces a copy that lost its position or may be wrong: it fills a new copy from the source,
    proves it against the source and swaps it in. Until then the old copy serves; its replicate processes then
    go on with the new one. --rebuild exits when it is done, and may be stopped and started again.

    Example: custsvc replicate --backend mongo --copy search
    """
    checked_place(start)
    settings = settings_for(
        "replicate",
        ("kafka", *_databases(backend, source, rebuild=rebuild)),
        backend=backend,
        instance_id=instance_id,
        data_dir=data_dir,
        log_level=log_level,
        log_format=log_format,
    )
    from ..copies.origin import Origin
    from ..copies.replicate import Replicate, begin_at, claim
    from ..kafka.acls import topics_of
    from ..kafka.publisher import Publisher
    from ..kafka.registry import checks
    from ..kafka.topics import ensure_topics
    from ..stores.refill import refill_beside
    from ..stores.running import running

    database = settings.backend if backend else settings.other_backend
    name = copy or database
    with (
        working() as stop,
        # `serve --read-only` makes the indexes for lists.
        running(
            "replicate", settings, stop, backend=database, copy=name, lists=False, needs=checks(settings)
        ) as store,
    ):
        if store is None:
            return
        store.claim_role("copy")
        claim(store, name)
        ensure_topics(settings, needed=topics_of(settings, "replicate"))
        if rebuild:
            _rebuild(settings, store, name, source or _other(database), stop)
            return
        if start is not None:
            begin_at(settings, store.replica, start)
        origin = Origin(settings, store)
        refill_beside(store, stop)
        with Publisher(settings) as publisher:
            Replicate(settings, store.replica, publisher, name, stop, origin=origin).run()


def _databases(backend: str | None, source: str | None, *, rebuild: bool) -> tuple[Any, ...]:
    """The databases that a copy needs: its own, and for a rebuild from the source, the source."""
    if source and not rebuild:
        raise typer.BadParameter("is for --rebuild", param_hint="--source")
    copy, other = ("backend", "other") if backend else ("other", "backend")
    if not rebuild or source == _TOPIC:
        return (copy,)
    return copy, backend_named(source, "--source") if source else other


def _other(backend: Backend) -> Backend:
    return "mongo" if backend == "postgres" else "postgres"


def _rebuild(settings: Settings, copy: Store, name: str, source_name: str, stop: Stop) -> None:
    from contextlib import nullcontext

    from ..copies.rebuild import Rebuild
    from ..copies.verify import summary
    from ..ports.customers import CustomerFilter
    from ..stores import open_store
    from .progress import bar

    holder = None if source_name == _TOPIC else backend_named(source_name, "--source")
    with open_store(settings, holder) if holder else nullcontext() as source:
        about = partial(source.customers.count, CustomerFilter("include"), exact=False) if source else 0
        with bar("filling", about) as progress:
            report = Rebuild(settings, copy, source, stop=stop, progress=progress).run()
    proof = summary(report, (source_name, name)) if report else f"{name} is filled from the topic"
    say(f"the new copy serves; {proof}")
