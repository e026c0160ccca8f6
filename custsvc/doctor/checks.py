"""Checks of doctor: each reports what is wrong with this installation, and the command that repairs it.

A check connects as the roles do, with the same settings, so that a server which works here works for them. A
check never changes anything and never raises: it reports errors as findings.
"""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..config import SETTINGS, Backend, Settings, env_name
from ..errors import CustsvcError

if TYPE_CHECKING:
    from ..kafka.topics import Topic
    from ..ports.store import Store

Level = Literal["ok", "warning", "failed"]

_DISK_MIN = 1024**3
_CLOCKS_APART = 2.0
_DAY_MS = 24 * 3600 * 1000
_LOSS_IS_NEWS = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: `detail` describes it, `fix` is the command or sentence that repairs it."""

    level: Level
    check: str
    detail: str
    fix: str | None = None


def examine(settings: Settings) -> Iterator[Finding]:
    """Run every check; yields each finding at once."""
    yield from addresses(settings)
    yield from _rules(settings)
    yield from _files()
    yield from _disk(settings)


def addresses(settings: Settings) -> Iterator[Finding]:
    """Whether each server of the settings answers, and is configured for its purpose."""
    for backend, part in ((settings.backend, "system of record"), (settings.other_backend, "copy")):
        yield from _guarded(backend, lambda b=backend, p=part: _database(settings, b, p))  # type: ignore[misc]
    yield from _guarded("kafka", lambda: _kafka(settings))
    yield from _guarded("topic layout", lambda: _layout(settings))
    yield from _guarded("mail server", lambda: _mail(settings))
    from .access import links, read_server
    from .registry import schema_registry

    yield from _guarded("schema registry", lambda: schema_registry(settings))
    yield from _guarded("read server", lambda: read_server(settings))
    yield from _guarded("links", lambda: links(settings))


def _guarded(check: str, work: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from work()
    except CustsvcError as exc:
        yield Finding("failed", check, str(exc), exc.fix)


def _unset(check: str, setting: str, what: str) -> Finding:
    variable = env_name(setting)
    return Finding("warning", check, f"{variable} is not set: {what}", f"set {variable}, or custsvc up")


def _database(settings: Settings, backend: Backend, part: str) -> Iterator[Finding]:
    from ..stores import open_store
    from . import access

    if not getattr(settings, f"{backend}_url"):
        yield _unset(backend, f"{backend}_url", f"no {part}")
        return
    with open_store(settings, backend) as store:
        started = time.monotonic()
        store.ping()
        took = (time.monotonic() - started) * 1000
        yield Finding("ok", backend, f"answers in {took:.0f} ms ({part})")
        yield from _guarded(f"{backend} schema", lambda: _schema(store, backend))
        yield from _guarded(f"{backend} link", lambda: access.link(store))
        if store.pending_migrations():
            return
        yield from _guarded(f"{backend} rights", lambda: access.rights(store, settings))
        if backend == settings.backend:
            yield from _guarded("mails", lambda: _mails(store))
            yield from _guarded("webhooks", lambda: _webhooks(store))
            yield from _guarded("channels", lambda: _channels(store, settings))
            yield from _guarded(f"{backend} growth", lambda: access.growth(store, settings.history_days))


def _schema(store: Store, backend: Backend) -> Iterator[Finding]:
    missing = store.pending_migrations()
    if missing:
        fix = f"custsvc migrate --backend {backend}"
        yield Finding("warning", f"{backend} schema", f"not applied yet: {', '.join(missing)}", fix)
        return
    yield Finding("ok", f"{backend} schema", "up to date")
    apart = abs(store.clock() - time.time())
    if apart > _CLOCKS_APART:
        detail = f"its clock and this machine's are {apart:.0f} s apart: ages and lags will look wrong"
        yield Finding("warning", f"{backend} clock", detail, "keep both clocks with NTP")


def _kafka(settings: Settings) -> Iterator[Finding]:
    if not settings.kafka:
        yield _unset("kafka", "kafka", "no events leave the database")
        return
    from ..kafka import topics

    cluster = topics.describe(settings)
    several = "s" if cluster.brokers != 1 else ""
    yield Finding("ok", "kafka", f"{cluster.brokers} broker{several} at {settings.kafka_servers}")
    missing = [topic.name for topic in cluster.topics if not topic.partitions]
    if missing:
        detail = f"not created yet, or hidden from this account: {', '.join(missing)}"
        yield Finding("warning", "topics", detail, "custsvc topics create, or custsvc topics acls")
    for topic in cluster.topics:
        if topic.partitions:
            yield from _topic(settings, topic, cluster.brokers)
    from .access import kafka_rights

    yield from _guarded("kafka rights", lambda: kafka_rights(settings))


def _topic(settings: Settings, topic: Topic, brokers: int) -> Iterator[Finding]:
    name = f"topic {topic.name}"
    holds = f"{topic.partitions} partitions, replication {topic.replication}"
    if not topic.config:
        yield Finding("ok", name, f"{holds}; its configuration is hidden from this account")
        return
    wrong: list[Finding] = []
    if topic.name == settings.topic_updates and topic.partitions < settings.partitions:
        detail = f"{holds}: more processes than that do not help; CUSTSVC_PARTITIONS is {settings.partitions}"
        fix = f"set CUSTSVC_PARTITIONS to {topic.partitions}, or use a topic with more"
        wrong.append(Finding("warning", name, detail, fix))
    if topic.name == settings.topic_updates and topic.config.get("cleanup.policy") != "compact":
        detail = f"{holds}; not compacted, so a new copy lacks the customers whose records have expired"
        wrong.append(Finding("warning", name, detail, "set its cleanup.policy to compact"))
    if topic.name in (settings.topic_dead, settings.topic_failed) and _keeps_for_ever(topic):
        detail = "keeps dead letters or failed mails forever, including personal data"
        wrong.append(Finding("warning", name, detail, "set its retention.ms, say to 1209600000 (14 days)"))
    wrong += [Finding("warning", name, detail, fix) for detail, fix in _promises(settings, topic)]
    if brokers > 1 and topic.replication < 2:
        fix = "raise its replication factor to 3 (kafka-reassign-partitions), set CUSTSVC_REPLICATION=3"
        wrong.append(Finding("warning", name, "is on one broker only, and lost with that broker", fix))
    yield from wrong or [Finding("ok", name, holds)]


def _promises(settings: Settings, topic: Topic) -> Iterator[tuple[str, str]]:
    """The parts of a topic's configuration that break a promise: the consequence, and what to set."""
    config = topic.config
    if config.get("unclean.leader.election.enable") == "true":
        detail = "a broker that lacks the newest records may become the leader, and the records are lost"
        yield detail, "set its unclean.leader.election.enable to false"
    enough = _number(config, "min.insync.replicas", 1)
    if topic.replication > 1 and enough < 2:
        detail = "accepts a record that only one broker has, and that is lost with the broker"
        yield detail, "set its min.insync.replicas to 2"
    if enough > topic.replication:
        detail = f"needs {enough} brokers in sync but is on {topic.replication}: it accepts no record"
        yield detail, f"set its min.insync.replicas to {max(1, topic.replication - 1)}"
    if topic.name == settings.topic_updates and config.get("cleanup.policy") == "compact":
        yield from _compaction(config)


