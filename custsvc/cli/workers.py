"""The roles between the databases: relay and replicate."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import (
    BackendOption,
    CopyOption,
    DataDirOption,
    LogFormatOption,
    LogLevelOption,
    settings_for,
    watch_parent,
)


def relay(
    backend: BackendOption = None,
    resync: Annotated[
        bool,
        typer.Option(
            "--resync",
            help="This database was restored from a backup and is the one to go on with: raise what was lost "
            "above every version that was sent, then relay.",
        ),
    ] = False,
    accept_topic: Annotated[
        bool,
        typer.Option(
            "--accept-topic", help="Take the topic as it is now, with other partitions or made anew."
        ),
    ] = False,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> None:
    """Bring every event from the database to Kafka, in order per customer.

    Start as many as you like: one leads, the others take over when it dies. It refuses a topic whose
    partitions were changed and a database that was restored to an older state, as both would break the
    order of events without a word.

    Example: custsvc relay --backend mongo
    """
    settings = settings_for(
        "relay",
        ("backend", "kafka"),
        backend=backend,
        data_dir=data_dir,
        log_level=log_level,
        log_format=log_format,
    )
    from ..collector import spare_batches
    from ..kafka import Publisher, ensure_topics
    from ..metrics_server import outbox_gauges, serving
    from ..stores import open_store
    from ..workers.guard import check_topic
    from ..workers.loop import Stop
    from ..workers.relay import Relay
    from ..workers.resync import resync as resync_source

    watch_parent()
    spare_batches()
    with open_store(settings) as store, Stop().on_signals() as stop, Publisher(settings) as publisher:
        store.migrate()
        store.claim_role("source")
        ensure_topics(settings)
        if accept_topic:
            check_topic(settings, store.facts, accept=True)
        if resync:
            resync_source(settings, store)
        with serving(settings, "relay", {store.name: store.ping}, lambda: outbox_gauges(store)):
            Relay(settings, store, publisher, stop).run()


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
    instance_id: Annotated[
        str | None,
        typer.Option(
            "--instance-id",
            help="This process's own lasting name: a quick restart then moves no partitions.  "
            "[env: CUSTSVC_INSTANCE_ID]",
            metavar="NAME",
        ),
    ] = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> None:
    """Keep the other database identical to the system of record, from the events on Kafka.

    --backend is the copy's database; without it, the one that CUSTSVC_BACKEND is not. Start as many as the
    topic has partitions: they share them. A copy with a name of its own (--copy) has its own consumer group
    and its own place: a schema in PostgreSQL, a database in MongoDB.

    Example: custsvc replicate --backend mongo --copy search
    """
    settings = settings_for(
        "replicate",
        ("kafka", "backend" if backend else "other"),
        backend=backend,
        instance_id=instance_id,
        data_dir=data_dir,
        log_level=log_level,
        log_format=log_format,
    )
    from ..collector import spare_batches
    from ..kafka import Publisher, ensure_topics
    from ..metrics_server import serving
    from ..stores import open_store
    from ..workers.loop import Stop
    from ..workers.origin import Origin
    from ..workers.replicate import Replicate, begin_at, claim

    watch_parent()
    spare_batches()
    database = settings.backend if backend else settings.other_backend
    name = copy or database
    with (
        open_store(settings, database, name) as store,
        Stop().on_signals() as stop,
        Publisher(settings) as publisher,
    ):
        store.migrate()
        store.claim_role("copy")
        claim(store, name)
        ensure_topics(settings)
        if start is not None:
            begin_at(settings, store.replica, start)
        origin = Origin(settings, store)
        with serving(settings, "replicate", {store.name: store.ping}):
            Replicate(settings, store.replica, publisher, name, stop, origin=origin).run()
