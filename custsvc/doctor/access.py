"""Checks of doctor: the rights of each role, unencrypted connections, and the growth of the history."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..config import Backend, Settings
from ..errors import ConfigurationError, CustsvcError
from ..ports.customers import CustomerQuery
from ..ports.rights import RoleName
from ..ports.store import Growth, Store
from ..runtime.links import elsewhere, kafka_in_clear, mail_in_clear
from .checks import Finding

_OF_SOURCE: Final[tuple[RoleName, ...]] = ("serve", "relay", "notify", "commands")
_OF_COPY: Final[tuple[RoleName, ...]] = ("replicate", "serve --read-only")
_PAGE: Final = "docs/permissions.md"
# Seconds. The changes of the first day, as by a first import, are no rate.
_YOUNG: Final = 86_400.0
_FULL_SOON: Final = 30.0


def rights(store: Store, settings: Settings) -> Iterator[Finding]:
    """Whether this account has the rights that the roles on this database need."""
    backend = store.name
    for role in _roles(settings) if backend == settings.backend else _OF_COPY:
        missing = store.lacking(role)
        if missing:
            detail = f"this account lacks {', '.join(missing)}"
            yield Finding("warning", f"{backend} rights of {role}", detail, f"grant them: {_PAGE}")
        else:
            yield Finding("ok", f"{backend} rights of {role}", "all that it needs")
    if store.may_migrate():
        yield Finding("ok", f"{backend} rights of migrate", "this account may change the schema")
    else:
        command = f"custsvc migrate --backend {backend}"
        detail = f"this account may not change the schema: after an upgrade run {command} as its owner"
        yield Finding("ok", f"{backend} rights of migrate", detail)


def _roles(settings: Settings) -> tuple[RoleName, ...]:
    """The roles on the system of record; one of them only if history is not kept for ever."""
    return (*_OF_SOURCE, "maintain") if settings.history_keep else _OF_SOURCE


def kafka_rights(settings: Settings) -> Iterator[Finding]:
    """Whether this account has the rights that the roles need on the topics."""
    from ..kafka import acls

    lacking = acls.lacking(settings)
    if lacking is None:
        yield Finding("ok", "kafka rights", "the broker does not report them")
        return
    for role, missing in lacking.items():
        if missing:
            detail = f"this account lacks {', '.join(missing)}"
            yield Finding("warning", f"kafka rights of {role}", detail, f"custsvc topics acls {role}")
    if not any(lacking.values()):
        yield Finding("ok", "kafka rights", "all that the roles need")


def link(store: Store) -> Iterator[Finding]:
    """Whether the connection to a database on another host is unencrypted."""
    hosts, encrypted = store.link()
    if not encrypted and (others := elsewhere(hosts)):
        backend: Backend = "postgres" if store.name == "postgres" else "mongo"
        how = "sslmode=verify-full" if backend == "postgres" else "tls=true"
        fix = f"add {how} to CUSTSVC_{backend.upper()}_URL"
        yield _in_clear(backend, others, fix)


def read_server(settings: Settings) -> Iterator[Finding]:
    """Whether the read server answers, follows this source, and has what reads need; nothing without one."""
    from ..stores import open_read_server, open_store

    if not getattr(settings, f"{settings.backend}_url"):
        return
    with open_store(settings) as store:
        server = open_read_server(settings, store)
        if server is None:
            return
        try:
            server.lag()
            with server.reading({}, 0.0) as customers:
                if customers is not None:
                    customers.find(CustomerQuery(limit=1))
        except CustsvcError as exc:
            fix = exc.fix or "start it; until then the source answers all reads"
            yield Finding("failed", "read server", str(exc), fix)
        else:
            yield Finding("ok", "read server", "it follows the source, and answers reads")
        finally:
            server.close()


def links(settings: Settings) -> Iterator[Finding]:
    """Whether the connections to Kafka and the mail server on other hosts are unencrypted."""
    if others := kafka_in_clear(settings):
        fix = "set CUSTSVC_KAFKA_OPTIONS__SECURITY_PROTOCOL to SSL or SASL_SSL"
        yield _in_clear("kafka", others, fix)
    if others := mail_in_clear(settings):
        yield _in_clear("mail server", others, "set CUSTSVC_SMTP_URL to smtp://… (STARTTLS) or smtps://…")


def _in_clear(what: str, hosts: list[str], fix: str) -> Finding:
    detail = f"customers are sent in clear text over the network to {', '.join(hosts)}"
    return Finding("warning", f"{what} link", detail, fix)


def growth(store: Store, keep: int | None) -> Iterator[Finding]:
    """The growth of a history kept for N days, and the days until the disk is full."""
    try:
        found = store.growth()
    except ConfigurationError:
        yield Finding("ok", f"{store.name} growth", "this account may not read it")
        return
    is_young = found.age is not None and found.age < _YOUNG
    if is_young:
        found = found._replace(per_day=None)
    days = days_left(found)
    detail = f"the history takes {_size(found.bytes)}"
    if found.changes:
        detail += f", {found.bytes / found.changes:,.0f} bytes a change"
    if found.per_day:
        detail += f"; recently {found.per_day:,.0f} changes a day"
    if is_young:
        detail += "; it is not a day old, so its growth is not known yet"
    if keep is not None and (levels := level(found, keep)) is not None:
        yield _levels_off(store.name, found, f"{detail}; kept for {keep} days, it levels off", levels)
        return
    if days is None:
        yield Finding("ok", f"{store.name} growth", detail)
        return
    detail += f"; at that rate its disk is full in {days:,.0f} days"
    soon = days < _FULL_SOON
    fix = "give it a bigger disk, or keep less: CUSTSVC_HISTORY_KEEP (docs/retention.md)" if soon else None
    yield Finding("warning" if soon else "ok", f"{store.name} growth", detail, fix)


def _levels_off(name: str, found: Growth, detail: str, levels: float) -> Finding:
    fits = found.free is None or levels < found.bytes + found.free
    fix = None if fits else "give it a bigger disk, or keep less: CUSTSVC_HISTORY_KEEP"
    return Finding("ok" if fits else "warning", f"{name} growth", f"{detail} near {_size(levels)}", fix)


def level(found: Growth, keep: int) -> float | None:
    """The size of the history at the current rate if replaced states stay for `keep` days; None if unknown.

    Above its size now if that is still less; what cannot go, as the newest events, is not counted.
    """
    if not found.changes or not found.per_day:
        return None
    return max(float(found.bytes), found.bytes / found.changes * found.per_day * keep)


def days_left(found: Growth) -> float | None:
    """Days until the disk is full at the current rate; None if unknown."""
    if found.free is None or not found.changes or not found.per_day:
        return None
    return found.free / (found.bytes / found.changes * found.per_day)


def _size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
