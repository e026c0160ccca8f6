"""Events as received: checks and decodes records of Kafka, which any producer may have written."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import orjson

from ..errors import BadEvent, NewerSchema
from .customers import EMAIL_MAX, INT64_MAX, METADATA_KEYS_MAX, NAME_MAX, PHONE_MAX, same_json
from .events import AFTER_MEMBER, APP_EVENT_TYPE, BULK, NEWEST_SCHEMA, SCHEMA
from .strict_json import parse_lenient_json


class ReceivedEvent(NamedTuple):
    """A checked event from the topic. `after` is parsed; `doc()` gives its bytes."""

    id: str
    op: str
    customer_id: int
    version: int
    changed: list[str]
    event_ts: str
    actor: str | None
    request_id: str | None
    said_before: dict[str, Any] | None
    after: dict[str, Any]
    value: bytes
    bulk: bool = False

    @property
    def before(self) -> dict[str, Any] | None:
        """`before_change`; a foreign producer may leave fields out of it. None if it is not a customer.

        It is checked only here, since copies do not use it.
        """
        said = self.said_before
        if said is None or any(type(said.get(name)) not in types for name, types in _BEFORE.items()):
            return None
        is_deep = self.value.count(b"[") + self.value.count(b"{") > _DEEP
        return None if is_deep and not _can_be_written(said) else said

    def doc(self) -> bytes:
        """The canonical bytes of `after_change`, as in the record.

        orjson reproduces its own output byte for byte, so with our own fields the parsed value is encoded
        again. With fields that we do not know, the bytes are cut out, as the last member of the record; a
        foreign producer's layout is converted to ours.
        """
        if tuple(self.after) == _NAMES:
            return orjson.dumps(self.after)
        start = self.value.rfind(AFTER_MEMBER) + len(AFTER_MEMBER) - 1
        doc = self.value[start:-1]
        try:
            if start >= len(AFTER_MEMBER) and orjson.loads(doc) == self.after:
                return doc
        except orjson.JSONDecodeError:
            pass
        return orjson.dumps({name: self.after[name] for name in _TYPES})


def stated_time(event_ts: str) -> float | None:
    """The time in an event, in seconds since 1970; None if it cannot be read.

    Ours are in UTC with milliseconds; a foreign producer may write another zone or any text.
    """
    try:
        time = dt.datetime.fromisoformat(event_ts)
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=dt.UTC)).timestamp()


def newest(events: Iterable[ReceivedEvent]) -> list[ReceivedEvent]:
    """The event with the highest version of each customer, by customer id."""
    found: dict[int, ReceivedEvent] = {}
    for event in events:
        known = found.get(event.customer_id)
        if known is None or event.version > known.version:
            found[event.customer_id] = event
    return [found[customer_id] for customer_id in sorted(found)]


def decode(value: bytes, key: bytes | None) -> ReceivedEvent:
    """Decode a record's value. Checks everything, since any producer may write to a topic.

    Raises BadEvent, with the reason, for a record that is not an event, and NewerSchema for an event of a
    newer custsvc.
    """
    event = _json_object(value)
    # Taken out first, so that events of a big import are checked by one look-up too.
    is_bulk = event.pop(BULK, None) is True
    if tuple(event) != _MEMBERS or tuple(map(type, event.values())) not in _EVENT_SHAPES:
        event = _in_our_layout(event)
    event_id, event_ts, _, op, customer_id, version, changed, actor, request_id, schema, before, after = (
        event.values()
    )
    if schema != SCHEMA:
        _check_schema(schema)
    if not 0 < customer_id <= INT64_MAX:
        raise BadEvent("bad-field", "customer_id is not a positive 64-bit number")
    if not 0 < version <= INT64_MAX:
        raise BadEvent("bad-field", "version is not a positive number")
    if op not in APP_EVENT_TYPE:
        raise BadEvent("bad-field", "op is not one of " + ", ".join(APP_EVENT_TYPE))
    if key != b"%d" % customer_id:
        raise BadEvent("bad-key", "the record's key is not its customer_id")
    if not _TEXT.issuperset(map(type, changed)):
        raise BadEvent("bad-field", "changed is not a list of field names")
    # Nearly no record has an escape: a search for one byte is ten times as fast as for six.
    after = _customer(after, may_hold_nul=b"\\" in value and b"\\u0000" in value)
    if not _PLAIN.issuperset(map(type, after["metadata"].values())):
        _check_numbers(after["metadata"], value)
    if after["id"] != customer_id or after["version"] != version:
        raise BadEvent("bad-field", "after_change has another id or version than the event")
    return ReceivedEvent(
        event_id,
        op,
        customer_id,
        version,
        changed,
        event_ts,
        actor,
        request_id,
        before,
        after,
        value,
        is_bulk,
    )


# The members of an event with their types.
_EVENT: Final[dict[str, tuple[type, ...]]] = {
    "id": (str,),
    "event_ts": (str,),
    "app_event_type": (int,),
    "op": (str,),
    "customer_id": (int,),
    "version": (int,),
    "changed": (list,),
    "actor": (str, type(None)),
    "request_id": (str, type(None)),
    "schema": (int,),
    "before_change": (dict, type(None)),
    "after_change": (dict,),
}
# Defaults of members that a foreign producer leaves out. `app_event_type` is not used.
_LEFT_OUT: Final[dict[str, Any]] = {
    "id": "",
    "event_ts": "",
    "changed": [],
    "actor": None,
    "request_id": None,
    "schema": SCHEMA,
    "before_change": None,
}
_MEMBERS: Final = tuple(_EVENT)
# The possible types of the members in our own order: one look-up checks nearly every record.
_EVENT_SHAPES: Final = frozenset(itertools.product(*_EVENT.values()))


def _in_our_layout(event: dict[str, Any]) -> dict[str, Any]:
    """An event with only our members, in our order. Raises BadEvent for missing members and wrong types."""
    _check_schema(event.get("schema", SCHEMA))
    ours = {name: event.get(name) for name in _MEMBERS} | {"app_event_type": 0}
    for name, default in _LEFT_OUT.items():
        if ours[name] is None:
            ours[name] = default
    for name, types in _EVENT.items():
        if type(ours[name]) not in types:
            raise BadEvent("bad-field", f"{name} is missing or of the wrong type")
    return ours


def _check_schema(schema: Any) -> None:
    if type(schema) is not int or schema < 1:
        raise BadEvent("bad-schema", "schema is not a positive number")
    if schema > NEWEST_SCHEMA:
        raise NewerSchema(
            f"an event has schema {schema}, this custsvc reads up to {NEWEST_SCHEMA}",
            fix="upgrade this role before the one that writes events",
        )


def _json_object(value: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        try:
            value.decode("utf-8")
        except UnicodeDecodeError:
            raise BadEvent("bad-utf8", "the value is not UTF-8") from exc
        raise BadEvent("bad-json", f"the value is not JSON: {exc}") from exc
    if not isinstance(event, dict):
        raise BadEvent("bad-json", "the value is not a JSON object")
    return event


_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "id": (int,),
    "name": (str,),
    "email": (str, type(None)),
    "phone": (str, type(None)),
    "metadata": (dict,),
    "deleted": (bool,),
    "version": (int,),
    "created_on": (str,),
    "created_by": (str,),
    "updated_on": (str,),
    "updated_by": (str,),
}


_NAMES: Final = tuple(_TYPES)
# The fields that are compared in `before_change`; each may be missing.
_BEFORE: Final = {name: (*_TYPES[name], type(None)) for name in ("name", "email", "phone", "metadata")}
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_PLAIN: Final = _SCALARS - {float}
_TEXT: Final = frozenset({str})
# The possible types of a customer's fields in our own order: one look-up checks nearly every record.
_SHAPES: Final = frozenset(itertools.product(*_TYPES.values()))


def _customer(customer: Any, *, may_hold_nul: bool) -> dict[str, Any]:
    if not isinstance(customer, dict):
        raise BadEvent("bad-field", "after_change is not a customer")
    if tuple(customer) != _NAMES or tuple(map(type, customer.values())) not in _SHAPES:
        for name, types in _TYPES.items():
            if type(customer.get(name, ...)) not in types:
                raise BadEvent("bad-field", f"after_change.{name} is missing or of the wrong type")
    _check_sizes(customer)
    if may_hold_nul:
        # Neither database can store NUL in text. JSON has only one escape for it.
        for name in _TYPES:
            if type(customer[name]) is str and "\0" in customer[name]:
                raise BadEvent("bad-field", f"after_change.{name} contains NUL")
    for name in ("created_on", "updated_on"):
        if not _is_time(customer[name]):
            raise BadEvent("bad-field", f"after_change.{name} is not a time like 2026-11-23T20:40:00.123Z")
    return customer


def _check_sizes(customer: dict[str, Any]) -> None:
    """Refuse longer fields than a customer can have, which may not fit an index, and too deep nesting."""
    metadata = customer["metadata"]
    if (
        len(customer["name"]) <= NAME_MAX
        and len(customer["email"] or "") <= EMAIL_MAX
        and len(customer["phone"] or "") <= PHONE_MAX
        and len(metadata) <= METADATA_KEYS_MAX
        and _SCALARS.issuperset(map(type, metadata.values()))
    ):
        return
    for name, most in (("name", NAME_MAX), ("email", EMAIL_MAX), ("phone", PHONE_MAX)):
        if len(customer[name] or "") > most:
            raise BadEvent("bad-field", f"after_change.{name} is longer than {most} characters")
    if len(metadata) > METADATA_KEYS_MAX:
        raise BadEvent("bad-field", f"after_change.metadata has more than {METADATA_KEYS_MAX} keys")
    if not _can_be_written(customer):
        raise BadEvent("too-deep", "after_change is nested too deep to be written again")


def _check_numbers(metadata: dict[str, Any], value: bytes) -> None:
    """Refuse numbers that orjson has read as others, which a foreign producer may have written."""
    try:
        if orjson.dumps(metadata) in value:
            return  # as we write it
        after = parse_lenient_json(value.decode())["after_change"]
        if same_json(metadata, after["metadata"]):
            return
    except (TypeError, ValueError, RecursionError):
        pass
    raise BadEvent("bad-field", "after_change.metadata has a number that a 64-bit float does not keep")


def _can_be_written(customer: dict[str, Any]) -> bool:
    """Whether orjson can write it, which refuses deep nesting."""
    try:
        orjson.dumps(customer)
    except TypeError:
        return False
    return True


# A value with fewer opening brackets than this is not nested too deep.
_DEEP: Final = 200


def _is_time(text: str) -> bool:
    # Check the places of the separators: Python also reads week dates, which databases do not.
    if len(text) != 24 or text[4:20:3] != "--T::." or text[23] != "Z":
        return False
    try:
        dt.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