def _compaction(config: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    least, most = 7 * _DAY_MS, 14 * _DAY_MS
    if _number(config, "min.compaction.lag.ms", 0) < least:
        detail = "a consumer that is away for less than a week may miss changes"
        yield detail, f"set its min.compaction.lag.ms to {least} (7 days)"
    if _number(config, "max.compaction.lag.ms", 2**63 - 1) > most:
        detail = "erased personal data may stay on it for longer than 14 days"
        yield detail, f"set its max.compaction.lag.ms to {most} (14 days)"


def _number(config: Mapping[str, str], name: str, default: int) -> int:
    value = config.get(name, "")
    return int(value) if value.lstrip("-").isdecimal() else default


def _layout(settings: Settings) -> Iterator[Finding]:
    """Whether the updates topic is still the one that the source published to."""
    if not settings.kafka or not getattr(settings, f"{settings.backend}_url"):
        return
    from ..relay.growth import progress_of
    from ..relay.guard import topic_problem
    from ..relay.loss import loss_of
    from ..relay.shards import about
    from ..stores import open_store

    with open_store(settings) as store:
        if store.pending_migrations():
            return
        problem = topic_problem(settings, store.facts)
        loss = loss_of(store.facts, settings.topic_updates)
        growth = progress_of(store.facts, settings.topic_updates)
        shards = about(store.facts, settings.topic_updates)
    if problem is not None:
        yield Finding("failed", "topic layout", str(problem), problem.fix)
    if loss is not None and (not loss.done or loss.age < _LOSS_IS_NEWS):
        fix = "rebuild each copy that stopped: custsvc replicate --rebuild" if loss.done else "custsvc relay"
        yield Finding("warning", "topic end", str(loss), fix)
    if growth is not None:
        yield Finding("warning", "topic growth", growth.detail, growth.fix)
    if shards is not None:
        state, detail = shards
        changes = state == "changing"
        yield Finding("warning" if changes else "ok", "relays", detail, "custsvc relay" if changes else "")


def _keeps_for_ever(topic: Topic) -> bool:
    return topic.config.get("retention.ms") == "-1" or "delete" not in topic.config.get("cleanup.policy", "")


def _mail(settings: Settings) -> Iterator[Finding]:
    if not settings.smtp_url:
        yield _unset("mail server", "smtp_url", "no mails are sent about changes")
        return
    from ..notify.channels.server import Server, Timeouts
    from ..notify.channels.smtp import SmtpTransport

    server = Server.parse(settings.smtp_url)
    refused = SmtpTransport(server, Timeouts(connect=5.0, command=5.0, greeting=5.0)).check()
    if refused:
        fix = "start it, or correct CUSTSVC_SMTP_URL; until then mails wait in the ledger"
        yield Finding("failed", "mail server", refused, fix)
        return
    how = {"smtp": "STARTTLS", "smtps": "TLS", "smtp+plain": "clear text"}[server.scheme]
    yield Finding("ok", "mail server", f"{server.address} accepts mails ({how})")


def _mails(store: Store) -> Iterator[Finding]:
    """Whether each waiting mail in the ledger has a reason to wait."""
    stuck = store.ledger.stuck()
    if stuck:
        # The mail after one that has just settled waits for a moment without a reason.
        time.sleep(1.0)
        stuck = min(stuck, store.ledger.stuck())
    if stuck:
        detail = f"{stuck} wait for a mail that does not precede them, or for a time too far in the future"
        yield Finding("warning", "mails", detail, "run custsvc notify: it frees them within a minute")
    else:
        yield Finding("ok", "mails", "each waiting mail has a reason to wait")


def _webhooks(store: Store) -> Iterator[Finding]:
    """Webhook endpoints that fail or are paused; nothing where none does."""
    for each in store.endpoints.all():
        check, name = f"webhook {each.id}", each.description or each.id
        if each.paused_on is not None:
            waiting = f"{store.ledger.waiting(each.channel):,} deliveries wait"
            yield Finding(
                "warning",
                check,
                f"{name} is paused, {waiting}: {each.paused_why}",
                f"repair the receiver, then custsvc webhooks resume {each.id}",
            )
        elif each.failing_since is not None:
            fix = f"look at its answers: custsvc webhooks log {each.id}"
            yield Finding("warning", check, f"{name} fails since {each.failing_since:%F %R} UTC", fix)


def _channels(store: Store, settings: Settings) -> Iterator[Finding]:
    """Channels that the rules no longer have although notifications wait for them."""
    from ..notify.rules import file as rulefile

    if rulefile.findings(settings):
        return  # reported by the check of the rules
    for channel, waiting in store.ledger.unserved(list(rulefile.load(settings).channels)).items():
        detail, fix = rulefile.lacks(settings, channel, waiting)
        yield Finding("warning", f"channel {channel}", detail, fix)


def _rules(settings: Settings) -> Iterator[Finding]:
    """Whether all rules and templates of notifications work with sample events."""
    from ..notify.rules import file as rulefile

    name = settings.notify_rules or "the built-in rules"
    problems = rulefile.findings(settings)
    for problem in problems:
        yield Finding("failed", "notification rules", str(problem), problem.fix)
    if not problems:
        yield Finding("ok", "notification rules", name)


def _files() -> Iterator[Finding]:
    """Files with secrets that all users of this machine can read."""
    for path in (Path(".env"), Path("custsvc.toml")):
        if path.is_file() and path.stat().st_mode & stat.S_IROTH and _holds_secret(path):
            detail = "has secrets, and all users of this machine can read it"
            yield Finding("warning", f"file {path}", detail, f"chmod 600 {path}")


def _holds_secret(path: Path) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace").lower()
    return any(each.secret and name in text for name, each in SETTINGS.items()) or "password" in text


def _disk(settings: Settings) -> Iterator[Finding]:
    """The free disk space for the embedded servers, if there are any."""
    if not settings.data_dir.is_dir():
        return
    free = shutil.disk_usage(settings.data_dir).free
    level: Level = "ok" if free > _DISK_MIN else "warning"
    fix = None if level == "ok" else f"free disk space; the data is in {settings.data_dir}"
    yield Finding(level, "disk", f"{free / 1024**3:,.1f} GiB free at {settings.data_dir}", fix)
